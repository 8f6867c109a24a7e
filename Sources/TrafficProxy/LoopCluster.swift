import Logging
import NIOCore
import NIOPosix
import Resilience
import Synchronization
import Telemetry
import Traffic

/// An endpoint as one event loop sees it: its idle connections, newest last.
final class LoopEndpoint {
  /// Weight and place may change; the address and the name do not.
  var resolved: ResolvedEndpoint
  let host: [UInt8]
  let text: [UInt8]
  var idle = ContiguousArray<UpstreamHandler>()
  /// Connections that speak HTTP/2 and take more streams.
  var multiplexed = ContiguousArray<HTTP2Upstream>()
  /// The last connection to it spoke HTTP/2, or the first one may: those who need one wait for one that is being made.
  var isMultiplexed: Bool
  /// A connection is being made that others may wait for.
  var isConnecting = false
  var waiters: ContiguousArray<(driver: ExchangeDriver, serial: Int)> = []
  var active = 0
  /// Rested after a failed connect until then, when others exist.
  var restedUntil: UInt64 = 0
  /// What health checks and outlier detection say: false takes it out of the choice, once `availabilityChanged` of its
  /// cluster is called. Which may still choose it when too few are left (the panic threshold).
  var isAvailable = true
  /// What all loops know of it; nil = nobody asks.
  var health: EndpointHealth?
  /// How requests end is to be noted.
  var notesOutcomes = false
  /// Where success rates are compared.
  var tally: EndpointHealth.Tally?
  /// As `isAvailable` was when the choice was made last.
  fileprivate var wasAvailable = true
  /// When it joined the cluster or came back, for slow start; 0 = it was there from the start.
  fileprivate var joined: UInt64 = 0
  /// It has left the cluster: what is in flight ends, and nothing is kept.
  fileprivate(set) var isGone = false
  /// Until its response heads; kept for `peak_ewma` alone.
  var latency = PeakEWMA()

  init(_ resolved: ResolvedEndpoint, isMultiplexed: Bool) {
    self.isMultiplexed = isMultiplexed
    self.resolved = resolved
    host = Array(resolved.host.utf8)
    text = Array(resolved.text.utf8)
  }
}

extension LoopEndpoint {
  /// Those who waited for a connection that has come about, or has not.
  func takeWaiters() -> ContiguousArray<(driver: ExchangeDriver, serial: Int)> {
    isConnecting = false
    defer { waiters = [] }
    return waiters
  }
}

/// A cluster as one event loop sees it: endpoints, balancer and its own pool of kept connections.
final class LoopCluster {
  let shared: ClusterShared
  let poolIdle: UInt64
  let multiplexedIdle: UInt64
  let budget: RetryBudget
  let nameBytes: [UInt8]
  let hostHeader: [UInt8]?
  let proxyProtocol: ProxyHeader.Version?
  /// A client named it: its addresses are tried in their order, all of them, and the Host field stays the client's.
  let isDestination: Bool
  /// Connections that were opened for clients that have not spoken yet.
  var early = 0
  /// The endpoints greeted the last client that nobody had told the protocol of.
  var greets = false
  let connectionsTotal: Counter
  let connectionsActive: Gauge
  let retriesTotal: Counter
  let rare: RareEvents
  let connectFailures: Counter
  /// On the one loop that checks its endpoints.
  var monitor: ClusterMonitor?
  /// Nil = the cluster is plaintext.
  let tlsCounters: TLSCounters?
  private(set) var endpoints = ContiguousArray<LoopEndpoint>()
  /// Every request goes there; nil = there is a choice.
  private var only: LoopEndpoint?
  private var arrangement = EndpointArrangement([], balance: .random)
  /// What of a request is its key; nil = the cluster does not balance by one.
  let hashSource: CompiledHashSource?
  /// Response times are wanted.
  let timesResponses: Bool
  var failure: String?
  var isResolved = false
  private var waiters: [ExchangeDriver] = []
  private var balancer: Balancer

