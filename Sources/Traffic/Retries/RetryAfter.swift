/// The field `Retry-After` (RFC 9110 section 10.2.3): seconds, or a date in one of the three forms of section 5.6.7.
package enum RetryAfter {
  /// Seconds to wait; nil when the value is not valid. `now` is seconds since 1970; a date that has passed gives 0.
  package static func seconds(_ value: UnsafeRawBufferPointer, now: Int64) -> Int64? {
    guard let first = value.first, value.count <= 40 else { return nil }
    guard first &- 48 < 10 else { return date(value).map { max(0, $0 - now) } }
    var seconds: Int64 = 0
    for octet in value {
      guard octet &- 48 < 10 else { return nil }
      seconds = min(seconds * 10 + Int64(octet - 48), 1 << 40)
    }
    return seconds
  }

  /// Seconds since 1970 of `Sun, 06 Nov 1994 08:49:37 GMT`, `Sunday, 06-Nov-94 08:49:37 GMT` or
  /// `Sun Nov  6 08:49:37 1994`; nil when it is none of them.
  package static func date(_ value: UnsafeRawBufferPointer) -> Int64? {
    let words = value.split(whereSeparator: { $0 == 0x20 || $0 == 0x2D || $0 == 0x2C }).map { Array($0) }
    guard let clock = words.firstIndex(where: { $0.contains(0x3A) }) else { return nil }
    let parts: (day: [UInt8], month: [UInt8], year: [UInt8])
    switch (words.count, clock) {
    case (6, 4) where words[5] == Array("GMT".utf8): parts = (words[1], words[2], words[3])
    case (5, 3): parts = (words[2], words[1], words[4])
    default: return nil
    }
    guard isDayName(words[0]), let month = months.firstIndex(where: { $0.elementsEqual(parts.month) }),
      let day = number(parts.day, 1...2), (1...31).contains(day), let year = year(parts.year),
      let time = time(words[clock])
    else { return nil }
    return days(year, month + 1, day) * 86_400 + time
  }

  private static let months = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
  ].map { Array($0.utf8) }

  private static func isDayName(_ word: [UInt8]) -> Bool {
    ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"].contains { name in
      word.elementsEqual(name.utf8) || word.elementsEqual(name.utf8.prefix(3))
    }
  }

  private static func number(_ word: some Collection<UInt8>, _ count: ClosedRange<Int>) -> Int64? {
    guard count.contains(word.count), word.allSatisfy({ $0 &- 48 < 10 }) else { return nil }
    return word.reduce(0) { $0 * 10 + Int64($1 - 48) }
  }

  /// Two digits are of the years 1970 to 2069.
  private static func year(_ word: [UInt8]) -> Int64? {
    if word.count == 2 { return number(word, 2...2).map { $0 < 70 ? 2000 + $0 : 1900 + $0 } }
    return number(word, 4...4)
  }

  private static func time(_ word: [UInt8]) -> Int64? {
    let parts = word.split(separator: 0x3A, omittingEmptySubsequences: false)
    guard parts.count == 3, let hour = number(parts[0], 2...2), let minute = number(parts[1], 2...2),
      let second = number(parts[2], 2...2), hour < 24, minute < 60, second <= 60
    else { return nil }
    return hour * 3600 + minute * 60 + second
  }

  /// Days from 1970-01-01 in the Gregorian calendar.
  private static func days(_ year: Int64, _ month: Int, _ day: Int64) -> Int64 {
    // Years that begin in March: the leap day is the last of its year.
    let year = month <= 2 ? year - 1 : year
    let era = (year >= 0 ? year : year - 399) / 400
    let yearOfEra = year - era * 400
    let dayOfYear = Int64((153 * (month > 2 ? month - 3 : month + 9) + 2) / 5) + day - 1
    return era * 146_097 + yearOfEra * 365 + yearOfEra / 4 - yearOfEra / 100 + dayOfYear - 719_468
  }
}
