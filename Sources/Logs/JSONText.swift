import CLinux

/// Strings as JSON writes them.
package enum JSONText {
  /// The offset of the first quote, backslash or control character at or after `start`, or the end.
  @inline(__always)
  package static func plainEnd(_ bytes: Bytes, from start: Int) -> Int {
    guard let base = bytes.baseAddress, start < bytes.count else { return start }
    return outrider_plain_end(base, start, bytes.count)
  }

  /// Appends `bytes`, which must be valid UTF-8, as the inside of a JSON string (RFC 8259 section 7).
  package static func escape(_ bytes: Bytes, into arena: ByteArena) {
    var index = 0
    while true {
      let end = plainEnd(bytes, from: index)
      if end > index { arena.append(bytes.part(index..<end)) }
      guard end < bytes.count else { return }
      escape(byte: bytes[end], into: arena)
      index = end + 1
    }
  }

  private static func escape(byte: UInt8, into arena: ByteArena) {
    arena.append(0x5C as UInt8)
    switch byte {
    case 0x22, 0x5C: arena.append(byte)
    case 0x0A: arena.append(UInt8(ascii: "n"))
    case 0x0D: arena.append(UInt8(ascii: "r"))
    case 0x09: arena.append(UInt8(ascii: "t"))
    case 0x08: arena.append(UInt8(ascii: "b"))
    case 0x0C: arena.append(UInt8(ascii: "f"))
    default:
      arena.append("u00")
      arena.append(hexDigit(of: byte >> 4))
      arena.append(hexDigit(of: byte & 15))
    }
  }

  /// A lower-case hexadecimal digit of 0...15.
  @inline(__always)
  static func hexDigit(of value: UInt8) -> UInt8 { value < 10 ? 0x30 &+ value : 0x57 &+ value }

  /// The text as a JSON string with its quotes.
  package static func quoted(_ text: String) -> [UInt8] {
    let arena = ByteArena(capacity: text.utf8.count + 16)
    arena.append(0x22 as UInt8)
    var text = text
    text.withUTF8 { escape(Bytes($0), into: arena) }
    arena.append(0x22 as UInt8)
    return Array(arena.bytes)
  }

  @inline(__always)
  package static func hexDigit(_ byte: UInt8) -> UInt16? {
    switch byte {
    case 0x30...0x39: UInt16(byte &- 0x30)
    case 0x41...0x46: UInt16(byte &- 0x37)
    case 0x61...0x66: UInt16(byte &- 0x57)
    default: nil
    }
  }

  /// Appends what the inside of a valid JSON string stands for; lone surrogates become U+FFFD.
  package static func unescape(_ bytes: Bytes, into arena: ByteArena) {
    var index = 0
    while let slash = bytes.firstOffset(of: 0x5C, from: index), slash + 1 < bytes.count {
      arena.append(bytes.part(index..<slash))
      index = slash + 2
      switch bytes[slash + 1] {
      case UInt8(ascii: "n"): arena.append(0x0A as UInt8)
      case UInt8(ascii: "r"): arena.append(0x0D as UInt8)
      case UInt8(ascii: "t"): arena.append(0x09 as UInt8)
      case UInt8(ascii: "b"): arena.append(0x08 as UInt8)
      case UInt8(ascii: "f"): arena.append(0x0C as UInt8)
      case UInt8(ascii: "u"): index = unicode(bytes, slash + 2, into: arena)
      case let other: arena.append(other)
      }
    }
    if index < bytes.count { arena.append(bytes.part(index..<bytes.count)) }
  }

  private static func unit(_ bytes: Bytes, _ start: Int) -> UInt16? {
    guard start + 4 <= bytes.count else { return nil }
    var value: UInt16 = 0
    for offset in 0..<4 {
      guard let digit = hexDigit(bytes[start + offset]) else { return nil }
      value = value << 4 | digit
    }
    return value
  }

  private static func unicode(_ bytes: Bytes, _ start: Int, into arena: ByteArena) -> Int {
    guard let high = unit(bytes, start) else { return start }
    var scalar = Unicode.Scalar(UInt32(high)) ?? "\u{FFFD}"
    var next = start + 4
    if (0xD800...0xDBFF).contains(high), next + 6 <= bytes.count, bytes[next] == 0x5C, bytes[next + 1] == 0x75,
      let low = unit(bytes, next + 2), (0xDC00...0xDFFF).contains(low)
    {
      let code = 0x10000 + (UInt32(high) - 0xD800) << 10 + (UInt32(low) - 0xDC00)
      scalar = Unicode.Scalar(code) ?? "\u{FFFD}"
      next += 6
    }
    for byte in UTF8.encode(scalar) ?? UTF8.encodedReplacementCharacter { arena.append(byte) }
    return next
  }

  /// What a JSON string value (with its quotes) stands for; nil when it is no string.
  package static func string(_ value: Bytes) -> String? {
    guard value.count >= 2, value[0] == 0x22 else { return nil }
    let inner = value.part(1..<value.count - 1)
    if inner.firstOffset(of: 0x5C) == nil { return inner.text }
    let arena = ByteArena(capacity: inner.count)
    unescape(inner, into: arena)
    return arena.bytes.text
  }
}
