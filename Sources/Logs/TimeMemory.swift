/// Reads and writes the times of records, of which one is much like the next: what is the same up to the second is worked
/// out once. Owned by one thread.
struct TimeMemory {
  /// `2026-01-31T12:00:00`
  private static let secondLength = 19
  /// The longest that `write` makes: `2026-01-31T12:00:00.123456789Z`.
  static let longest = 32

  private var readText: (UInt64, UInt64, UInt64) = (0, 0, 0)
  /// Nanoseconds of `readText`, were it in UTC.
  private var readSecond: Int64?
  private var written: Int64?
  private var writtenText: (UInt64, UInt64, UInt64) = (0, 0, 0)

  /// What `LogTime.parse` makes of the text.
  mutating func parse(_ text: Bytes) -> Int64? {
    // Only `…:SS.fff…Z` is short-cut: everything else goes the long way.
    guard text.count > Self.secondLength + 1, text.count <= 30, text[text.count - 1] == 0x5A, text[19] == 0x2E else {
      return LogTime.parse(text)
    }
    let head = (text.integer(at: 0, as: UInt64.self), text.integer(at: 8, as: UInt64.self), tail(text))
    guard let second = readSecond, head == readText else {
      guard let time = LogTime.parse(text) else { return nil }
      readText = head
      readSecond = time - time.floored(1_000_000_000)
      return time
    }
    var fraction: Int64 = 0
    var index = Self.secondLength + 1
    guard index < text.count - 1 else { return nil }
    while index < text.count - 1 {
      let digit = text[index] &- 0x30
      guard digit <= 9 else { return nil }
      fraction = fraction &* 10 &+ Int64(digit)
      index &+= 1
    }
    while index < Self.secondLength + 10 {
      fraction = fraction &* 10
      index &+= 1
    }
    return second + fraction
  }

  /// The bytes 16, 17 and 18 of the text.
  private func tail(_ text: Bytes) -> UInt64 { UInt64(text[16]) | UInt64(text[17]) << 8 | UInt64(text[18]) << 16 }

  /// Appends what `LogTime.format` makes of the instant.
  mutating func write(_ time: Int64, into arena: ByteArena) {
    guard time > .min + 1_000_000_000 else {
      arena.append(text: LogTime.format(time))
      return
    }
    let fraction = time.floored(1_000_000_000)
    let second = time - fraction
    if written != second {
      // Years of more digits than four do not occur in 64 bits of nanoseconds.
      var text = LogTime.format(second)
      writtenText = text.withUTF8 { utf8 in
        let bytes = Bytes(utf8)
        return (bytes.integer(at: 0), bytes.integer(at: 8), tail(bytes))
      }
      written = second
    }
    let place = arena.reserve(Self.longest)
    place.storeBytes(of: writtenText.0.littleEndian, as: UInt64.self)
    (place + 8).storeBytes(of: writtenText.1.littleEndian, as: UInt64.self)
    (place + 16).storeBytes(of: writtenText.2.littleEndian, as: UInt64.self)
    (place + 19).storeBytes(of: 0x2E, as: UInt8.self)
    let digits = fraction % 1_000_000 == 0 ? 3 : fraction % 1000 == 0 ? 6 : 9
    var rest = digits == 3 ? fraction / 1_000_000 : digits == 6 ? fraction / 1000 : fraction
    for offset in stride(from: 19 + digits, to: 19, by: -1) {
      (place + offset).storeBytes(of: 0x30 &+ UInt8(truncatingIfNeeded: rest % 10), as: UInt8.self)
      rest /= 10
    }
    (place + 20 + digits).storeBytes(of: 0x5A, as: UInt8.self)
    arena.advance(21 + digits)
  }
}

extension Int64 {
  /// The remainder that is not negative.
  fileprivate func floored(_ divisor: Int64) -> Int64 {
    let rest = self % divisor
    return rest < 0 ? rest + divisor : rest
  }
}
