/// Where some octets lie inside a received head; offsets count from the head's first octet.
package struct OctetRange: Sendable, Equatable {
  package var start: Int
  package var count: Int
  @inlinable
  package var end: Int { start + count }

  @inlinable
  package init(_ start: Int, _ count: Int) {
    self.start = start
    self.count = count
  }

  package static let empty = OctetRange(0, 0)

  /// The octets themselves; `bytes` is the head that was parsed.
  @inlinable @inline(__always)
  package func of(_ bytes: UnsafeRawBufferPointer) -> UnsafeRawBufferPointer {
    UnsafeRawBufferPointer(rebasing: bytes[start..<(start + count)])
  }
}

/// Octet classes of RFC 9110 and comparisons that ignore ASCII case.
package enum Octets {
  package static let carriageReturn: UInt8 = 13
  package static let lineFeed: UInt8 = 10
  package static let space: UInt8 = 32
  package static let tab: UInt8 = 9

  /// `tchar` of RFC 9110 section 5.6.2.
  @inlinable @inline(__always)
  package static func isToken(_ octet: UInt8) -> Bool {
    if octet < 64 { return (0x03ff_6cfa_0000_0000 as UInt64) >> UInt64(octet) & 1 == 1 }
    if octet < 128 { return (0x57ff_ffff_c7ff_fffe as UInt64) >> UInt64(octet &- 64) & 1 == 1 }
    return false
  }

  @inlinable @inline(__always)
  package static func lowercased(_ octet: UInt8) -> UInt8 {
    octet &- 65 < 26 ? octet | 0x20 : octet
  }

  /// True when both hold the same text but for ASCII case. `lowercase` must already be lower case.
  @inlinable @inline(__always)
  package static func equal(_ bytes: UnsafeRawBufferPointer, ignoringCase lowercase: StaticString) -> Bool {
    guard bytes.count == lowercase.utf8CodeUnitCount else { return false }
    let expected = lowercase.utf8Start
    var index = 0
    while index < bytes.count {
      if lowercased(bytes[index]) != expected[index] { return false }
      index &+= 1
    }
    return true
  }

  package static func equal(_ left: UnsafeRawBufferPointer, ignoringCase right: UnsafeRawBufferPointer) -> Bool {
    guard left.count == right.count else { return false }
    var index = 0
    while index < left.count {
      if lowercased(left[index]) != lowercased(right[index]) { return false }
      index &+= 1
    }
    return true
  }

  /// True when a field name is that one but for ASCII case. `name` holds token octets only, `lowercase` letters and
  /// dashes: then one bit tells the cases apart, and eight octets are compared at a time.
  @inline(__always)
  static func isName(_ name: UnsafeRawBufferPointer, _ lowercase: StaticString) -> Bool {
    let count = lowercase.utf8CodeUnitCount
    guard name.count == count else { return false }
    let expected = UnsafeRawPointer(lowercase.utf8Start)
    if count < 8 {
      var index = 0
      while index < count {
        if name[index] | 0x20 != expected.load(fromByteOffset: index, as: UInt8.self) { return false }
        index &+= 1
      }
      return true
    }
    var index = 0
    while true {
      let word = name.loadUnaligned(fromByteOffset: index, as: UInt64.self) | 0x2020_2020_2020_2020
      if word != expected.loadUnaligned(fromByteOffset: index, as: UInt64.self) { return false }
      if index == count &- 8 { return true }
      index = min(index &+ 8, count &- 8)
    }
  }

  /// True for `keep-alive` in any case, the commonest of all Connection values.
  @inline(__always)
  static func isKeepAlive(_ value: UnsafeRawBufferPointer) -> Bool {
    value.count == 10 && equal(value, ignoringCase: "keep-alive")
  }

  /// The offset of the first octet at or after `start` that may not stand in a field name. Letters and dashes are
  /// looked at eight at a time; `bytes` must hold an octet that ends the name.
  @inline(__always)
  static func endOfName(_ bytes: UnsafeRawBufferPointer, from start: Int) -> Int {
    var position = start
    while true {
      if position &+ 8 <= bytes.count {
        let word = bytes.loadUnaligned(fromByteOffset: position, as: UInt64.self).littleEndian
        let high: UInt64 = 0x8080_8080_8080_8080
        let lower = word | 0x2020_2020_2020_2020
        // Octets below 0x80: a carry out of a higher one only reaches octets behind it.
        let letters = (lower &+ 0x1f1f_1f1f_1f1f_1f1f) & ~(lower &+ 0x0505_0505_0505_0505)
        let dashes = ~((word ^ 0x2d2d_2d2d_2d2d_2d2d) &+ 0x7f7f_7f7f_7f7f_7f7f)
        let others = (~(letters | dashes) | word) & high
        if others == 0 {
          position &+= 8
          continue
        }
        position &+= others.trailingZeroBitCount >> 3
      }
      if !isToken(bytes[position]) { return position }
      position &+= 1
    }
  }

  /// The offset of the first octet at or after `start` that may not stand in a field value: a control other than
  /// HTAB. Looks at eight octets at a time.
  @inlinable @inline(__always)
  package static func endOfValue(_ bytes: UnsafeRawBufferPointer, from start: Int) -> Int {
    var position = start
    while true {
      while position &+ 8 <= bytes.count {
        let word = bytes.loadUnaligned(fromByteOffset: position, as: UInt64.self)
        // A high bit for every octet below 0x20, and for every 0x7F.
        let controls = (word &- 0x2020_2020_2020_2020) & ~word & 0x8080_8080_8080_8080
        let flipped = word ^ 0x7f7f_7f7f_7f7f_7f7f
        let deletes = (flipped &- 0x0101_0101_0101_0101) & ~flipped & 0x8080_8080_8080_8080
        let hits = controls | deletes
        if hits != 0 {
          position &+= hits.littleEndian.trailingZeroBitCount >> 3
          break
        }
        position &+= 8
      }
      while position < bytes.count {
        let octet = bytes[position]
        if octet < 32 && octet != 9 || octet == 127 { return position }
        position &+= 1
        if octet == 9 { break }
      }
      if position >= bytes.count { return bytes.count }
    }
  }
}
