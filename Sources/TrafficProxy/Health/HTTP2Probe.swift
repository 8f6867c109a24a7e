import HTTP1
import HTTP2
import NIOCore
import Traffic

/// One request on an HTTP/2 connection of its own, for a health check.
final class HTTP2Probe: HTTP2Handler {
  struct Answer {
    var status = 0
    /// Of gRPC; nil = none was sent.
    var grpcStatus: Int?
    var body = ByteBuffer()
    /// Why there is no whole answer.
    var failure: String?
  }

  private let head: ByteBuffer
  private let body: [UInt8]?
  private let isHTTPS: Bool
  private var answer = Answer()
  private var tell: ((Answer) -> Void)?

  /// `head` is of HTTP/1.1 form; with a body the request is one of gRPC.
  init(_ loop: LoopState, head: String, body: [UInt8]?, isHTTPS: Bool, _ tell: @escaping (Answer) -> Void) {
    self.head = ByteBuffer(string: head)
    self.body = body
    self.isHTTPS = isHTTPS
    self.tell = tell
    super.init(.client, loop, limits: loop.upstreamLimits)
  }

  private func finish(_ failure: String? = nil) {
    answer.failure = failure
    let tell = tell
    self.tell = nil
    tell?(answer)
  }

  override func opened(_ context: ChannelHandlerContext, _ now: UInt64) {
    var options = RequestOptions(isHTTPS: isHTTPS)
    options.acceptsTrailers = body != nil
    let key = head.withUnsafeReadableBytes { bytes -> StreamKey? in
      guard (try? loop.outgoingRequest.parse(bytes)) != nil else { return nil }
      return connection.open(loop.outgoingRequest, bytes, options, endStream: body == nil, to: &out)
    }
    guard let key else { return finish("the check's request is not valid; see `health.http` and `health.host`") }
    guard let body else { return }
    var content = ByteBuffer(bytes: body)
    _ = connection.send(key, &content, endStream: true, to: &out, now: now)
  }

  override func handle(_ event: HTTP2Event, _ now: UInt64) {
    guard tell != nil else { return }
    switch event {
    case .response(_, let ends): take(loop.workspace.head, ends)
    case .data(let key, let count, let ends):
      guard var piece = input.readSlice(length: count) else { return }
      if answer.body.readableBytes + count <= GRPCHealth.longest { answer.body.writeBuffer(&piece) }
      connection.consumed(key, count, to: &out)
      if ends { finish() }
    case .trailers:
      loop.workspace.head.withUnsafeReadableBytes { bytes in
        guard (try? loop.outgoingTrailers.parseTrailers(bytes)) != nil else { return }
        noteStatus(loop.outgoingTrailers, bytes)
      }
      finish()
    case .reset(_, let code, _): finish("the stream was reset (\(code.name))")
    case .failed, .stalled: finish("the answer breaks RFC 9113")
    case .informational, .settings, .writable, .goAway, .needsInput, .request, .oversizedRequest, .rejected, .pong:
      break
    }
  }

  private func take(_ head: ByteBuffer, _ ends: Bool) {
    var response = ResponseHead()
    head.withUnsafeReadableBytes { bytes in
      guard (try? response.parse(bytes)) != nil else { return }
      answer.status = response.status
      if ends { noteStatus(response.table, bytes) }
    }
    if ends || body == nil { finish() }
  }

  private func noteStatus(_ table: FieldTable, _ bytes: UnsafeRawBufferPointer) {
    let name: StaticString = "grpc-status"
    let wanted = UnsafeRawBufferPointer(start: name.utf8Start, count: name.utf8CodeUnitCount)
    answer.grpcStatus = table.first(named: wanted, bytes).flatMap { GRPC.status($0.value.of(bytes)) }
  }

  override func lost(_ now: UInt64) { finish("the connection closed without an answer") }
}

extension HTTP2Probe.Answer {
  /// Why a service is not well; nil when it is.
  var refusalOfService: String? {
    if let failure { return failure }
    if status != 200 { return "status \(status)" }
    guard let grpcStatus else { return "the answer has no grpc-status" }
    if grpcStatus == GRPC.Status.unimplemented.rawValue { return "the server has no grpc.health.v1 (grpc-status 12)" }
    if grpcStatus != 0 { return "grpc-status \(grpcStatus)" }
    switch body.withUnsafeReadableBytes({ GRPCHealth.status($0) }) {
    case .serving: return nil
    case .notServing: return "the service says NOT_SERVING"
    case .serviceUnknown: return "the service says SERVICE_UNKNOWN"
    case .unknown: return "the service says UNKNOWN"
    case .other(let number): return "the service says \(number)"
    case nil: return "the answer is not a HealthCheckResponse"
    }
  }
}
