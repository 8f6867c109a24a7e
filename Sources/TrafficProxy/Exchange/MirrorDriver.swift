import HTTP1
import NIOCore
import Resilience
import Synchronization
import Telemetry
import Traffic

/// Where copies of a route's requests go, as one loop sees it.
final class LoopMirror {
  /// The route with the mirror's cluster in place of its own.
  let route: LoopRoute
  let fraction: Double
  let stats: MirrorStats

  init(_ route: LoopRoute, fraction: Double, _ stats: MirrorStats) {
    self.route = route
    self.fraction = fraction
    self.stats = stats
  }
}

/// What became of mirrored requests; counters are made when first needed.
final class MirrorStats {
  enum Result: String, CaseIterable {
    case answered, failed
    /// The mirror's cluster has as many requests as it may.
    case overflow
    /// The body does not fit what is kept for replays.
    case tooLarge = "too_large"
    /// The request never became complete.
    case incomplete
  }

  private let labels: [Label]
  private let metrics: MetricRegistry
  private var counters = ContiguousArray<Counter?>(repeating: nil, count: Result.allCases.count)

  init(_ metrics: MetricRegistry, _ listener: CompiledListener, route: String, cluster: String) {
    self.metrics = metrics
    labels = [
      Label("direction", listener.direction.rawValue), Label("listener", listener.name), Label("route", route),
      Label("cluster", cluster),
    ]
  }

  func count(_ result: Result) {
    let index = Result.allCases.firstIndex(of: result) ?? 0
    if let counter = counters[index] { return counter.addAsOwner() }
    let counter = metrics.counter(
      "outrider_mirror_requests_total", "Copies of requests, by what became of them.",
      labels + [Label("result", result.rawValue)])
    counters[index] = counter
    counter.addAsOwner()
  }
}

/// A copy of a request without a client: it is sent once, and its response is read and forgotten. It is in no record
/// and no drain waits for it.
final class MirrorDriver: ExchangeDriver {
  private let stats: MirrorStats
  private var isChunked = false

  /// The request of `first` is complete; `content` is its body without framing.
  init(of first: ExchangeDriver, to mirror: LoopMirror, content: ByteBuffer, trailers: ByteBuffer?, _ now: UInt64) {
    stats = mirror.stats
    super.init(loop: first.loop, listener: first.listener, session: first.session, takesContent: true)
    isShadow = true
    accept = first.accept
    clientAddress = first.clientAddress
    let original = first.exchange
    // A copy, so that the buffer it was received in is free again.
    exchange.head = ByteBuffer()
    exchange.head.writeImmutableBuffer(original.head)
    exchange.method = original.method
    exchange.methodText = original.methodText
    exchange.path = original.path
    exchange.pathOnlyCount = original.pathOnlyCount
    exchange.rewrittenTarget = original.rewrittenTarget
    exchange.minorVersion = original.minorVersion
    exchange.requestID = original.requestID
    exchange.traceID = original.traceID
    exchange.requestIDText = original.requestIDText
    exchange.traceIDText = original.traceIDText
    exchange.sensitive = original.sensitive
    exchange.acceptsTrailers = original.acceptsTrailers
    exchange.isSampled = original.isSampled
    exchange.passage = original.passage
    exchange.replay = content
    exchange.trailers = trailers
    exchange.route = mirror.route
    exchange.started = now
    exchange.headDone = now
    exchange.tries.isIdempotent = original.method.isIdempotent
    // A stale connection is replaced, and that is all: the mirror gets no request twice.
    exchange.tries.retries = mirror.route.compiled.policy.attempts
  }

  func start(_ now: UInt64) {
    phase = .exchange
    guard let cluster = exchange.route?.cluster else { return end(.failed) }
    exchange.countsAsRequest = true
    let active = cluster.shared.requests.wrappingAdd(1, ordering: .relaxed).newValue
    if active > cluster.shared.configuration.maxRequests { return end(.overflow) }
    guard (try? exchange.head.withUnsafeReadableBytes({ try loop.request.parse($0) })) != nil else {
      return end(.failed)
    }
    isChunked = loop.request.table.isChunked
    // The whole response included: nobody reads a stream that goes on and on.
    let timeout = exchange.route?.compiled.timeout ?? 0
    exchange.routeDeadline = now &+ (timeout > 0 ? timeout : listener.compiled.idleTimeout)
    exchange.grpcDeadline = exchange.routeDeadline
    schedule(now)
    startTry(now)
  }

