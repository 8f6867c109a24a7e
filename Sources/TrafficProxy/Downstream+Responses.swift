import HTTP1
import NIOCore
import Resilience
import Synchronization
import Telemetry
import Traffic
import Vocabulary

/// Passing responses to the client, and answering in the upstream's place.
extension DownstreamHandler {
  private var isDraining: Bool { listener.isLeaving || loop.shared.isDraining(listener.compiled.direction) }

  func interim(_ head: ByteBuffer) {
    guard exchange.minorVersion == 1 else { return }
    writeHead(head, edits: nil, persistence: .silent, unchunks: false, upgrades: false)
    flush()
  }

  /// Sends the response head on, and in the same write the part of the body that came with it.
  func responseHead(_ head: ByteBuffer, _ framing: BodyFraming, first: ByteBuffer?, _ now: UInt64) {
    exchange.responseStarted = true
    exchange.firstByte = now
    exchange.status = loop.response.status
    if isDraining || !exchange.requestDone { exchange.keepsAlive = false }
    switch framing {
    case .untilClose: exchange.keepsAlive = false
    case .chunked where exchange.minorVersion == 0:
      exchange.unchunks = true
      exchange.keepsAlive = false
    default: break
    }
    let persistence: HeadWriter.Persistence =
      !exchange.keepsAlive ? .close : exchange.minorVersion == 0 ? .keepAlive : .silent
    writeHead(
      head, edits: exchange.route?.compiled.responseEdits, persistence: persistence, unchunks: exchange.unchunks,
      upgrades: false, first: first)
    loop.wheel.set(self, now &+ listener.compiled.idleTimeout, now: now)
  }

  private func writeHead(
    _ head: ByteBuffer, edits: CompiledEdits?, persistence: HeadWriter.Persistence, unchunks: Bool, upgrades: Bool,
    first: ByteBuffer? = nil
  ) {
    loop.scratch.clear()
    head.withUnsafeReadableBytes { bytes in
      HeadWriter.response(
        loop, bytes, edits: edits, persistence: persistence, unchunks: unchunks, upgrades: upgrades)
    }
    // A small body is cheaper copied than written on its own.
    if let first, first.readableBytes <= Self.copiedBody {
      loop.scratch.writeImmutableBuffer(first)
      exchange.bytesOut += UInt64(loop.scratch.readableBytes)
      return write(loop.scratch)
    }
    exchange.bytesOut += UInt64(loop.scratch.readableBytes)
    write(loop.scratch)
    if let first { responseBody(first) }
  }

  /// Octets of a body that are copied behind the head instead of being written from where they are.
  private static let copiedBody = 4096

  func responseBody(_ slice: ByteBuffer) {
    exchange.bytesOut += UInt64(slice.readableBytes)
    write(slice)
    if !isWritable { flush() }
  }

  /// The response is complete, and the connection released or closed by its owner. `delimited` tells that it was the
  /// response's framing that ended it, not the connection.
  func responseEnded(delimited: Bool) {
    upstream = nil
    flush()
    guard phase == .exchange else { return }
    let now = NIODeadline.now().uptimeNanoseconds
    if delimited, exchange.firstByte > 0 { exchange.overhead += now &- exchange.firstByte }
    endExchange(closing: !exchange.keepsAlive || !exchange.requestDone, now)
  }

  /// The upstream ended in the middle of a response.
  func upstreamCutBody() {
    upstream = nil
    exchange.flag = Fault.connectionReset.flag
    exchange.blame = Fault.connectionReset.blame(toApp: exchange.route?.cluster?.shared.isApp ?? false)
    abort()
  }

  private func endExchange(closing: Bool, _ now: UInt64) {
    finishExchange(now)
    if closing || isDraining { return closeGracefully() }
    phase = .head
    loop.wheel.set(self, now &+ listener.compiled.downstreamIdle, now: now)
    if input != nil { process() }
    resumeReading()
  }

  // MARK: Our own answers

  /// A configured reply.
  func reply(status: Int, fields: [UInt8], body: [UInt8]) {
    exchange.status = status
    answer(status: status, fields: fields, body: body)
  }

  /// An error of our own: says what, whose fault and the way out (RFC 9209).
  func localError(_ fault: Fault, detail: String) {
    let left = upstream
    upstream = nil
    isConnecting = false
    connectSerial += 1
    backoffUntil = 0
    left?.abandon()
    let toApp = exchange.route?.cluster?.shared.isApp ?? false
    let blame = fault.blame(toApp: toApp)
    exchange.flag = fault.flag
    exchange.blame = blame
    if accept.isTCP { return closeNow() }
    guard !exchange.responseStarted else { return abort() }
    exchange.status = fault.status
    var fields = ByteBuffer()
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
      body.writeString("{\"reason\":\"\(fault.reason)\",\"blame\":\"\(blame.rawValue)\",\"status\":\(fault.status),")
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
    answer(status: fault.status, fields: Array(fields.readableBytesView), body: Array(body.readableBytesView))
  }

  private func writeRequestID(to out: inout ByteBuffer) {
    if exchange.requestIDText.count > 0 {
      exchange.head.withUnsafeReadableBytes { _ = out.writeBytes(exchange.requestIDText.of($0)) }
    } else {
      out.writeHex(exchange.requestID.0)
      out.writeHex(exchange.requestID.1)
    }
  }

