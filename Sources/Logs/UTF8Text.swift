import CLinux

/// UTF-8 as Unicode defines it (table 3-7: no overlong forms, no surrogates, nothing above U+10FFFF).
package enum UTF8Text {
  package static func isValid(_ bytes: Bytes) -> Bool { firstInvalid(bytes, from: 0) == nil }

  /// The offset of the first byte that is not part of a well-formed sequence, or nil.
  package static func firstInvalid(_ bytes: Bytes, from start: Int) -> Int? {
    var index = start
    while index < bytes.count {
      index = outrider_ascii_end(bytes.baseAddress, index, bytes.count)
      guard index < bytes.count else { return nil }
      let length = sequenceLength(bytes, index)
      if length == 0 { return index }
      index &+= length
    }
    return nil
  }

  /// The length of the well-formed sequence at `index`, 0 when there is none.
  private static func sequenceLength(_ bytes: Bytes, _ index: Int) -> Int {
    let first = bytes[index]
    let length: Int
    var low: UInt8 = 0x80
    var high: UInt8 = 0xBF
    switch first {
    case 0x00...0x7F: return 1
    case 0xC2...0xDF: length = 2
    case 0xE0: (length, low) = (3, 0xA0)
    case 0xED: (length, high) = (3, 0x9F)
    case 0xE1...0xEF: length = 3
    case 0xF0: (length, low) = (4, 0x90)
    case 0xF1...0xF3: length = 4
    case 0xF4: (length, high) = (4, 0x8F)
    default: return 0
    }
    guard index + length <= bytes.count, bytes[index + 1] >= low, bytes[index + 1] <= high else { return 0 }
    for offset in 2..<max(2, length) where bytes[index + offset] & 0xC0 != 0x80 { return 0 }
    return length
  }

  /// Appends the bytes with each invalid one written `\xHH`, or `\\xHH` when the result stands in JSON already.
  package static func repair(_ bytes: Bytes, json: Bool, into arena: ByteArena) {
    var index = 0
    while let bad = firstInvalid(bytes, from: index) {
      arena.append(bytes.part(index..<bad))
      arena.append(json ? "\\\\x" : "\\x")
      arena.append(JSONText.hexDigit(of: bytes[bad] >> 4))
      arena.append(JSONText.hexDigit(of: bytes[bad] & 15))
      index = bad + 1
    }
    if index < bytes.count { arena.append(bytes.part(index..<bytes.count)) }
  }

  /// The largest offset up to `cut` that does not part a sequence.
  package static func boundary(_ bytes: Bytes, before cut: Int) -> Int {
    guard cut < bytes.count else { return cut }
    var index = cut
    while index > 0, cut - index < 4, bytes[index] & 0xC0 == 0x80 { index -= 1 }
    return bytes[index] & 0xC0 == 0x80 ? cut : index
  }
}
