/// Instants as nanoseconds since 1970-01-01T00:00:00Z, and their RFC 3339 spelling. Proleptic Gregorian calendar;
/// no leap seconds (`:60` is accepted and counts as the next second).
package enum LogTime {
  package struct Civil: Sendable, Equatable {
    package var year: Int, month: Int, day: Int, hour: Int, minute: Int, second: Int, nanosecond: Int
  }

  /// The UTC calendar reading of an instant.
  package static func civil(_ nanoseconds: Int64) -> Civil {
    let seconds = floorDivide(Int(nanoseconds), 1_000_000_000)
    let fraction = Int(nanoseconds) - seconds * 1_000_000_000
    let days = floorDivide(seconds, 86400)
    let rest = seconds - days * 86400
    // Days to civil date after H. Hinnant, "chrono-Compatible Low-Level Date Algorithms".
    let z = days + 719_468
    let era = floorDivide(z, 146_097)
    let doe = z - era * 146_097
    let yoe = (doe - doe / 1460 + doe / 36524 - doe / 146_096) / 365
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100)
    let mp = (5 * doy + 2) / 153
    let month = mp < 10 ? mp + 3 : mp - 9
    return Civil(
      year: yoe + era * 400 + (month <= 2 ? 1 : 0), month: month, day: doy - (153 * mp + 2) / 5 + 1,
      hour: rest / 3600, minute: rest % 3600 / 60, second: rest % 60, nanosecond: fraction)
  }

  private static func floorDivide(_ a: Int, _ b: Int) -> Int { a >= 0 ? a / b : -((-a + b - 1) / b) }

  static func days(year: Int, month: Int, day: Int) -> Int {
    let y = month <= 2 ? year - 1 : year
    let era = floorDivide(y, 400)
    let yoe = y - era * 400
    let doy = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1
    return era * 146_097 + yoe * 365 + yoe / 4 - yoe / 100 + doy - 719_468
  }

  /// `2026-01-31T12:00:00.000Z`; six or nine digits of the second when the instant has them.
  package static func format(_ nanoseconds: Int64) -> String {
    let c = civil(nanoseconds)
    let digits = c.nanosecond % 1_000_000 == 0 ? 3 : c.nanosecond % 1000 == 0 ? 6 : 9
    let fraction = digits == 3 ? c.nanosecond / 1_000_000 : digits == 6 ? c.nanosecond / 1000 : c.nanosecond
    return "\(pad(c.year, 4))-\(pad(c.month, 2))-\(pad(c.day, 2))T\(pad(c.hour, 2)):\(pad(c.minute, 2)):"
      + "\(pad(c.second, 2)).\(pad(fraction, digits))Z"
  }

  static func pad(_ number: Int, _ width: Int) -> String {
    let text = String(number)
    return text.utf8.count >= width ? text : String(repeating: "0", count: width - text.utf8.count) + text
  }

  /// Parses RFC 3339 (section 5.6; a space is accepted for `T`, a missing zone is not). Digits of the second beyond
  /// nine are dropped. Years 1678...2261 only, what 64 bits of nanoseconds hold.
  package static func parse(_ text: Bytes) -> Int64? {
    guard text.count >= 20, text.count <= 64, text[4] == 0x2D, text[7] == 0x2D, text[13] == 0x3A, text[16] == 0x3A,
      text[10] == 0x54 || text[10] == 0x74 || text[10] == 0x20,
      let year = number(text, 0, 4), let month = number(text, 5, 2), let day = number(text, 8, 2),
      let hour = number(text, 11, 2), let minute = number(text, 14, 2), let second = number(text, 17, 2),
      (1678...2261).contains(year), (1...12).contains(month), day >= 1, day <= daysIn(month, year),
      hour < 24, minute < 60, second <= 60
    else { return nil }
    var index = 19
    var fraction = 0
    if text[index] == 0x2E || text[index] == 0x2C {
      index += 1
      var digits = 0
      while index < text.count, (0x30...0x39).contains(text[index]) {
        if digits < 9 { fraction = fraction * 10 + Int(text[index] &- 0x30) }
        digits += 1
        index += 1
      }
      guard digits > 0 else { return nil }
      while digits < 9 {
        fraction *= 10
        digits += 1
      }
    }
    guard let offset = zone(text, index) else { return nil }
    let seconds = days(year: year, month: month, day: day) * 86400 + hour * 3600 + minute * 60 + second - offset
    return Int64(seconds * 1_000_000_000 + fraction)
  }

  private static func zone(_ text: Bytes, _ index: Int) -> Int? {
    guard index < text.count else { return nil }
    if text[index] == 0x5A || text[index] == 0x7A { return index + 1 == text.count ? 0 : nil }
    guard text[index] == 0x2B || text[index] == 0x2D, let hours = number(text, index + 1, 2), hours < 24 else {
      return nil
    }
    let sign = text[index] == 0x2B ? 1 : -1
    var at = index + 3
    if at < text.count, text[at] == 0x3A { at += 1 }
    guard at + 2 == text.count, let minutes = number(text, at, 2), minutes < 60 else { return nil }
    return sign * (hours * 3600 + minutes * 60)
  }

  static func daysIn(_ month: Int, _ year: Int) -> Int {
    switch month {
    case 2: (year % 4 == 0 && year % 100 != 0) || year % 400 == 0 ? 29 : 28
    case 4, 6, 9, 11: 30
    default: 31
    }
  }

  private static func number(_ text: Bytes, _ start: Int, _ length: Int) -> Int? {
    guard start + length <= text.count else { return nil }
    var value = 0
    for index in start..<start + length {
      guard (0x30...0x39).contains(text[index]) else { return nil }
      value = value * 10 + Int(text[index] &- 0x30)
    }
    return value
  }
}
