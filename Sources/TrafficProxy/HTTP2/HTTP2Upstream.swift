import HTTP2
import NIOCore
import Synchronization
import Telemetry
import Traffic

/// A connection to an upstream that speaks HTTP/2: many exchanges of one event loop use it at once.
final class HTTP2Upstream: HTTP2Handler {
  let cluster: LoopCluster
  let endpoint: LoopEndpoint
  /// What the connection began with, and so whose it is; nil = anybody's.
  let proxyHeader: [UInt8]?
  /// Streams that were opened.
  private(set) var served = 0
  private var streams = ContiguousArray<UpstreamStream?>()
  /// Streams between `stream()` and their head.
  private var spare: UpstreamStream?
  private var idleSince: UInt64 = 0
  private var lastReceived: UInt64 = 0
  private var pingSent: UInt64 = 0
  private var isPooled = false
  private var isCountedOut = false
  private var settingsWaiters: ContiguousArray<(driver: ExchangeDriver, serial: Int)> = []

  /// Silence after which a connection with open streams is asked whether it lives, and the time for its answer.
  private static let silence: UInt64 = 30_000_000_000
  private static let pingTime: UInt64 = 10_000_000_000

  private init(_ made: UpstreamHandler) {
    cluster = made.cluster
    endpoint = made.endpoint
    proxyHeader = made.proxyHeader
    super.init(.client, made.loop, limits: made.loop.upstreamLimits)
  }

  /// Takes the place of a handler that was made before it was known what is spoken; nil when the connection is gone.
  static func take(over made: UpstreamHandler) -> HTTP2Upstream? {
    guard let context = made.context, context.channel.isActive, made.isUsable else { return nil }
    let upstream = HTTP2Upstream(made)
    do {
      try context.pipeline.syncOperations.addHandler(upstream, position: .after(made))
    } catch {
      return nil
    }
    made.leave()
    upstream.isPooled = true
    made.endpoint.multiplexed.append(upstream)
    return upstream
  }

  // MARK: What exchanges ask

  enum Room { case open, full, closed }

  /// Whether a stream can be opened for such a request.
  func room(upgrades: Bool) -> Room {
    if isClosed { return .closed }
    // HTTP/1.1 upgrades more than WebSocket, and everybody who speaks both can.
    if upgrades, cluster.shared.configuration.spoken == .auto { return .full }
    switch connection.openness {
    case .open: return .open
    case .full: return .full
    case .closed: return .closed
    }
  }

  /// A leg on this connection; its stream is opened with its head.
  func stream() -> UpstreamStream {
    defer { spare = nil }
    return spare ?? UpstreamStream(self)
  }

  func opened(_ stream: UpstreamStream, _ key: StreamKey) {
    let slot = Int(key.slot)
    while streams.count <= slot { streams.append(nil) }
    // What served this slot before serves the next stream of any.
    spare = streams[slot]
    streams[slot] = stream
    served += 1
    if served >= cluster.shared.configuration.maxRequestsPerConnection ?? .max { retire() }
  }

  /// No more streams; it ends with the last one.
  func retire() {
    forget()
    drain()
  }

  private func forget() {
    guard isPooled else { return }
    isPooled = false
    endpoint.multiplexed.removeAll { $0 === self }
  }

  /// Whether it takes an upgrade is known once its settings are there: calls `settingsArrived` then.
  func waitForSettings(_ driver: ExchangeDriver, _ serial: Int) { settingsWaiters.append((driver, serial)) }

  var isEstablished: Bool { connection.isEstablished }

  /// No stream is open on it, and none is about to be.
  var isUnused: Bool { connection.openStreams == 0 && settingsWaiters.isEmpty }

  private func settingsArrived() {
    let waiters = settingsWaiters
    settingsWaiters = []
    for waiter in waiters { waiter.driver.settingsArrived(waiter.serial, self) }
  }

  // MARK: The connection

  override func opened(_ context: ChannelHandlerContext, _ now: UInt64) {
    idleSince = now
    lastReceived = now
  }

  override func lost(_ now: UInt64) {
    forget()
    if !isCountedOut {
      isCountedOut = true
      cluster.connectionsActive.add(-1)
      cluster.shared.connections.wrappingSubtract(1, ordering: .relaxed)
    }
    settingsArrived()
    let reason = connection.problem.map { "\($0.reason)" }
    let left = streams
    // They hold this connection.
    streams = []
    spare = nil
    for stream in left { stream?.connectionLost(reason) }
  }

  override func writabilityChanged() {
    for stream in streams { stream?.updateWritability() }
  }

  override func becameIdle(_ now: UInt64) {
    idleSince = now
    if endpoint.isGone { retire() }
  }

  override func burstEnded(_ now: UInt64) {
    lastReceived = now
    pingSent = 0
    if case .closed = room(upgrades: false) { forget() }
  }

  override func ownDeadline(_ now: UInt64) -> UInt64 {
    if connection.openStreams == 0 { return idleSince &+ cluster.multiplexedIdle }
    return pingSent > 0 ? pingSent &+ Self.pingTime : lastReceived &+ Self.silence
  }

  override func ownDeadlinePassed(_ now: UInt64) {
    if connection.openStreams == 0 { return retire() }
    if pingSent > 0 {
      lost(now)
      return end(now)
    }
    pingSent = now
    connection.ping(now, to: &out)
  }

  override func handle(_ event: HTTP2Event, _ now: UInt64) {
    switch event {
    case .informational(let key): stream(key)?.interim(loop.workspace.head)
    case .response(let key, let ends): stream(key)?.response(loop.workspace.head, loop.workspace.facts, ends, now)
    case .data(let key, let count, let ends):
      guard let slice = input.readSlice(length: count) else { return }
      if let stream = stream(key) { stream.receive(slice, ends: ends, now) } else { credit(key, count) }
    case .trailers(let key): stream(key)?.receiveTrailers(loop.workspace.head, now)
    case .reset(let key, let code, let byPeer): stream(key)?.wasReset(code, byPeer: byPeer)
    case .stalled(let key): stream(key)?.stalled()
    case .settings, .writable:
      if !settingsWaiters.isEmpty { settingsArrived() }
      while let key = connection.nextWritable() { stream(key)?.resumeSending() }
    case .goAway: forget()
    case .needsInput, .request, .oversizedRequest, .rejected, .pong, .failed: break
    }
  }

  func credit(_ key: StreamKey, _ count: Int) {
    connection.consumed(key, count, to: &out)
    flush()
  }

  private func stream(_ key: StreamKey) -> UpstreamStream? {
    let slot = Int(key.slot)
    guard slot < streams.count, let stream = streams[slot], stream.key == key else { return nil }
    return stream
  }
}
