/// Checks JSON (RFC 8259) where it stands, without building anything. Strict: no comments, no trailing commas, no
/// leading zeros, no control characters in strings. Nesting is bounded. UTF-8 is checked apart (`UTF8Text`).
package struct JSONScanner {
  /// Arrays and objects within each other; deeper text is rejected.
  package static let maximumDepth = 256

  private let bytes: Bytes
  package private(set) var index: Int

  package init(_ bytes: Bytes, from index: Int = 0) {
    self.bytes = bytes
    self.index = index
  }

  /// True for one JSON value of any kind with nothing but whitespace around it, in valid UTF-8.
  package static func isValid(_ bytes: Bytes) -> Bool {
    guard UTF8Text.isValid(bytes) else { return false }
    var scanner = JSONScanner(bytes)
    scanner.skipSpace()
    guard scanner.value(depth: 0) else { return false }
    scanner.skipSpace()
    return scanner.index == bytes.count
  }

  /// Checks that the bytes are one JSON object and calls `visit` for each of its own members, in order, with the range
  /// of the key (without quotes, as written), and of the value. Returns the range between the outer braces, or nil.
  package static func object(_ bytes: Bytes, _ visit: (Range<Int>, Range<Int>) -> Void) -> Range<Int>? {
    var scanner = JSONScanner(bytes)
    scanner.skipSpace()
    guard scanner.index < bytes.count, bytes[scanner.index] == 0x7B else { return nil }
    let start = scanner.index + 1
    guard scanner.members(depth: 1, visit) else { return nil }
    let end = scanner.index - 1
    scanner.skipSpace()
    return scanner.index == bytes.count ? start..<end : nil
  }

  /// Checks that the bytes are one JSON array and calls `visit` with the range of each element; false when they are not.
  package static func array(_ bytes: Bytes, _ visit: (Range<Int>) -> Void) -> Bool {
    var scanner = JSONScanner(bytes)
    scanner.skipSpace()
    guard scanner.take(0x5B) else { return false }
    guard scanner.elements(depth: 1, visit) else { return false }
    scanner.skipSpace()
    return scanner.index == bytes.count
  }

  /// The end of the JSON value that begins at `start`; nil when none does.
  package static func valueEnd(_ bytes: Bytes, from start: Int) -> Int? {
    var scanner = JSONScanner(bytes, from: start)
    return scanner.value(depth: 0) ? scanner.index : nil
  }

  @inline(__always)
  private mutating func skipSpace() {
    while index < bytes.count {
      let byte = bytes[index]
      guard byte <= 0x20, byte == 0x20 || byte == 0x0A || byte == 0x09 || byte == 0x0D else { return }
      index &+= 1
    }
  }

  @inline(__always)
  private mutating func take(_ byte: UInt8) -> Bool {
    guard index < bytes.count, bytes[index] == byte else { return false }
    index &+= 1
    return true
  }

  private mutating func value(depth: Int) -> Bool {
    guard index < bytes.count, depth <= Self.maximumDepth else { return false }
    switch bytes[index] {
    case 0x7B: return members(depth: depth + 1) { _, _ in }
    case 0x5B:
      index += 1
      return elements(depth: depth + 1) { _ in }
    case 0x22: return string()
    case 0x74: return word("true")
    case 0x66: return word("false")
    case 0x6E: return word("null")
    default: return number()
    }
  }

  private mutating func members(depth: Int, _ visit: (Range<Int>, Range<Int>) -> Void) -> Bool {
    index += 1
    skipSpace()
    if take(0x7D) { return true }
    while true {
      let key = index
      guard index < bytes.count, bytes[index] == 0x22, string() else { return false }
      let keyEnd = index
      skipSpace()
      guard take(0x3A) else { return false }
      skipSpace()
      let start = index
      guard value(depth: depth) else { return false }
      visit(key + 1..<keyEnd - 1, start..<index)
      skipSpace()
      if take(0x7D) { return true }
      guard take(0x2C) else { return false }
      skipSpace()
    }
  }

  private mutating func elements(depth: Int, _ visit: (Range<Int>) -> Void) -> Bool {
    skipSpace()
    if take(0x5D) { return true }
    while true {
      let start = index
      guard value(depth: depth) else { return false }
      visit(start..<index)
      skipSpace()
      if take(0x5D) { return true }
      guard take(0x2C) else { return false }
      skipSpace()
    }
  }

  private mutating func word(_ text: StaticString) -> Bool {
    let end = index + text.utf8CodeUnitCount
    guard end <= bytes.count, bytes.part(index..<end).equals(text) else { return false }
    index = end
    return true
  }

  private mutating func number() -> Bool {
    _ = take(0x2D)
    if take(0x30) {
    } else {
      guard digits() else { return false }
    }
    if take(0x2E) { guard digits() else { return false } }
    if index < bytes.count, bytes[index] | 0x20 == 0x65 {
      index += 1
      if !take(0x2B) { _ = take(0x2D) }
      guard digits() else { return false }
    }
    return true
  }

  private mutating func digits() -> Bool {
    let start = index
    while index < bytes.count, bytes[index] &- 0x30 <= 9 { index &+= 1 }
    return index > start
  }

  /// Moves behind a string; most have no escape.
  @inline(__always)
  private mutating func string() -> Bool {
    index = JSONText.plainEnd(bytes, from: index &+ 1)
    if index < bytes.count, bytes[index] == 0x22 {
      index &+= 1
      return true
    }
    return escapedString()
  }

  /// The same from the first byte on that is not plain.
  private mutating func escapedString() -> Bool {
    while true {
      guard index < bytes.count else { return false }
      let byte = bytes[index]
      index &+= 1
      if byte == 0x22 { return true }
      guard byte == 0x5C, index < bytes.count else { return false }
      let escape = bytes[index]
      index &+= 1
      switch escape {
      case 0x22, 0x5C, 0x2F, 0x62, 0x66, 0x6E, 0x72, 0x74: break
      case 0x75:
        guard index + 4 <= bytes.count else { return false }
        for offset in 0..<4 where JSONText.hexDigit(bytes[index + offset]) == nil { return false }
        index &+= 4
      default: return false
      }
      index = JSONText.plainEnd(bytes, from: index)
    }
  }
}
