import Vocabulary

/// Version 2: signature, version and command, family and transport, length, addresses, TLVs (section 2.2).
extension ProxyHeader {
  private static let checksumType: UInt8 = 0x03

  static func decodeBinary(_ bytes: UnsafeRawBufferPointer) throws(Refusal) -> Decoded {
    guard agrees(bytes, signature) else { throw bytes.count > 1 && agrees(bytes, word) ? .otherVersion : .missing }
    if bytes.count > 12 { guard bytes[12] == 0x20 || bytes[12] == 0x21 else { throw .badCommand } }
    guard bytes.count >= 16 else { return .more }
    let bodyLength = number(bytes, at: 14)
    guard bodyLength <= longestBody else { throw .tooLong }
    let length = 16 + bodyLength
    guard bytes.count >= length else { return .more }
    // LOCAL: the proxy's own connection, a health check for example; what follows is to be skipped.
    if bytes[12] == 0x20 { return .header(.unknown, length: length) }
    let header = UnsafeRawBufferPointer(rebasing: bytes[..<length])
    let addressLength: Int
    switch header[13] {
    case 0x00: return .header(.unknown, length: length)
    case 0x11: addressLength = 12
    case 0x21: addressLength = 36
    case 0x31: addressLength = 216
    default: throw .badFamily
    }
    guard bodyLength >= addressLength else { throw .badLength }
    try checkExtensions(header, from: 16 + addressLength)
    return .header(peers(header), length: length)
  }

  private static func number(_ bytes: UnsafeRawBufferPointer, at index: Int) -> Int {
    Int(bytes[index]) << 8 | Int(bytes[index + 1])
  }

  private static func peers(_ header: UnsafeRawBufferPointer) -> Peers {
    let size = header[13] == 0x11 ? 4 : 16
    guard header[13] != 0x31, let source = IPAddress(octets: header[16..<(16 + size)]),
      let destination = IPAddress(octets: header[(16 + size)..<(16 + 2 * size)])
    else { return .unix }
    return .tcp(
      source: source, sourcePort: UInt16(number(header, at: 16 + 2 * size)), destination: destination,
      destinationPort: UInt16(number(header, at: 18 + 2 * size)))
  }

  /// TLVs are walked and skipped; a checksum among them is checked (section 2.2.3).
  private static func checkExtensions(_ header: UnsafeRawBufferPointer, from start: Int) throws(Refusal) {
    var position = start
    while position < header.count {
      guard position + 3 <= header.count else { throw .badExtension }
      let value = position + 3
      let length = number(header, at: position + 1)
      guard value + length <= header.count else { throw .badExtension }
      if header[position] == checksumType {
        guard length == 4 else { throw .badExtension }
        let expected = UInt32(number(header, at: value)) << 16 | UInt32(number(header, at: value + 2))
        guard CRC32C.checksum(header, zeroing: value..<(value + 4)) == expected else { throw .badChecksum }
      }
      position = value + length
    }
  }

  static func encodeBinary(_ peers: Peers) -> [UInt8] {
    var body: [UInt8] = []
    var family: UInt8 = 0x00
    if case .tcp(let source, let sourcePort, let destination, let destinationPort) = peers {
      let isV4 = source.isV4 && destination.isV4
      family = isV4 ? 0x11 : 0x21
      body += isV4 ? source.octets + destination.octets : source.mappedOctets + destination.mappedOctets
      for port in [sourcePort, destinationPort] { body += [UInt8(port >> 8), UInt8(port & 0xFF)] }
    }
    return signature + [0x21, family, UInt8(body.count >> 8), UInt8(body.count & 0xFF)] + body
  }
}

/// CRC-32C (Castagnoli), as RFC 4960 appendix B has it.
package enum CRC32C {
  private static let table: [UInt32] = (0..<256).map { index in
    (0..<8).reduce(UInt32(index)) { value, _ in value & 1 == 1 ? value >> 1 ^ 0x82F6_3B78 : value >> 1 }
  }

  /// The octets of `zeroing` count as zeros: a checksum inside what it covers.
  package static func checksum(_ bytes: UnsafeRawBufferPointer, zeroing: Range<Int> = 0..<0) -> UInt32 {
    var value = UInt32.max
    for index in 0..<bytes.count {
      let octet = zeroing.contains(index) ? 0 : bytes[index]
      value = table[Int((value ^ UInt32(octet)) & 0xFF)] ^ value >> 8
    }
    return ~value
  }
}