  private func end(_ result: MirrorStats.Result) {
    guard phase == .exchange else { return }
    phase = .closed
    connectSerial += 1
    isConnecting = false
    loop.wheel.remove(self)
    let left = upstream
    upstream = nil
    left?.abandon()
    if exchange.countsAsRequest {
      exchange.route?.cluster?.shared.requests.wrappingSubtract(1, ordering: .relaxed)
    }
    stats.count(result)
    exchange = Exchange()
  }

  // MARK: The request

  override func replayBody(on leg: UpstreamLeg) {
    let content = exchange.replay ?? ByteBuffer()
    if leg.takesContent {
      if content.readableBytes > 0 { leg.write(content) }
      leg.endRequest(trailers: exchange.trailers)
    } else if isChunked {
      if content.readableBytes > 0 { Chunks.append(content, to: &loop.scratch) }
      loop.scratch.writeImmutableBuffer(Chunks.end(exchange.trailers))
    } else {
      loop.scratch.writeImmutableBuffer(content)
    }
  }
  override func sendBody(on leg: UpstreamLeg) { leg.flush() }

  // MARK: The response

  override func responseHead(_ head: ByteBuffer, _ framing: BodyFraming, first: ByteBuffer?, _ now: UInt64) {
    exchange.responseStarted = true
    loop.wheel.set(self, exchange.routeDeadline, now: now)
  }
  override func responseEnded(delimited: Bool) {
    upstream = nil
    end(.answered)
  }
  override func answer(status: Int, fields: [UInt8], body: [UInt8]) { end(.failed) }
  override func upgraded(_ head: ByteBuffer, _ now: UInt64) { end(.failed) }
  override func cut() { end(.failed) }
  override func closeNow() { end(.failed) }

  override func deadlinePassed(_ now: UInt64) {
    guard phase == .exchange else { return }
    if exchange.responseStarted { return end(.answered) }
    exchangeDeadlinePassed(now)
  }
}

/// Mirroring: a copy of a request goes out once the request is complete.
extension ExchangeDriver {
  /// Decides whether the request is mirrored; its body is kept then.
  final func considerMirror(_ mirror: LoopMirror) {
    if exchange.wantsUpgrade || exchange.isConnect { return }
    if mirror.fraction < 1, loop.routing.draw() >= mirror.fraction { return }
    exchange.mirror = mirror
  }

  /// Sends the copy, now that the request is complete or will never be.
  final func sendMirror(_ now: UInt64) {
    guard let mirror = exchange.mirror else { return }
    exchange.mirror = nil
    guard exchange.requestDone else { return mirror.stats.count(.incomplete) }
    guard exchange.tries.bodyKept else { return mirror.stats.count(.tooLarge) }
    guard let (content, trailers) = wholeBody() else { return mirror.stats.count(.failed) }
    MirrorDriver(of: self, to: mirror, content: content, trailers: trailers, now).start(now)
  }

  /// What was kept of the body, without framing.
  private func wholeBody() -> (ByteBuffer, ByteBuffer?)? {
    let kept = exchange.replay ?? ByteBuffer()
    guard case .chunked = exchange.framing else { return (kept, exchange.trailers) }
    var decoder = BodyDecoder(exchange.framing)
    var content = ByteBuffer()
    var trailers = ByteBuffer()
    let isRead = kept.withUnsafeReadableBytes { bytes in
      (try? decoder.consume(bytes) { range in
        content.writeBytes(UnsafeRawBufferPointer(rebasing: bytes[range]))
      } trailer: { range in
        trailers.writeBytes(UnsafeRawBufferPointer(rebasing: bytes[range]))
      }) != nil
    }
    guard isRead, decoder.isComplete else { return nil }
    return (content, trailers.readableBytes > 2 ? trailers : nil)
  }
}
