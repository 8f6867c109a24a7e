import HTTP1
import NIOCore
import Resilience
import Synchronization
import Traffic

/// A second try of an exchange that is still waiting for a response head, at another endpoint. It is an exchange of its
/// own as far as connections and legs go; the first head of the two wins, and the exchange goes on with its leg.
final class HedgeDriver: ExchangeDriver {
  private let first: ExchangeDriver
  override var lead: ExchangeDriver? { first }

  init(beside first: ExchangeDriver) {
    self.first = first
    super.init(loop: first.loop, listener: first.listener, session: first.session, takesContent: first.takesContent)
    phase = .exchange
    accept = first.accept
    clientAddress = first.clientAddress
    exchange = first.exchange
    exchange.tries.reusedConnection = false
    exchange.connectTime = 0
    exchange.tlsTime = 0
  }

  func begin(_ endpoint: LoopEndpoint, _ cluster: LoopCluster, _ now: UInt64) {
    exchange.headDone = now
    startTry(endpoint, cluster, now)
  }

  /// Nobody waits for it any more.
  func stop() {
    phase = .closed
    connectSerial += 1
    isConnecting = false
    loop.wheel.remove(self)
    let left = upstream
    upstream = nil
    left?.abandon()
  }

  /// Gives its leg away.
  func handOver() -> UpstreamLeg? {
    defer { upstream = nil }
    return upstream
  }

  // The request is complete, and what was sent of its body is kept by the exchange.
  override func replayBody(on leg: UpstreamLeg) { first.replayBody(on: leg) }
  override func sendBody(on leg: UpstreamLeg) { leg.flush() }

  override func responseHead(_ head: ByteBuffer, _ framing: BodyFraming, first part: ByteBuffer?, _ now: UInt64) {
    first.takeHedge()
    first.responseHead(head, framing, first: part, now)
    // Its leg still asks, until it has dealt with what it has read.
    exchange.unchunks = first.exchange.unchunks
  }
  override func flush() { first.flush() }

  override func deadlinePassed(_ now: UInt64) {
    guard phase == .exchange, now >= tryDeadline else { return }
    let slow = upstream
    upstream = nil
    slow?.abandon()
    tryFailed(.timeout, .tryTimeout, detail: "no response head within the per-try timeout")
  }
}

/// Hedging: of idempotent requests that are complete, once for each.
extension ExchangeDriver {
  /// One of the exchange's own tries is running.
  final var isUnderWay: Bool { upstream != nil || isConnecting }

  final func armHedge(_ time: UInt64) {
    guard exchange.tries.isIdempotent, exchange.tries.bodyKept, !exchange.isConnect else { return }
    hedgeAt = time
  }

  final func beginHedge(_ now: UInt64) {
    hedgeAt = .max
    defer { if phase == .exchange, !exchange.responseStarted { schedule(now) } }
    guard isUnderWay, exchange.requestDone, let cluster = exchange.route?.cluster, !cluster.isDestination,
      let busy = exchange.endpoint, let other = chooseEndpoint(cluster, excluding: busy, now: now), other !== busy
    else { return }
    let shared = cluster.shared
    guard
      cluster.budget.allows(
        retries: shared.retries.load(ordering: .relaxed), active: shared.requests.load(ordering: .relaxed))
    else { return cluster.rare.add(.retryOverflow) }
    shared.retries.wrappingAdd(1, ordering: .relaxed)
    cluster.rare.add(.hedge)
    exchange.triesMade += 1
    let second = HedgeDriver(beside: self)
    hedge = second
    second.begin(other, cluster, now)
  }

  /// The first head has come on the own leg, or the exchange is over.
  final func endHedge() {
    guard let second = hedge else { return }
    hedge = nil
    exchange.route?.cluster?.shared.retries.wrappingSubtract(1, ordering: .relaxed)
    second.stop()
  }

  /// The own try has failed while the other runs.
  final func waitForHedge() {
    tryDeadline = .max
    schedule(NIODeadline.now().uptimeNanoseconds)
  }

  /// The other try has failed.
  final func hedgeFailed(_ failure: TryFailure, _ fault: Fault, detail: String) {
    guard let second = hedge else { return }
    endHedge()
    guard phase == .exchange, !isUnderWay else { return }
    exchange.endpoint = second.exchange.endpoint
    exchange.tries.reusedConnection = false
    exchange.tries.responseSeen = second.exchange.tries.responseSeen
    goOn(after: failure, fault, detail: detail)
  }

  /// The other try has the first head: its leg is the exchange's from now on.
  final func takeHedge() {
    guard let second = hedge else { return }
    let loser = upstream
    upstream = second.handOver()
    upstream?.driver = self
    endHedge()
    exchange.route?.cluster?.rare.add(.hedgeWon)
    connectSerial += 1
    isConnecting = false
    tryDeadline = .max
    exchange.endpoint = second.exchange.endpoint
    exchange.responseSensitive = second.exchange.responseSensitive
    exchange.tryBegan = second.exchange.tryBegan
    exchange.sent = second.exchange.sent
    exchange.poolTime = second.exchange.poolTime
    exchange.overhead = second.exchange.overhead
    exchange.connectTime = second.exchange.connectTime
    exchange.tlsTime = second.exchange.tlsTime
    exchange.tries.responseSeen = true
    loser?.abandon()
  }
}
