import HTTP1
import NIOCore
import Resilience
import Telemetry
import Traffic
import Vocabulary

/// Traces: the client's is kept when its field is valid, else one is begun.
extension ExchangeDriver {
  /// Notes the client's trace, and whether spans of it are exported: as its parent's flag says, else by fraction.
  final func takeTrace(_ field: OctetRange) {
    let parent = exchange.head.withUnsafeReadableBytes { TraceParent(field.of($0)) }
    let sample = loop.traceSample
    if let parent {
      exchange.traceIDText = OctetRange(field.start + TraceParent.traceIDOffset, TraceParent.traceIDCount)
      exchange.traceID = parent.traceID
      exchange.parentSpan = parent.parentID
      exchange.isSampled = sample >= 0 && parent.isSampled
    } else if sample >= 0 {
      exchange.isSampled = sample >= 1 || Double(loop.random.next() >> 11) * 0x1p-53 < sample
    }
  }

  private var isKnownMethod: Bool { if case .other = exchange.method { false } else { true } }

  /// Hands the spans of the exchange over: one for itself, one for each try.
  final func trace(_ now: UInt64) {
    guard !accept.isTCP else { return }
    exchange.head.withUnsafeReadableBytes { if exchange.methodText.count > 0 { try? loop.request.parse($0) } }
    // What turns uptime into nanoseconds since 1970.
    let offset = UInt64(AccessLogWriter.wallClock(ago: 0)) &- now
    let queue = loop.shared.events.spans
    queue.offer(ownSpan(offset, now).encoded)
    for (index, failed) in exchange.story.tries.enumerated() {
      var span = trySpan(index + 1, failed.endpoint, failed.began &+ offset, failed.ended &+ offset)
      span.isError = true
      if failed.status > 0 { span.add("http.response.status_code", failed.status) }
      span.add("error.type", failed.status > 0 ? "\(failed.status)" : "\(failed.fault.reason)")
      span.message = failed.detail
      queue.offer(span.encoded)
    }
    if exchange.story.failed < exchange.triesMade { queue.offer(lastTry(offset, now).encoded) }
  }

  /// Names follow OpenTelemetry's semantic conventions for HTTP.
  private func ownSpan(_ offset: UInt64, _ now: UInt64) -> Span {
    let method = text { write(.method, to: &$0) }
    let route = exchange.route?.compiled.name ?? ""
    let kind = isKnownMethod ? method : "HTTP"
    var span = Span(
      traceID: exchange.traceID, id: exchange.serverSpan, parent: exchange.parentSpan,
      name: route.isEmpty ? kind : "\(kind) \(route)", kind: .server, start: exchange.started &+ offset,
      end: now &+ offset)
    span.add("http.request.method", isKnownMethod ? method : "_OTHER")
    if !isKnownMethod { span.add("http.request.method_original", method) }
    exchange.head.withUnsafeReadableBytes { bytes in
      let path = exchange.path.of(bytes).prefix(exchange.pathOnlyCount)
      span.add("url.path", String(decoding: path, as: UTF8.self))
    }
    span.add("url.scheme", session == nil ? "http" : "https")
    span.add("server.address", text { write(.authority, to: &$0) })
    span.add("client.address", String(decoding: clientAddress, as: UTF8.self))
    span.add("network.protocol.name", "http")
    span.add("network.protocol.version", "\(spoken)".split(separator: "/").last.map(String.init) ?? "")
    if exchange.status > 0 { span.add("http.response.status_code", exchange.status) }
    if exchange.grpcStatus >= 0 { span.add("rpc.grpc.status_code", exchange.grpcStatus) }
    span.isError = exchange.status >= 500 || exchange.status == 0
    if span.isError { span.add("error.type", errorType) }
    if span.isError { span.message = exchange.story.detail }
    span.add("outrider.listener", listener.compiled.id.description)
    span.add("outrider.route", route)
    span.add("outrider.cluster", exchange.route?.cluster?.shared.configuration.name ?? "")
    span.add("outrider.request_id", text { writeRequestID(to: &$0) })
    span.add("outrider.flags", text { writeFlags(to: &$0) })
    span.add("outrider.blame", exchange.blame?.rawValue ?? "")
    return span
  }

  private func lastTry(_ offset: UInt64, _ now: UInt64) -> Span {
    var span = trySpan(exchange.triesMade, exchange.endpoint, exchange.tryBegan &+ offset, now &+ offset)
    let hasResponse = exchange.firstByte > 0
    if hasResponse { span.add("http.response.status_code", exchange.status) }
    span.isError = !hasResponse || exchange.status >= 400 || exchange.story.fault != nil
    if span.isError { span.add("error.type", errorType) }
    if span.isError { span.message = exchange.story.detail }
    return span
  }

  private var errorType: String {
    if let fault = exchange.story.fault { return "\(fault.reason)" }
    return exchange.status > 0 ? "\(exchange.status)" : "\(exchange.flag)"
  }

  private func trySpan(_ number: Int, _ endpoint: LoopEndpoint?, _ start: UInt64, _ end: UInt64) -> Span {
    let method = text { write(.method, to: &$0) }
    var span = Span(
      traceID: exchange.traceID, id: exchange.trySpan(number), parent: exchange.serverSpan,
      name: isKnownMethod ? method : "HTTP", kind: .client, start: start, end: end)
    span.add("http.request.method", isKnownMethod ? method : "_OTHER")
    if number > 1 { span.add("http.request.resend_count", number - 1) }
    if let endpoint {
      span.add("server.address", String(decoding: endpoint.host, as: UTF8.self))
      if let port = endpoint.resolved.address.port { span.add("server.port", port) }
      span.add("network.peer.address", endpoint.resolved.address.ipAddress ?? "")
    }
    return span
  }

  private func text(_ body: (inout ByteBuffer) -> Void) -> String {
    var out = ByteBuffer()
    body(&out)
    return String(buffer: out)
  }
}

extension Exchange {
  /// Ids of spans follow from the request's own, which are random.
  var serverSpan: UInt64 { requestID.1 | 1 }

  func trySpan(_ number: Int) -> UInt64 {
    (requestID.0 &+ UInt64(truncatingIfNeeded: number) &* 0x9E37_79B9_7F4A_7C15) | 1
  }
}
