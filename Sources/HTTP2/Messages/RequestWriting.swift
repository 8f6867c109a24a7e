import HTTP1
import NIOCore

/// Turns the field list of a request into a head of HTTP/1.1 form, which is what routing, rewriting and retries work
/// on. What cannot be written down safely there is refused: no octet of a name, a value, :method, :path or :authority
/// can end a line or a part of one.
enum RequestWriting {
  /// What the connection adds to a request's fields.
  struct Context {
    var endStream: Bool
    var allowsExtendedConnect: Bool
    /// 128 random bits for Sec-WebSocket-Key, which RFC 8441 leaves out.
    var webSocketKey: (UInt64, UInt64)
  }

  /// Writes the head over what is in `head`.
  static func write(
    _ list: borrowing FieldList, _ context: Context, _ facts: inout MessageFacts, to head: inout ByteBuffer
  ) -> MessageProblem? {
    facts = MessageFacts()
    if list.isOverLimit { return .tooLarge }
    var scan = FieldScan()
    if let problem = scan.scan(list, .request) { return problem }
    if let problem = check(scan, list, context, &facts) { return problem }
    head.clear()
    // CONNECT has the authority twice.
    let bound = 2 * scan.octets + 4 * list.count + 256
    head.writeWithUnsafeMutableBytes(minimumWritableBytes: bound) { room in
      var cursor = HeadCursor(room)
      let start = cursor.position
      line(scan, list, facts, &cursor)
      additions(scan, list, context, facts, &cursor)
      fields(scan, list, &cursor)
      cursor.put("\r\n")
      return cursor.position - start
    }
    return nil
  }

  private static func text(_ index: Int, _ list: borrowing FieldList) -> UnsafeRawBufferPointer {
    list.value(list.fields[index])
  }

  private static func check(
    _ scan: FieldScan, _ list: borrowing FieldList, _ context: Context, _ facts: inout MessageFacts
  ) -> MessageProblem? {
    guard scan.method >= 0 else { return .missingPseudoField }
    let method = text(scan.method, list)
    guard method.count > 0 else { return .invalidMethod }
    for octet in method where !Octets.isToken(octet) { return .invalidMethod }
    facts.isTunnel = isConnect(method)
    facts.contentLength = scan.contentLength
    facts.acceptsTrailers = scan.acceptsTrailers
    facts.sensitive = scan.sensitive
    if scan.protocol >= 0 {
      guard facts.isTunnel, context.allowsExtendedConnect else { return .invalidProtocol }
      let name = text(scan.protocol, list)
      guard name.count > 0 else { return .invalidProtocol }
      for octet in name where !Octets.isToken(octet) { return .invalidProtocol }
      facts.isTunnel = false
      facts.isExtendedConnect = true
    }
    if let problem = authorityProblem(scan, list, isTunnel: facts.isTunnel) { return problem }
    if facts.isTunnel {
      if scan.scheme >= 0 || scan.path >= 0 { return .misplacedPseudoField }
    } else {
      guard scan.scheme >= 0, scan.path >= 0 else { return .missingPseudoField }
      let scheme = text(scan.scheme, list)
      facts.isHTTPS = Octets.equal(scheme, ignoringCase: "https")
      guard facts.isHTTPS || Octets.equal(scheme, ignoringCase: "http") else { return .invalidScheme }
      guard isPath(text(scan.path, list), method) else { return .invalidPath }
    }
    guard let length = scan.contentLength else { return nil }
    if facts.isTunnel || facts.isExtendedConnect { return .unexpectedBody }
    return context.endStream && length > 0 ? .contentLengthMismatch : nil
  }

  private static func isConnect(_ method: UnsafeRawBufferPointer) -> Bool {
    // Methods are case-sensitive (RFC 9110 section 9.1).
    method.count == 7 && method.elementsEqual("CONNECT".utf8)
  }

