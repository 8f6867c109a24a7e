/// Durations as configuration writes them: a whole number and one of `ms s m h`, for example `250ms`; `0` alone is zero.
package enum DurationText {
  package static func parse(_ text: String) -> Duration? {
    if text == "0" { return .zero }
    let digits = text.prefix { $0.isASCII && $0.isNumber }
    guard let number = Int64(digits), number <= 1_000_000_000 else { return nil }
    switch text.dropFirst(digits.count) {
    case "ms": return .milliseconds(number)
    case "s": return .seconds(number)
    case "m": return .seconds(number * 60)
    case "h": return .seconds(number * 3600)
    default: return nil
    }
  }

  /// The shortest exact spelling, down to milliseconds.
  package static func format(_ duration: Duration) -> String {
    let milliseconds = duration.inMilliseconds
    if milliseconds == 0 { return "0s" }
    if milliseconds % 3_600_000 == 0 { return "\(milliseconds / 3_600_000)h" }
    if milliseconds % 60_000 == 0 { return "\(milliseconds / 60_000)m" }
    if milliseconds % 1000 == 0 { return "\(milliseconds / 1000)s" }
    return "\(milliseconds)ms"
  }
}

extension Duration {
  /// Whole milliseconds, rounded towards zero; within 292 million years.
  package var inMilliseconds: Int64 {
    let (seconds, attoseconds) = components
    return seconds * 1000 + attoseconds / 1_000_000_000_000_000
  }

  /// Whole nanoseconds, rounded towards zero; beyond 292 years either way the nearest that fits.
  package var inNanoseconds: Int64 {
    let (seconds, attoseconds) = components
    let (whole, overflow) = seconds.multipliedReportingOverflow(by: 1_000_000_000)
    let (sum, above) = whole.addingReportingOverflow(attoseconds / 1_000_000_000)
    return overflow || above ? (seconds < 0 ? .min : .max) : sum
  }
}

/// Sizes in bytes as configuration writes them: a whole number alone or with `B KiB MiB GiB`.
package enum ByteCountText {
  package static func parse(_ text: String) -> Int? {
    let digits = text.prefix { $0.isASCII && $0.isNumber }
    guard let number = Int(digits) else { return nil }
    let unit: Int
    switch text.dropFirst(digits.count) {
    case "", "B": unit = 1
    case "KiB": unit = 1 << 10
    case "MiB": unit = 1 << 20
    case "GiB": unit = 1 << 30
    default: return nil
    }
    let (product, overflow) = number.multipliedReportingOverflow(by: unit)
    return overflow ? nil : product
  }

  package static func format(_ bytes: Int) -> String {
    for (unit, name) in [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")]
    where bytes != 0 && bytes % unit == 0 { return "\(bytes / unit)\(name)" }
    return "\(bytes)"
  }
}

/// A part of a whole: `0.25` or `25%`, from 0 to 1 and from 0 to 100 percent.
package enum FractionText {
  package static func parse(_ text: String) -> Double? {
    let isPercent = text.hasSuffix("%")
    let digits = isPercent ? text.dropLast() : text[...]
    guard digits.utf8.first != 0x2E, digits.utf8.allSatisfy({ $0 &- 0x30 < 10 || $0 == 0x2E }),
      let number = Double(digits), number <= (isPercent ? 100 : 1)
    else { return nil }
    return isPercent ? number / 100 : number
  }
}
