import HTTP1
import NIOCore
import Telemetry
import Traffic
import Vocabulary

/// Answering in the upstream's place.
extension ExchangeDriver {
  // MARK: Our own answers

  /// An error of our own: says what, whose fault and the way out (RFC 9209). `status` takes the place of the fault's own,
  /// `extra` are lines for the answer's head.
  final func localError(_ fault: Fault, detail: String, status: Int? = nil, fields extra: String = "") {
    if let lead { return lead.hedgeFailed(.connect, fault, detail: detail) }
    let left = upstream
    upstream = nil
    isConnecting = false
    connectSerial += 1
    backoffUntil = 0
    left?.abandon()
    let toApp = exchange.route?.cluster?.shared.isApp ?? false
    let blame = fault.blame(toApp: toApp)
    exchange.flag = fault.flag
    exchange.story.fault = fault
    exchange.story.detail = detail
    exchange.blame = blame
    if accept.isTCP { return closeNow() }
    guard !exchange.responseStarted else { return abort() }
    if exchange.isGRPC { return answerGRPC(fault, detail: detail, status: status) }
    let status = status ?? fault.status
    exchange.status = status
    var fields = ByteBuffer()
    fields.writeString(extra)
    fields.writeString("Proxy-Status: outrider; error=\(fault.proxyError)")
    if let endpoint = exchange.endpoint {
      fields.writeString("; next-hop=\"")
      fields.writeBytes(endpoint.text)
      fields.writeString("\"")
    }
    let quoted = detail.utf8.map { $0 == 0x22 || $0 == 0x5C ? 0x27 : $0 >= 32 && $0 < 127 ? $0 : 0x3F }
    fields.writeString("; details=\"")
    fields.writeBytes(quoted)
    fields.writeString("\"\r\nX-Request-Id: ")
    var identifier = ByteBuffer()
    writeRequestID(to: &identifier)
    fields.writeBytes(identifier.readableBytesView)
    fields.writeString("\r\n")
    var body = ByteBuffer()
    if exchange.acceptsJSON {
      fields.writeString("Content-Type: application/json\r\n")
      body.writeString("{\"reason\":\"\(fault.reason)\",\"blame\":\"\(blame.rawValue)\",\"status\":\(status),")
      body.writeString("\"request_id\":\"")
      body.writeJSON(identifier.readableBytesView)
      body.writeString("\",\"details\":\"")
      body.writeJSON(detail.utf8)
      body.writeString("\",\"hint\":\"\(fault.hint(toApp: toApp))\"}\n")
    } else {
      fields.writeString("Content-Type: text/plain; charset=utf-8\r\n")
      body.writeString("outrider: \(fault.reason) (blame: \(blame.rawValue))\n\(detail)\n\(fault.hint(toApp: toApp))\n")
      body.writeString("request id: ")
      body.writeBytes(identifier.readableBytesView)
      body.writeString("\n")
    }
    answer(status: status, fields: Array(fields.readableBytesView), body: Array(body.readableBytesView))
  }
}

/// Reason phrases of the statuses that the proxy itself sends.
enum StatusText {
  static func reason(_ status: Int) -> String {
    switch status {
    case 200: "OK"
    case 201: "Created"
    case 202: "Accepted"
    case 204: "No Content"
    case 301: "Moved Permanently"
    case 302: "Found"
    case 303: "See Other"
    case 307: "Temporary Redirect"
    case 308: "Permanent Redirect"
    case 400: "Bad Request"
    case 401: "Unauthorized"
    case 403: "Forbidden"
    case 404: "Not Found"
    case 405: "Method Not Allowed"
    case 408: "Request Timeout"
    case 429: "Too Many Requests"
    case 431: "Request Header Fields Too Large"
    case 500: "Internal Server Error"
    case 502: "Bad Gateway"
    case 503: "Service Unavailable"
    case 504: "Gateway Timeout"
    case 505: "HTTP Version Not Supported"
    default: ""
    }
  }
}
