package enum UTF8Octets {
  /// Well-formed UTF-8 (Unicode 15, table 3-7).
  package static func isText(_ bytes: UnsafeRawBufferPointer) -> Bool {
    var at = 0
    while at < bytes.count {
      let lead = bytes[at]
      let (length, low, high): (Int, UInt8, UInt8)
      switch lead {
      case 0..<0x80: (length, low, high) = (1, 0, 0)
      case 0xC2...0xDF: (length, low, high) = (2, 0x80, 0xBF)
      case 0xE0: (length, low, high) = (3, 0xA0, 0xBF)
      case 0xED: (length, low, high) = (3, 0x80, 0x9F)
      case 0xE1...0xEF: (length, low, high) = (3, 0x80, 0xBF)
      case 0xF0: (length, low, high) = (4, 0x90, 0xBF)
      case 0xF1...0xF3: (length, low, high) = (4, 0x80, 0xBF)
      case 0xF4: (length, low, high) = (4, 0x80, 0x8F)
      default: return false
      }
      guard at + length <= bytes.count else { return false }
      if length > 1 {
        guard (low...high).contains(bytes[at + 1]),
          bytes[(at + 2)..<(at + length)].allSatisfy({ (0x80...0xBF).contains($0) })
        else { return false }
      }
      at += length
    }
    return true
  }
}
