import HTTP1
import NIOCore
import NIOPosix
import Traffic

#if canImport(Glibc)
  import Glibc
#else
  import Musl
#endif

/// One check of one endpoint, over a connection of its own that is made as requests' are: PROXY header, TLS, protocol.
/// It counts in no limit of the cluster.
final class HealthProbe: ChannelInboundHandler, RemovableChannelHandler {
  typealias InboundIn = ByteBuffer
  typealias OutboundOut = ByteBuffer

  enum State {
    /// Next: asking, over.
    case connecting
    /// The request was sent. Next: over.
    case asking
    /// The result is told; the connection is closed or closing.
    case over
  }

  private let loop: LoopState
  private let cluster: LoopCluster
  private let endpoint: LoopEndpoint
  private let checks: HealthCheckConfiguration
  private var state = State.connecting
  private var context: ChannelHandlerContext?
  private var stream: HTTP2Probe?
  private var timer: Scheduled<Void>?
  private var received = ByteBuffer()
  /// Gets why the check has not passed; nil when it has.
  private var tell: ((String?) -> Void)?

  init(_ loop: LoopState, _ cluster: LoopCluster, _ endpoint: LoopEndpoint, _ checks: HealthCheckConfiguration) {
    self.loop = loop
    self.cluster = cluster
    self.endpoint = endpoint
    self.checks = checks
  }

  /// Calls `tell` once, unless it is cancelled before.
  func run(_ tell: @escaping (String?) -> Void) {
    self.tell = tell
    let timeout = checks.timeout.nanoseconds
    timer = loop.eventLoop.assumeIsolated().scheduleTask(in: .nanoseconds(Int64(clamping: timeout))) { [self] in
      finish("no answer within the check's timeout")
    }
    var address = endpoint.resolved.address
    if let port = checks.port, address.port != nil { address.port = port }
    let connected = UpstreamChain.connect(
      self, loop, cluster, endpoint, address: address,
      proxyHeader: cluster.proxyProtocol.map { ProxyHeader.encode(.unknown, $0) }, tcp: checks.probe == .tcp,
      timeout: timeout)
    connected.assumeIsolated().whenComplete { [self] result in
      switch result {
      case .failure(let error): finish(Self.words(error))
      case .success(let ready): connectionMade(ready)
      }
    }
  }

  /// Nobody waits for the result any more.
  func cancel() {
    tell = nil
    finish("")
  }

  private func finish(_ failure: String?) {
    guard state != .over else { return }
    state = .over
    timer?.cancel()
    stream?.closeNow()
    context?.close(promise: nil)
    let tell = tell
    self.tell = nil
    tell?(failure)
  }

  private static func words(_ error: any Error) -> String {
    if case .connectTimeout = error as? ChannelError { return "no connection within the check's timeout" }
    if let failure = error as? TLSFailure { return failure.detail }
    if let error = error as? IOError { return String(cString: strerror(error.errnoCode)).lowercased() }
    return "the connection could not be made"
  }

  // MARK: Asking

  private func connectionMade(_ ready: UpstreamChain.Ready) {
    guard state == .connecting, let context else {
      self.context?.close(promise: nil)
      return finish("the connection closed at once")
    }
    if case .tcp = checks.probe { return finish(nil) }
    state = .asking
    let isStream = cluster.shared.tls == nil ? cluster.shared.configuration.spoken == .http2 : ready.spoken == .http2
    if isStream { return askStream(context) }
    guard case .http(let path) = checks.probe, cluster.shared.configuration.spoken != .http2 else {
      return finish("the endpoint does not offer HTTP/2 (ALPN `h2`)")
    }
    let head = ByteBuffer(string: head("GET", path, "Connection: close\r\n"))
    context.writeAndFlush(wrapOutboundOut(head), promise: nil)
  }

  private func head(_ method: String, _ path: String, _ fields: String) -> String {
    let host = checks.host ?? cluster.shared.configuration.hostHeader ?? endpoint.resolved.host
    return "\(method) \(path) HTTP/1.1\r\nHost: \(host)\r\nUser-Agent: outrider-health\r\n\(fields)\r\n"
  }

  private func askStream(_ context: ChannelHandlerContext) {
    let probe: HTTP2Probe
    let isHTTPS = cluster.shared.tls != nil
    switch checks.probe {
    case .grpc(let service):
      probe = HTTP2Probe(
        loop, head: head("POST", GRPCHealth.path, "Content-Type: application/grpc\r\n"),
        body: GRPCHealth.request(service: service), isHTTPS: isHTTPS
      ) { [self] in finish($0.refusalOfService) }
    case .http(let path):
      probe = HTTP2Probe(loop, head: head("GET", path, ""), body: nil, isHTTPS: isHTTPS) { [self] in
        finish($0.failure ?? refusal($0.status))
      }
    case .tcp: return
    }
    stream = probe
    do {
      try context.pipeline.syncOperations.addHandler(probe, position: .after(self))
      context.pipeline.syncOperations.removeHandler(self, promise: nil)
    } catch {
      finish("the connection closed at once")
    }
  }

  private func refusal(_ status: Int) -> String? {
    checks.statuses.contains { $0.contains(status) } ? nil : "status \(status)"
  }

  // MARK: Channel events

  func handlerAdded(context: ChannelHandlerContext) { self.context = context }
  func handlerRemoved(context: ChannelHandlerContext) { self.context = nil }

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    guard state == .asking, stream == nil else { return }
    var piece = unwrapInboundIn(data)
    received.writeBuffer(&piece)
    do {
      while let status = try nextStatus() {
        // 1xx are not the answer.
        if status >= 200 { return finish(refusal(status)) }
      }
    } catch {
      finish("the answer is not HTTP")
    }
  }

  /// The status of the next whole head in what was received.
  private func nextStatus() throws -> Int? {
    var scanner = HeadScanner()
    guard let length = try received.withUnsafeReadableBytes({ try scanner.scan($0, limits: loop.limits) }),
      let head = received.readSlice(length: length)
    else { return nil }
    var response = ResponseHead()
    try head.withUnsafeReadableBytes { try response.parse($0) }
    return response.status
  }

  func channelInactive(context: ChannelHandlerContext) {
    finish("the connection closed without an answer")
    context.fireChannelInactive()
  }

  func errorCaught(context: ChannelHandlerContext, error: any Error) {
    if stream == nil { finish(TLSFailure(upstream: error)?.detail ?? Self.words(error)) }
    context.close(promise: nil)
  }
}
