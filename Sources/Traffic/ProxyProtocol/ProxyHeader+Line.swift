import Vocabulary

/// Version 1: `PROXY TCP4 192.0.2.1 198.51.100.7 56324 443\r\n` (section 2.1).
extension ProxyHeader {
  static func decodeLine(_ bytes: UnsafeRawBufferPointer) throws(Refusal) -> Decoded {
    guard agrees(bytes, word) else { throw bytes.count > 1 && agrees(bytes, signature) ? .otherVersion : .missing }
    guard let feed = bytes.prefix(longestLine).firstIndex(of: 0x0A) else {
      if bytes.count >= longestLine { throw .tooLong }
      return .more
    }
    guard feed > word.count, bytes[feed - 1] == 0x0D else { throw .badLine }
    let line = UnsafeRawBufferPointer(rebasing: bytes[word.count..<(feed - 1)])
    return .header(try peers(ofLine: line), length: feed + 1)
  }

  private static func peers(ofLine line: UnsafeRawBufferPointer) throws(Refusal) -> Peers {
    let fields = line.split(separator: 0x20, omittingEmptySubsequences: false)
    let family = String(decoding: fields[0], as: UTF8.self)
    // What follows UNKNOWN is to be ignored.
    if family == "UNKNOWN" { return .unknown }
    guard family == "TCP4" || family == "TCP6", fields.count == 5 else { throw .badLine }
    guard let source = address(fields[1], family), let destination = address(fields[2], family),
      let sourcePort = port(fields[3]), let destinationPort = port(fields[4])
    else { throw .badAddress }
    return .tcp(source: source, sourcePort: sourcePort, destination: destination, destinationPort: destinationPort)
  }

  private static func address(_ field: Slice<UnsafeRawBufferPointer>, _ family: String) -> IPAddress? {
    guard field.count <= 39, field.allSatisfy({ $0 > 0x20 && $0 < 0x7F }),
      field.contains(0x3A) == (family == "TCP6")
    else { return nil }
    return IPAddress(String(decoding: field, as: UTF8.self))
  }

  /// Decimal, without leading zeros.
  private static func port(_ field: Slice<UnsafeRawBufferPointer>) -> UInt16? {
    guard (1...5).contains(field.count), field.allSatisfy({ (48...57).contains($0) }),
      field.first != 48 || field.count == 1
    else { return nil }
    return UInt16(String(decoding: field, as: UTF8.self))
  }

  static func encodeLine(_ peers: Peers) -> [UInt8] {
    guard case .tcp(let source, let sourcePort, let destination, let destinationPort) = peers else {
      return Array("PROXY UNKNOWN\r\n".utf8)
    }
    let isV4 = source.isV4 && destination.isV4
    let text = [source, destination].map { isV4 || !$0.isV4 ? $0.description : "::ffff:\($0)" }
    return Array("PROXY \(isV4 ? "TCP4" : "TCP6") \(text[0]) \(text[1]) \(sourcePort) \(destinationPort)\r\n".utf8)
  }
}
