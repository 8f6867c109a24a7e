import Glibc

/// Which time of a record is its time.
package struct TimestampRule: Sendable, Equatable {
  /// nil: the fields that are known (`@timestamp timestamp time ts`), and the beginning of a text line.
  package var field: String?
  package var format: TimestampFormat
  package init(field: String? = nil, format: TimestampFormat) {
    self.field = field
    self.format = format
  }
}

/// How a time is written.
package struct TimestampFormat: Sendable, Equatable {
  package enum Zone: Sendable, Equatable {
    /// Seconds east of UTC.
    case fixed(Int)
    /// The host's, with its summer time.
    case local
  }
  private enum Step: Sendable, Equatable {
    case year, shortYear, month, monthName, day, dayOfYear, hour, hour12, half, minute, second, fraction, zone, zoneName
    case weekday, epoch, space
    case literal(UInt8)
  }
  private enum Kind: Sendable, Equatable {
    case rfc3339
    /// In units of so many a second.
    case epoch(Int)
    case steps([Step])
  }
  private let kind: Kind
  private let zone: Zone

  package static let words = ["rfc3339", "epoch", "epoch_ms", "epoch_us", "epoch_ns"]
  package static let rfc3339 = TimestampFormat(kind: .rfc3339, zone: .fixed(0))

  private init(kind: Kind, zone: Zone) {
    self.kind = kind
    self.zone = zone
  }

  /// One of `words`, or a text with strftime sequences; nil when it is neither. `zone` holds where the text names none.
  package init?(_ text: String, zone: Zone) {
    switch text {
    case "rfc3339": self.init(kind: .rfc3339, zone: zone)
    case "epoch": self.init(kind: .epoch(1), zone: zone)
    case "epoch_ms": self.init(kind: .epoch(1000), zone: zone)
    case "epoch_us": self.init(kind: .epoch(1_000_000), zone: zone)
    case "epoch_ns": self.init(kind: .epoch(1_000_000_000), zone: zone)
    default:
      guard text.contains("%"), text.utf8.count <= 256, let steps = Self.steps(Array(text.utf8)) else { return nil }
      self.init(kind: .steps(steps), zone: zone)
    }
  }

  /// The sequences of strftime(3) that a parser can use, and `%f`, `%L` and `%N` for the digits of a second.
  private static func steps(_ text: [UInt8]) -> [Step]? {
    var steps: [Step] = []
    var index = 0
    while index < text.count {
      defer { index += 1 }
      guard text[index] == 0x25 else {
        steps.append(text[index] == 0x20 ? .space : .literal(text[index]))
        continue
      }
      index += 1
      guard index < text.count else { return nil }
      switch UnicodeScalar(text[index]) {
      case "Y": steps.append(.year)
      case "y": steps.append(.shortYear)
      case "m": steps.append(.month)
      case "b", "B", "h": steps.append(.monthName)
      case "d", "e": steps.append(.day)
      case "j": steps.append(.dayOfYear)
      case "H", "k": steps.append(.hour)
      case "I", "l": steps.append(.hour12)
      case "p", "P": steps.append(.half)
      case "M": steps.append(.minute)
      case "S": steps.append(.second)
      case "f", "L", "N": steps.append(.fraction)
      case "z": steps.append(.zone)
      case "Z": steps.append(.zoneName)
      case "a", "A": steps.append(.weekday)
      case "s": steps.append(.epoch)
      case "n", "t": steps.append(.space)
      case "T": steps += [.hour, .literal(0x3A), .minute, .literal(0x3A), .second]
      case "R": steps += [.hour, .literal(0x3A), .minute]
      case "F": steps += [.year, .literal(0x2D), .month, .literal(0x2D), .day]
      case "D": steps += [.month, .literal(0x2F), .day, .literal(0x2F), .shortYear]
      case "%": steps.append(.literal(0x25))
      default: return nil
      }
    }
    return steps
  }

  /// The instant that the text begins with, in nanoseconds since 1970, and how many bytes tell it. `arrival` fills in
  /// the year, and the day, when the format has none.
  package func parse(_ text: Bytes, arrival: Int64) -> (time: Int64, length: Int)? {
    switch kind {
    case .rfc3339:
      var end = min(text.count, 19)
      while end < text.count, text[end].isNameOctet || [0x2E, 0x2C, 0x2B, 0x2D, 0x3A].contains(text[end]) { end += 1 }
      return LogTime.parse(text.part(0..<end)).map { ($0, end) }
    case .epoch(let units): return Self.epoch(text, units)
    case .steps(let steps):
      var reading = Reading(text: text)
      for step in steps where !reading.read(step) { return nil }
      return reading.instant(zone, arrival).map { ($0, reading.index) }
    }
  }

  /// The whole text must be the time.
  package func parseWhole(_ text: Bytes, arrival: Int64) -> Int64? {
    guard let (time, length) = parse(text, arrival: arrival), length == text.count else { return nil }
    return time
  }

  private static func epoch(_ text: Bytes, _ units: Int) -> (time: Int64, length: Int)? {
    var index = 0
    var whole = 0
    while index < text.count, text[index].isDigit, index < 19 {
      let (product, over) = whole.multipliedReportingOverflow(by: 10)
      guard !over, product <= Int.max - 9 else { return nil }
      whole = product + Int(text[index] - 0x30)
      index += 1
    }
    guard index > 0, index == text.count || !text[index].isDigit else { return nil }
    var nanoseconds = 0
    if index + 1 < text.count, text[index] == 0x2E, text[index + 1].isDigit {
      index += 1
      var scale = 1_000_000_000 / units / 10
      while index < text.count, text[index].isDigit {
        nanoseconds += Int(text[index] - 0x30) * scale
        scale /= 10
        index += 1
      }
    }
    let (product, over) = whole.multipliedReportingOverflow(by: 1_000_000_000 / units)
    guard !over else { return nil }
    let (sum, above) = product.addingReportingOverflow(nanoseconds)
    return above ? nil : (Int64(sum), index)
  }

  private struct Reading {
    let text: Bytes
    var index = 0
    var year: Int?
    var month: Int?
    var day: Int?
    var dayOfYear: Int?
    var hour = 0
    var isAfternoon: Bool?
    var minute = 0
    var second = 0
    var nanosecond = 0
    var offset: Int?
    var epoch: Int?

    init(text: Bytes) { self.text = text }

    /// Reads one step; false when the text does not have it.
    mutating func read(_ step: Step) -> Bool {
      switch step {
      case .monthName: month = name(Self.months).map { $0 + 1 }
      case .weekday: return name(Self.weekdays) != nil
      case .half: return half()
      case .fraction: return fraction()
      case .zone: return zone()
      case .zoneName: return zoneName()
      case .space: return space()
      case .literal(let byte): return take(byte)
      default: return number(step)
      }
      return month != nil
    }

    private mutating func number(_ step: Step) -> Bool {
      let value: Int?
      switch step {
      case .year:
        value = digits(4, 4, 1678...2261)
        year = value
      case .shortYear:
        value = digits(2, 2, 0...99)
        year = value.map { $0 + ($0 < 69 ? 2000 : 1900) }
      case .month:
        value = digits(1, 2, 1...12)
        month = value
      case .day:
        value = digits(1, 2, 1...31)
        day = value
      case .dayOfYear:
        value = digits(3, 3, 1...366)
        dayOfYear = value
      case .hour:
        value = digits(1, 2, 0...23)
        hour = value ?? 0
      case .hour12:
        value = digits(1, 2, 1...12)
        hour = (value ?? 0) % 12
      case .minute:
        value = digits(2, 2, 0...59)
        minute = value ?? 0
      case .second:
        value = digits(2, 2, 0...60)
        second = value ?? 0
      default:
        value = digits(1, 12, 0...999_999_999_999)
        epoch = value
      }
      return value != nil
    }

    private static let months = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
    private static let weekdays = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]

    private mutating func take(_ byte: UInt8) -> Bool {
      guard index < text.count, text[index] == byte else { return false }
      index += 1
      return true
    }

    private mutating func space() -> Bool {
      guard index < text.count, text[index] == 0x20 || text[index] == 0x09 else { return false }
      while index < text.count, text[index] == 0x20 || text[index] == 0x09 { index += 1 }
      return true
    }

    private mutating func digits(_ least: Int, _ most: Int, _ range: ClosedRange<Int>) -> Int? {
      var value = 0
      var count = 0
      // `%e` and `%k` may begin with a space.
      if least < most, index < text.count, text[index] == 0x20 { index += 1 }
      while index < text.count, count < most, text[index].isDigit {
        value = value * 10 + Int(text[index] - 0x30)
        count += 1
        index += 1
      }
      return count >= least && range.contains(value) ? value : nil
    }

    /// Looks at the first three letters and passes the whole word.
    private mutating func name(_ names: [String]) -> Int? {
      guard index + 3 <= text.count else { return nil }
      let word = text.part(index..<index + 3)
      let found = names.firstIndex { zip($0.utf8, word).allSatisfy { $0 == $1 | 0x20 } }
      guard let found else { return nil }
      while index < text.count, (0x61...0x7A).contains(text[index] | 0x20) { index += 1 }
      return found
    }

    private mutating func half() -> Bool {
      guard index + 2 <= text.count, text[index + 1] | 0x20 == 0x6D else { return false }
      let letter = text[index] | 0x20
      guard letter == 0x61 || letter == 0x70 else { return false }
      isAfternoon = letter == 0x70
      index += 2
      return true
    }

    private mutating func fraction() -> Bool {
      var scale = 100_000_000
      let start = index
      nanosecond = 0
      while index < text.count, text[index].isDigit {
        nanosecond += Int(text[index] - 0x30) * scale
        scale /= 10
        index += 1
      }
      return index > start
    }

    private mutating func zone() -> Bool {
      guard index < text.count else { return false }
      if text[index] | 0x20 == 0x7A {
        index += 1
        offset = 0
        return true
      }
      let sign = text[index] == 0x2B ? 1 : text[index] == 0x2D ? -1 : 0
      guard sign != 0 else { return false }
      index += 1
      guard let hours = digits(2, 2, 0...23) else { return false }
      if index < text.count, text[index] == 0x3A { index += 1 }
      guard let minutes = digits(2, 2, 0...59) else { return false }
      offset = sign * (hours * 3600 + minutes * 60)
      return true
    }

    /// Names other than UTC and GMT mean different things in different places: the rule's zone holds then.
    private mutating func zoneName() -> Bool {
      let start = index
      while index < text.count, (0x61...0x7A).contains(text[index] | 0x20) { index += 1 }
      let word = text.part(start..<index)
      if word.equals("UTC") || word.equals("GMT") || word.equals("Z") { offset = 0 }
      return index > start
    }

    func instant(_ zone: Zone, _ arrival: Int64) -> Int64? {
      if let epoch { return Self.nanoseconds(epoch, nanosecond) }
      let hour = isAfternoon.map { self.hour % 12 + ($0 ? 12 : 0) } ?? self.hour
      let now = LogTime.civil(arrival)
      if let year { return instant(year, hour, zone) }
      guard month != nil else { return instant(now.year, hour, zone, now) }
      // A date without its year is the one nearest to the arrival: December's lines come in January too.
      let candidates = [now.year - 1, now.year, now.year + 1].compactMap { instant($0, hour, zone) }
      return candidates.min { distance($0, arrival) < distance($1, arrival) }
    }

    private func distance(_ a: Int64, _ b: Int64) -> UInt64 { a > b ? UInt64(a - b) : UInt64(b - a) }

    private func instant(_ year: Int, _ hour: Int, _ zone: Zone, _ now: LogTime.Civil? = nil) -> Int64? {
      guard (1678...2261).contains(year) else { return nil }
      let month = month ?? now?.month ?? 1
      let day = day ?? now?.day ?? 1
      guard day <= LogTime.daysIn(month, year) else { return nil }
      var seconds = LogTime.days(year: year, month: month, day: day) * 86400 + hour * 3600 + minute * 60 + second
      if let dayOfYear {
        seconds =
          (LogTime.days(year: year, month: 1, day: 1) + dayOfYear - 1) * 86400 + hour * 3600 + minute * 60 + second
      }
      if let offset { return Self.nanoseconds(seconds - offset, nanosecond) }
      switch zone {
      case .fixed(let offset): return Self.nanoseconds(seconds - offset, nanosecond)
      case .local: return Self.nanoseconds(Self.local(seconds), nanosecond)
      }
    }

    /// `seconds` are read as the host's wall clock shows them.
    private static func local(_ seconds: Int) -> Int {
      let c = LogTime.civil(Int64(seconds) * 1_000_000_000)
      var parts = tm()
      parts.tm_year = Int32(c.year - 1900)
      parts.tm_mon = Int32(c.month - 1)
      parts.tm_mday = Int32(c.day)
      parts.tm_hour = Int32(c.hour)
      parts.tm_min = Int32(c.minute)
      parts.tm_sec = Int32(c.second)
      parts.tm_isdst = -1
      return mktime(&parts)
    }

    private static func nanoseconds(_ seconds: Int, _ fraction: Int) -> Int64? {
      let (product, over) = seconds.multipliedReportingOverflow(by: 1_000_000_000)
      let (sum, above) = product.addingReportingOverflow(fraction)
      return over || above ? nil : Int64(sum)
    }
  }
}
