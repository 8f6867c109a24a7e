import HTTP1
import NIOCore

/// Turns the field list of a response, or of trailers, into HTTP/1.1 form.
enum ResponseWriting {
  /// What the request decides about its response.
  struct Context {
    var endStream: Bool
    var answersHead: Bool
    var answersConnect: Bool
    var answersExtendedConnect: Bool
  }

  /// Writes the head over what is in `head`.
  static func write(
    _ list: borrowing FieldList, _ context: Context, _ facts: inout MessageFacts, to head: inout ByteBuffer
  ) -> MessageProblem? {
    facts = MessageFacts()
    if list.isOverLimit { return .tooLarge }
    var scan = FieldScan()
    if let problem = scan.scan(list, .response) { return problem }
    guard scan.status >= 0 else { return .missingPseudoField }
    guard let status = number(list.value(list.fields[scan.status])), status != 101 else { return .invalidStatus }
    facts.status = status
    facts.sensitive = scan.sensitive
    let agrees = (200..<300).contains(status)
    facts.isTunnel = agrees && context.answersConnect
    facts.isExtendedConnect = agrees && context.answersExtendedConnect
    let isTunnel = facts.isTunnel || facts.isExtendedConnect
    if status < 200, context.endStream { return .informationalWithEnd }
    // A length says nothing there (RFC 9110 sections 8.6 and 9.3.6), and is not passed on.
    let dropsLength = status < 200 || status == 204 || isTunnel
    let bodyless = dropsLength || context.answersHead || status == 304
    if !dropsLength { facts.contentLength = scan.contentLength }
    if context.endStream, !bodyless, let length = scan.contentLength, length > 0 { return .contentLengthMismatch }
    head.clear()
    head.writeWithUnsafeMutableBytes(minimumWritableBytes: scan.octets + 4 * list.count + 256) { room in
      var cursor = HeadCursor(room)
      let start = cursor.position
      line(facts, list.value(list.fields[scan.status]), &cursor)
      if !bodyless, scan.contentLength == nil {
        cursor.put(context.endStream ? "content-length: 0\r\n" : "transfer-encoding: chunked\r\n")
      }
      fields(list, lengthField: dropsLength ? -1 : scan.contentLengthField, &cursor)
      cursor.put("\r\n")
      return cursor.position - start
    }
    return nil
  }

  /// Writes field lines and an empty line over what is in `lines`: a trailer section as it follows the last chunk
  /// (RFC 9112 section 7.1.2).
  static func trailers(
    _ list: borrowing FieldList, _ facts: inout MessageFacts, to lines: inout ByteBuffer
  ) -> MessageProblem? {
    facts = MessageFacts()
    if list.isOverLimit { return .tooLarge }
    var scan = FieldScan()
    if let problem = scan.scan(list, .trailers) { return problem }
    facts.sensitive = scan.sensitive
    lines.clear()
    lines.writeWithUnsafeMutableBytes(minimumWritableBytes: scan.octets + 4 * list.count + 16) { room in
      var cursor = HeadCursor(room)
      let start = cursor.position
      fields(list, lengthField: -1, &cursor)
      cursor.put("\r\n")
      return cursor.position - start
    }
    return nil
  }

  private static func number(_ text: UnsafeRawBufferPointer) -> Int? {
    guard text.count == 3, text[0] &- 49 < 9, text[1] &- 48 < 10, text[2] &- 48 < 10 else { return nil }
    return Int(text[0] - 48) * 100 + Int(text[1] - 48) * 10 + Int(text[2] - 48)
  }

  private static func line(_ facts: MessageFacts, _ status: UnsafeRawBufferPointer, _ cursor: inout HeadCursor) {
    if facts.isExtendedConnect {
      cursor.put("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n")
      return
    }
    cursor.put("HTTP/1.1 ")
    cursor.put(status)
    cursor.put(0x20)
    cursor.put(reason(facts.status))
    cursor.put("\r\n")
  }

  private static func fields(_ list: borrowing FieldList, lengthField: Int, _ cursor: inout HeadCursor) {
    var index = 0
    let count = list.count
    while index < count {
      let field = list.fields[index]
      let passes =
        switch field.token {
        case .other, .cookie, .host: true
        case .contentLength: index == lengthField
        default: false
        }
      if passes { cursor.line(list.name(field), list.value(field)) }
      index &+= 1
    }
  }

  /// Reason phrases of RFC 9110 section 15 that clients show; others are empty.
  private static func reason(_ status: Int) -> StaticString {
    switch status {
    case 100: "Continue"
    case 103: "Early Hints"
    case 200: "OK"
    case 201: "Created"
    case 202: "Accepted"
    case 204: "No Content"
    case 206: "Partial Content"
    case 301: "Moved Permanently"
    case 302: "Found"
    case 303: "See Other"
    case 304: "Not Modified"
    case 307: "Temporary Redirect"
    case 308: "Permanent Redirect"
    case 400: "Bad Request"
    case 401: "Unauthorized"
    case 403: "Forbidden"
    case 404: "Not Found"
    case 405: "Method Not Allowed"
    case 409: "Conflict"
    case 410: "Gone"
    case 412: "Precondition Failed"
    case 413: "Content Too Large"
    case 415: "Unsupported Media Type"
    case 422: "Unprocessable Content"
    case 429: "Too Many Requests"
    case 431: "Request Header Fields Too Large"
    case 500: "Internal Server Error"
    case 501: "Not Implemented"
    case 502: "Bad Gateway"
    case 503: "Service Unavailable"
    case 504: "Gateway Timeout"
    default: ""
    }
  }
}