  /// `destinationsOf` names the listener that such clusters are made for; they share its series.
  init(
    _ shared: ClusterShared, metrics: MetricRegistry, logger: Logger, seed: UInt64,
    destinationsOf listener: String? = nil
  ) {
    self.shared = shared
    isDestination = listener != nil
    tlsCounters = shared.tls.map { TLSCounters($0.owner, place: $0.place, metrics: metrics, logger: logger) }
    let configuration = shared.configuration
    nameBytes = Array(configuration.name.utf8)
    poolIdle = configuration.poolIdle.nanoseconds
    multiplexedIdle = configuration.multiplexedIdle.nanoseconds
    proxyProtocol = configuration.proxyProtocol
    hostHeader = configuration.hostHeader.map { Array($0.utf8) }
    budget = RetryBudget(percent: configuration.retryBudgetPercent, minimum: configuration.retryBudgetMinimum)
    balancer = Balancer(
      configuration.balance, slowStart: SlowStart(window: configuration.slowStart.nanoseconds), seed: seed)
    hashSource = configuration.balance.isByHash ? CompiledHashSource(configuration.hashOn) : nil
    timesResponses = if case .peakEWMA = configuration.balance { true } else { false }
    let labels = [Label("cluster", listener.map { "\($0)/destinations" } ?? configuration.name)]
    rare = RareEvents(metrics, labels)
    connectionsTotal = metrics.counter(
      "outrider_upstream_connections_total", "Connections made to upstreams.", labels)
    connectionsActive = metrics.gauge(
      "outrider_upstream_connections_active", "Open connections to upstreams.", labels)
    retriesTotal = metrics.counter("outrider_upstream_retries_total", "Tries after the first.", labels)
    connectFailures = metrics.counter(
      "outrider_upstream_connect_failures_total", "Connections that could not be made.", labels)
    update()
  }

  /// Takes over what resolution found; kept connections of endpoints that stay are kept.
  func update() {
    switch shared.current {
    case .pending: return
    case .failed(let text): failure = text
    case .ready(let set):
      failure = nil
      take(set)
    }
    isResolved = true
    let resumed = waiters
    waiters = []
    for waiter in resumed { waiter.clusterResolved() }
  }

  /// Endpoints that stay keep their connections, and what is known of them.
  private func take(_ set: EndpointSet) {
    let now = endpoints.isEmpty ? 0 : NIODeadline.now().uptimeNanoseconds
    var old: [ResolvedEndpoint.Identity: LoopEndpoint] = [:]
    for endpoint in endpoints { old[endpoint.resolved.identity] = endpoint }
    endpoints = ContiguousArray(
      set.endpoints.map { resolved in
        if let known = old.removeValue(forKey: resolved.identity) {
          known.resolved = resolved
          return known
        }
        let new = LoopEndpoint(resolved, isMultiplexed: mayRefuse)
        new.joined = now
        return new
      })
    for endpoint in old.values { dismiss(endpoint) }
    arrangement = set.arrangement
    watchHealth()
    availabilityChanged()
  }

  /// Some endpoint's `isAvailable` has changed, or there are others: chooses anew whom requests go to.
  func availabilityChanged() {
    for endpoint in endpoints where endpoint.isAvailable != endpoint.wasAvailable {
      endpoint.wasAvailable = endpoint.isAvailable
      if endpoint.isAvailable { endpoint.joined = NIODeadline.now().uptimeNanoseconds }
    }
    let endpoints = endpoints
    balancer.arrange(arrangement, panicPercent: shared.configuration.panicPercent) {
      endpoints[$0].isAvailable
    } joined: {
      endpoints[$0].joined
    }
    only = balancer.only.map { endpoints[$0] }
    shared.metrics?.set(available: endpoints.count { $0.isAvailable }, of: endpoints.count)
  }

  var keepsHost: Bool { shared.isApp || isDestination }

  /// HTTP/2 may be spoken, where a stream can be refused: then a request can be sent again whatever its method.
  var mayRefuse: Bool {
    switch shared.configuration.spoken {
    case .http1: false
    case .http2: true
    case .auto: shared.tls != nil
    }
  }

  func wait(_ driver: ExchangeDriver) { waiters.append(driver) }

  /// `hash`: of the request's key, nil = it has none; read only when there is a `hashSource`.
  func pick(excluding: LoopEndpoint?, hash: UInt64?, now: UInt64) -> LoopEndpoint? {
    if let only { return only }
    if isDestination {
      let others = endpoints.filter { $0 !== excluding }
      return others.first { $0.restedUntil <= now } ?? others.first
    }
    let excluded = excluding.flatMap { failed in endpoints.firstIndex { $0 === failed } } ?? -1
    let picked = balancer.pick(hash: hash, excluding: excluded, now: now) { index in
      let endpoint = endpoints[index]
      return EndpointLoad(
        active: endpoint.active, isFresh: endpoint.restedUntil <= now, latency: endpoint.latency)
    }
    guard let picked else { return nil }
    return endpoints[picked]
  }

  /// Keeps no connection to it any more; requests in flight end as they would.
  private func dismiss(_ endpoint: LoopEndpoint) {
    endpoint.isGone = true
    let idle = endpoint.idle
    endpoint.idle = []
    for upstream in idle { upstream.close() }
    for upstream in endpoint.multiplexed { upstream.retire() }
    endpoint.forgetHealth()
  }

  func closeAll() {
    for endpoint in endpoints { dismiss(endpoint) }
    monitor?.end()
    monitor = nil
  }
}