  /// RFC 9113 sections 8.3.1 and 8.5.
  private static func authorityProblem(
    _ scan: FieldScan, _ list: borrowing FieldList, isTunnel: Bool
  ) -> MessageProblem? {
    guard scan.authority >= 0 || scan.host >= 0 && !isTunnel else { return .missingPseudoField }
    let authority = text(scan.authority >= 0 ? scan.authority : scan.host, list)
    guard authority.count > 0, FieldTable.isHost(authority) else { return .invalidAuthority }
    if scan.authority >= 0, scan.host >= 0, !Octets.equal(authority, ignoringCase: text(scan.host, list)) {
      return .differingHost
    }
    if isTunnel {
      var start = authority.count
      while start > 0, authority[start - 1] &- 48 < 10 { start -= 1 }
      guard start < authority.count, start > 1, authority[start - 1] == 0x3A else { return .invalidAuthority }
    }
    return nil
  }

  /// An absolute path, or `*` for OPTIONS; visible ASCII without `#`.
  private static func isPath(_ path: UnsafeRawBufferPointer, _ method: UnsafeRawBufferPointer) -> Bool {
    guard path.count > 0 else { return false }
    if path[0] != 0x2F {
      return path.count == 1 && path[0] == 0x2A && method.elementsEqual("OPTIONS".utf8)
    }
    for octet in path where octet &- 0x21 > 0x5D || octet == 0x23 { return false }
    return true
  }

  private static func line(
    _ scan: FieldScan, _ list: borrowing FieldList, _ facts: MessageFacts, _ cursor: inout HeadCursor
  ) {
    let authority = text(scan.authority >= 0 ? scan.authority : scan.host, list)
    if facts.isExtendedConnect {
      cursor.put("GET")
    } else {
      cursor.put(text(scan.method, list))
    }
    cursor.put(0x20)
    cursor.put(facts.isTunnel ? authority : text(scan.path, list))
    cursor.put(" HTTP/1.1\r\nhost: ")
    cursor.put(authority)
    cursor.put("\r\n")
  }

  private static func additions(
    _ scan: FieldScan, _ list: borrowing FieldList, _ context: Context, _ facts: MessageFacts,
    _ cursor: inout HeadCursor
  ) {
    if facts.isExtendedConnect {
      let name = text(scan.protocol, list)
      cursor.put("connection: upgrade\r\nupgrade: ")
      cursor.put(name)
      cursor.put("\r\n")
      if Octets.equal(name, ignoringCase: "websocket"), !hasWebSocketKey(list) {
        cursor.put("sec-websocket-key: ")
        WebSocketHandshake.putKey(context.webSocketKey, &cursor)
        cursor.put("\r\n")
      }
    } else if !facts.isTunnel, scan.contentLength == nil {
      if !context.endStream {
        cursor.put("transfer-encoding: chunked\r\n")
      } else if expectsBody(text(scan.method, list)) {
        cursor.put("content-length: 0\r\n")
      }
    }
  }

  private static func hasWebSocketKey(_ list: borrowing FieldList) -> Bool {
    for index in 0..<list.count
    where Octets.equal(list.name(list.fields[index]), ignoringCase: "sec-websocket-key") { return true }
    return false
  }

  /// Methods whose requests say that they have no content (RFC 9110 section 8.6).
  private static func expectsBody(_ method: UnsafeRawBufferPointer) -> Bool {
    switch method.count {
    case 3: method.elementsEqual("PUT".utf8)
    case 4: method.elementsEqual("POST".utf8)
    case 5: method.elementsEqual("PATCH".utf8)
    default: false
    }
  }

  private static func fields(_ scan: FieldScan, _ list: borrowing FieldList, _ cursor: inout HeadCursor) {
    var index = 0
    let count = list.count
    while index < count {
      let field = list.fields[index]
      if field.token == .other {
        cursor.line(list.name(field), list.value(field))
      } else if field.token == .cookie, index == scan.firstCookie {
        cookies(scan, list, &cursor)
      } else if field.token == .te || field.token == .contentLength && index == scan.contentLengthField {
        cursor.line(list.name(field), list.value(field))
      }
      index &+= 1
    }
  }

  /// All crumbs as one field (RFC 9113 section 8.2.3).
  private static func cookies(_ scan: FieldScan, _ list: borrowing FieldList, _ cursor: inout HeadCursor) {
    cursor.put("cookie: ")
    var left = scan.cookies
    var index = scan.firstCookie
    while left > 0 {
      let field = list.fields[index]
      if field.token == .cookie {
        left &-= 1
        cursor.put(list.value(field))
        if left > 0 { cursor.put("; ") }
      }
      index &+= 1
    }
    cursor.put("\r\n")
  }
}
