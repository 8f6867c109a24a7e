/// A parsed request head: offsets into the received octets and what they mean (RFC 9112 section 3).
package struct RequestHead: Sendable {
  package private(set) var method = Method.other
  package private(set) var methodText = OctetRange.empty
  /// The target as written.
  package private(set) var target = OctetRange.empty
  /// The path and query in origin form; empty for an absolute target without a path.
  package private(set) var path = OctetRange.empty
  /// How many octets of `path` stand before the query.
  package private(set) var pathOnlyCount = 0
  /// The authority of an absolute target, else empty.
  package private(set) var authority = OctetRange.empty
  package private(set) var minorVersion = 1
  package var table = FieldTable()

  package init() {}

  /// Parses a whole head as `HeadScanner` delimited it.
  package mutating func parse(_ bytes: UnsafeRawBufferPointer) throws(HeadError) {
    var position = 0
    while Octets.isToken(bytes[position]) { position &+= 1 }
    guard position > 0, bytes[position] == Octets.space else { throw .invalidMethod }
    methodText = OctetRange(0, position)
    method = Method.find(methodText.of(bytes))
    let start = position + 1
    position = start
    var query = -1
    while bytes[position] > 0x20, bytes[position] < 0x7F {
      if bytes[position] == 0x23 { throw .invalidTarget }
      if bytes[position] == 0x3F, query < 0 { query = position }
      position &+= 1
    }
    guard position > start, bytes[position] == Octets.space else { throw .invalidTarget }
    target = OctetRange(start, position - start)
    try parseTarget(bytes, query: query)
    minorVersion = try Self.version(bytes, at: position + 1)
    guard position + 10 < bytes.count, bytes[position + 9] == Octets.carriageReturn,
      bytes[position + 10] == Octets.lineFeed
    else { throw .invalidVersion }
    try table.parse(bytes, from: position + 11, minorVersion: minorVersion)
    if minorVersion == 1, table.host < 0 { throw .missingHost }
  }

  private mutating func parseTarget(_ bytes: UnsafeRawBufferPointer, query: Int) throws(HeadError) {
    authority = .empty
    path = target
    let first = bytes[target.start]
    if method == .connect {
      guard first != 0x2F else { throw .invalidTarget }
      authority = target
    } else if first == 0x2F {
      // origin-form
    } else if first == 0x2A {
      guard target.count == 1, method == .options else { throw .invalidTarget }
    } else {
      try parseAbsolute(bytes)
    }
    pathOnlyCount = query >= path.start && query < path.end ? query - path.start : path.count
  }

  private mutating func parseAbsolute(_ bytes: UnsafeRawBufferPointer) throws(HeadError) {
    let text = target.of(bytes)
    var scheme = 0
    for candidate: StaticString in ["http://", "https://"] {
      let count = candidate.utf8CodeUnitCount
      if text.count > count, Octets.equal(UnsafeRawBufferPointer(rebasing: text[..<count]), ignoringCase: candidate) {
        scheme = count
      }
    }
    guard scheme > 0 else { throw .invalidTarget }
    var end = scheme
    while end < text.count, text[end] != 0x2F, text[end] != 0x3F { end += 1 }
    guard end > scheme, FieldTable.isHost(UnsafeRawBufferPointer(rebasing: text[scheme..<end])) else {
      throw .invalidTarget
    }
    authority = OctetRange(target.start + scheme, end - scheme)
    path = OctetRange(target.start + end, text.count - end)
  }

  /// The minor version; `at` is where `HTTP/1.x` begins.
  static func version(_ bytes: UnsafeRawBufferPointer, at start: Int) throws(HeadError) -> Int {
    guard start + 8 < bytes.count, bytes[start] == 0x48, bytes[start + 1] == 0x54, bytes[start + 2] == 0x54,
      bytes[start + 3] == 0x50, bytes[start + 4] == 0x2F, bytes[start + 6] == 0x2E,
      bytes[start + 5] &- 48 < 10, bytes[start + 7] &- 48 < 10
    else { throw .invalidVersion }
    guard bytes[start + 5] == 0x31, bytes[start + 7] <= 0x31 else { throw .unsupportedVersion }
    return Int(bytes[start + 7] - 48)
  }

  /// How the body is delimited (RFC 9112 section 6.3).
  @inlinable
  package var framing: BodyFraming {
    if table.isChunked { return .chunked }
    if let length = table.contentLength, length > 0 { return .length(length) }
    return .none
  }

  /// True when the client lets the connection live after this exchange (RFC 9112 section 9.3).
  @inlinable
  package var keepsAlive: Bool {
    if table.saysClose { return false }
    return minorVersion == 1 || table.saysKeepAlive
  }

  /// True when the client asks for another protocol on this connection.
  @inlinable
  package var wantsUpgrade: Bool { table.saysUpgrade && table.upgrade >= 0 && minorVersion == 1 }
}
