import Logging
import NIOCore
import NIOPosix
import Resilience
import Synchronization
import Telemetry
import Traffic

/// An endpoint as one event loop sees it: its idle connections, newest last.
final class LoopEndpoint {
  let resolved: ResolvedEndpoint
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

  init(_ resolved: ResolvedEndpoint, isMultiplexed: Bool) {
    self.isMultiplexed = isMultiplexed
    self.resolved = resolved
    host = Array(resolved.host.utf8)
    if let ip = resolved.address.ipAddress, let port = resolved.address.port {
      text = Array((ip.contains(":") ? "[\(ip)]:\(port)" : "\(ip):\(port)").utf8)
    } else {
      text = Array("unix:\(resolved.address.pathname ?? "")".utf8)
    }
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
  /// Those of `endpoints` that requests go to.
  private var pickable = ContiguousArray<LoopEndpoint>()
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
    balancer = Balancer(configuration.balance, seed: seed)
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
    case .ready(let list):
      failure = nil
      let old = endpoints
      endpoints = ContiguousArray(
        list.map { resolved in
          old.first { $0.resolved == resolved } ?? LoopEndpoint(resolved, isMultiplexed: mayRefuse)
        })
      for endpoint in old where !endpoints.contains(where: { $0 === endpoint }) {
        closeIdle(endpoint)
        endpoint.forgetHealth()
      }
      watchHealth()
      availabilityChanged()
    }
    isResolved = true
    let resumed = waiters
    waiters = []
    for waiter in resumed { waiter.clusterResolved() }
  }

  /// Some endpoint's `isAvailable` has changed, or there are others: chooses anew whom requests go to.
  func availabilityChanged() {
    let available = ContiguousArray(endpoints.filter(\.isAvailable))
    let isPanic = available.count * 100 < shared.configuration.panicPercent * endpoints.count
    pickable = isPanic ? endpoints : available
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

  func pick(excluding: LoopEndpoint?, now: UInt64) -> LoopEndpoint? {
    if pickable.count == 1 { return pickable[0] }
    if isDestination {
      let others = pickable.filter { $0 !== excluding }
      return others.first { $0.restedUntil <= now } ?? others.first
    }
    let excluded = excluding.flatMap { failed in pickable.firstIndex { $0 === failed } } ?? -1
    let picked = balancer.pick(count: pickable.count, excluding: excluded) { index in
      let endpoint = pickable[index]
      return EndpointLoad(
        active: endpoint.active, weight: endpoint.resolved.weight, isFresh: endpoint.restedUntil <= now)
    }
    guard let picked else { return nil }
    return pickable[picked]
  }

  func closeIdle(_ endpoint: LoopEndpoint) {
    let idle = endpoint.idle
    endpoint.idle = []
    for upstream in idle { upstream.close() }
    for upstream in endpoint.multiplexed { upstream.retire() }
  }

  func closeAll() {
    for endpoint in endpoints {
      closeIdle(endpoint)
      endpoint.forgetHealth()
    }
    monitor?.end()
    monitor = nil
  }
}
