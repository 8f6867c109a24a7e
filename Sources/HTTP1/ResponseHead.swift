/// A parsed response head: offsets into the received octets and what they mean (RFC 9112 section 4).
package struct ResponseHead: Sendable {
  package private(set) var status = 0
  package private(set) var reason = OctetRange.empty
  package private(set) var minorVersion = 1
  package var table = FieldTable()

  package init() {}

  /// Parses a whole head as `HeadScanner` delimited it.
  package mutating func parse(_ bytes: UnsafeRawBufferPointer) throws(HeadError) {
    minorVersion = try RequestHead.version(bytes, at: 0)
    guard bytes.count > 13, bytes[8] == Octets.space else { throw .invalidStatus }
    var number = 0
    for index in 9..<12 {
      guard bytes[index] &- 48 < 10 else { throw .invalidStatus }
      number = number * 10 + Int(bytes[index] - 48)
    }
    guard (100...999).contains(number) else { throw .invalidStatus }
    status = number
    var start = 12
    if bytes[12] == Octets.space {
      start = 13
    } else if bytes[12] != Octets.carriageReturn {
      throw .invalidStatus
    }
    let end = Octets.endOfValue(bytes, from: start)
    guard end + 1 < bytes.count, bytes[end] == Octets.carriageReturn, bytes[end + 1] == Octets.lineFeed else {
      throw .invalidStatus
    }
    reason = OctetRange(start, end - start)
    try table.parse(bytes, from: end + 2, minorVersion: minorVersion)
  }

  /// How the body is delimited; `method` is the request's (RFC 9112 section 6.3).
  @inlinable
  package func framing(for method: Method) -> BodyFraming {
    if case .head = method { return .none }
    if status < 200 || status == 204 || status == 304 { return .none }
    if table.isChunked { return .chunked }
    if let length = table.contentLength { return length == 0 ? .none : .length(length) }
    return .untilClose
  }

  /// True when the connection may carry another request after this response.
  @inlinable
  package var keepsAlive: Bool {
    if table.saysClose { return false }
    return minorVersion == 1 || table.saysKeepAlive
  }
}