  private func answer(status: Int, fields: [UInt8], body: [UInt8]) {
    let closing = !exchange.requestDone || !exchange.keepsAlive || isDraining
    exchange.responseStarted = true
    loop.scratch.clear()
    loop.scratch.writeString("HTTP/1.1 \(status) \(StatusText.reason(status))\r\n")
    loop.scratch.writeBytes(fields)
    if status != 204, status != 304 { loop.scratch.writeString("Content-Length: \(body.count)\r\n") }
    if closing {
      loop.scratch.writeStaticString("Connection: close\r\n")
    } else if exchange.minorVersion == 0 {
      loop.scratch.writeStaticString("Connection: keep-alive\r\n")
    }
    loop.scratch.writeStaticString("\r\n")
    if exchange.method != .head, status != 204, status != 304 { loop.scratch.writeBytes(body) }
    exchange.bytesOut += UInt64(loop.scratch.readableBytes)
    write(loop.scratch)
    flush()
    guard phase == .exchange else { return }
    endExchange(closing: closing, NIODeadline.now().uptimeNanoseconds)
  }

  // MARK: Tunnels

  func upgraded(_ head: ByteBuffer, _ now: UInt64) {
    exchange.responseStarted = true
    exchange.status = 101
    exchange.firstByte = now
    writeHead(
      head, edits: exchange.route?.compiled.responseEdits, persistence: .silent, unchunks: false, upgrades: true)
    phase = .tunnel
    enterTunnel(now)
  }

  // MARK: Records

  /// Counts and records the exchange, and makes room for the next.
  func finishExchange(_ now: UInt64) {
    let compiled = listener.compiled
    loop.shared.addInFlight(compiled.direction, -1)
    if let cluster = exchange.route?.cluster {
      if exchange.countsAsRequest { cluster.shared.requests.wrappingSubtract(1, ordering: .relaxed) }
      if exchange.countsAsRetry { cluster.shared.retries.wrappingSubtract(1, ordering: .relaxed) }
    }
    if exchange.status >= 500, exchange.blame == nil { exchange.blame = isInbound ? .app : .upstream }
    if !accept.isTCP {
      (exchange.route?.stats ?? listener.noRoute).count(status: exchange.status, blame: exchange.blame)
      if exchange.status != 101, exchange.method != .connect {
        listener.duration.recordAsOwner(now &- exchange.started)
      }
      listener.overhead.recordAsOwner(exchange.overhead)
    }
    if loop.access.isWanted, compiled.sample >= 0 {
      let isError = exchange.blame != nil || exchange.status >= 500
      if isError || compiled.sample >= 1 || Double(loop.random.next() >> 11) * 0x1p-53 < compiled.sample {
        record(now)
      }
    }
    exchange = Exchange()
    tryDeadline = .max
    backoffUntil = 0
    failedEndpoint = nil
    forcesNewConnection = false
  }

  private func record(_ now: UInt64) {
    loop.access.begin(ago: now &- exchange.started)
    exchange.head.withUnsafeReadableBytes { bytes in
      if exchange.requestIDText.count > 0 {
        loop.access.text("request_id", exchange.requestIDText.of(bytes))
      } else {
        loop.access.hex("request_id", exchange.requestID)
      }
      if exchange.traceIDText.count > 0 {
        loop.access.text("trace_id", exchange.traceIDText.of(bytes))
      } else {
        loop.access.hex("trace_id", exchange.traceID)
      }
      loop.access.text("listener", listener.nameBytes)
      loop.access.text("direction", isInbound ? "inbound" as StaticString : "outbound")
      loop.access.text("client", clientAddress)
      if let route = exchange.route {
        loop.access.text("route", route.nameBytes)
        if let cluster = route.cluster { loop.access.text("cluster", cluster.nameBytes) }
      }
      if let endpoint = exchange.endpoint { loop.access.text("endpoint", endpoint.text) }
      if let session {
        loop.access.text("tls", session.version)
        if !session.peer.isEmpty { loop.access.text("peer", session.peer) }
      }
      if exchange.methodText.count > 0 {
        loop.access.text("method", exchange.methodText.of(bytes))
        loop.access.text("path", exchange.path.of(bytes))
      }
    }
    loop.access.number("status", UInt64(exchange.status))
    loop.access.text("flags", exchange.flag)
    if let blame = exchange.blame { loop.access.text("blame", blame.rawValue.utf8) }
    loop.access.number("bytes_in", exchange.bytesIn)
    loop.access.number("bytes_out", exchange.bytesOut)
    loop.access.number("tries", UInt64(exchange.triesMade))
    loop.access.milliseconds("connect_ms", exchange.connectTime)
    if exchange.tlsTime > 0 { loop.access.milliseconds("tls_ms", exchange.tlsTime) }
    loop.access.milliseconds("first_byte_ms", exchange.firstByte > 0 ? exchange.firstByte &- exchange.started : 0)
    loop.access.milliseconds("total_ms", now &- exchange.started)
    loop.access.milliseconds("overhead_ms", exchange.overhead)
    loop.access.end()
    loop.accessChanged()
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
