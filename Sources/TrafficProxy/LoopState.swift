import HTTP1
import HTTP2
import Logging
import NIOCore
import NIOPosix
import Resilience
import Synchronization
import Telemetry
import Traffic
import Transport
import Vocabulary

/// What all loops of a proxy share.
final class ProxyShared: Sendable {
  let metrics: MetricRegistry
  let events: EventStream
  let secrets: TrafficProxy.SecretResolver
  let logger: Logger
  let inFlightInbound = Atomic<Int>(0)
  let inFlightOutbound = Atomic<Int>(0)
  /// Where names are looked up: that blocks, and one slow name must not hold the others.
  let resolver = NIOThreadPool(numberOfThreads: 4)
  let discovery: Discovery
  var names: NameResolver { discovery.resolver }
  private let clusterMetrics = Mutex<[String: ClusterMetrics]>([:])
  let own = OwnAddresses()
  /// Of clusters by name.
  let outliers = Mutex<[String: OutlierCounters]>([:])
  private let loops = Mutex<[NIOLoopBound<LoopState>]>([])
  let bypass: Bypass
  let memory: MemoryWatch
  /// For what checks ask others.
  let outside: OutsideClient
  let drainingInbound = Atomic<Bool>(false)
  let drainingOutbound = Atomic<Bool>(false)
  private let listeners = Mutex<[ListenerID: OpenConnections]>([:])

  /// Accepted connections of a listener that are open on all loops.
  final class OpenConnections: Sendable {
    let count = Atomic<Int>(0)
    /// Somebody took the listener out of service.
    let isDraining = Atomic<Bool>(false)
  }

  /// The loops that `onEveryLoop` reaches from now on; none once the proxy is closed.
  func know(_ loops: [NIOLoopBound<LoopState>]) { self.loops.withLock { $0 = loops } }

  /// Does it in each loop, at that loop's next turn.
  func onEveryLoop(_ act: @escaping @Sendable (LoopState) -> Void) {
    for loop in loops.withLock({ $0 }) { loop.eventLoop.execute { act(loop.value) } }
  }

  func openConnections(of listener: ListenerID) -> OpenConnections {
    listeners.withLock { listeners in
      let open = listeners[listener] ?? OpenConnections()
      listeners[listener] = open
      return open
    }
  }

  /// Made with the first cluster of that name; a cluster that is gone has no endpoints.
  func metrics(of cluster: String) -> ClusterMetrics {
    clusterMetrics.withLock { all in
      let found = all[cluster] ?? ClusterMetrics(cluster, metrics)
      all[cluster] = found
      return found
    }
  }

  func forgetMetrics(except clusters: Set<String>) {
    let gone = clusterMetrics.withLock { $0.filter { !clusters.contains($0.key) } }
    for metrics in gone.values { metrics.set(available: 0, of: 0) }
  }

  init(
    metrics: MetricRegistry, events: EventStream, secrets: @escaping TrafficProxy.SecretResolver,
    endpointFiles: @escaping EndpointFileDecoder, logger: Logger, outside: OutsideClient
  ) {
    discovery = Discovery(pool: resolver, decode: endpointFiles, logger: logger)
    self.outside = outside
    self.metrics = metrics
    bypass = Bypass(metrics)
    memory = MemoryWatch(metrics, logger)
    self.events = events
    self.secrets = secrets
    self.logger = logger
  }

  @inline(__always)
  func addInFlight(_ direction: Direction, _ amount: Int) {
    switch direction {
    case .inbound: inFlightInbound.wrappingAdd(amount, ordering: .relaxed)
    case .outbound: inFlightOutbound.wrappingAdd(amount, ordering: .relaxed)
    }
  }

  func inFlight(_ direction: Direction) -> Int {
    direction == .inbound ? inFlightInbound.load(ordering: .relaxed) : inFlightOutbound.load(ordering: .relaxed)
  }

  @inline(__always)
  func isDraining(_ direction: Direction) -> Bool {
    switch direction {
    case .inbound: drainingInbound.load(ordering: .relaxed)
    case .outbound: drainingOutbound.load(ordering: .relaxed)
    }
  }
}

/// One configuration, compiled; loops take it over as a whole.
struct Snapshot: Sendable {
  var configuration: TrafficConfiguration
  var listeners: [CompiledListener]
  var clusters: [ClusterShared]

  /// What has certificates to keep current.
  var tls: [any ReloadingTLS] { listeners.compactMap(\.tls) + clusters.compactMap(\.tls) }
}

/// The request counters of a route on one loop, made when first needed.
final class RouteStats {
  private static let blames: [String] = ["none"] + Blame.allCases.map(\.rawValue)
  private let labels: [Label]
  private let metrics: MetricRegistry
  private var counters = ContiguousArray<Counter?>(repeating: nil, count: 36)

  init(_ metrics: MetricRegistry, _ direction: Direction, listener: String, route: String, cluster: String) {
    self.metrics = metrics
    labels = [
      Label("direction", direction.rawValue), Label("listener", listener), Label("route", route),
      Label("cluster", cluster),
    ]
  }

  func count(status: Int, blame: Blame?) {
    let group = min(max(status / 100, 0), 5)
    let guilty = blame.map { (Blame.allCases.firstIndex(of: $0) ?? -1) + 1 } ?? 0
    let index = group * 6 + guilty
    if let counter = counters[index] { return counter.addAsOwner() }
    let counter = metrics.counter(
      "outrider_http_requests_total", "Requests answered.",
      labels + [Label("code_class", group == 0 ? "none" : "\(group)xx"), Label("blame", Self.blames[guilty])])
    counters[index] = counter
    counter.addAsOwner()
  }
}

/// A route as one loop sees it.
final class LoopRoute {
  let compiled: CompiledRoute
  let cluster: LoopCluster?
  let stats: RouteStats
  let nameBytes: [UInt8]
  /// What records say of it: members of a JSON object.
  let recordText: [UInt8]
  /// Where copies of its requests go; nil = nowhere.
  var mirror: LoopMirror?
  /// Of a split: the same route with each of its clusters.
  var parts: [LoopRoute] = []

  init(_ compiled: CompiledRoute, _ cluster: LoopCluster?, _ stats: RouteStats) {
    self.compiled = compiled
    self.cluster = cluster
    self.stats = stats
    nameBytes = Array(compiled.name.utf8)
    var record = ByteBuffer(string: ",\"route\":\"")
    record.writeJSON(nameBytes)
    if let cluster {
      record.writeStaticString("\",\"cluster\":\"")
      record.writeJSON(cluster.nameBytes)
    }
    record.writeStaticString("\"")
    recordText = Array(record.readableBytesView)
  }
}

/// A listener as one loop sees it; `compiled` and `routes` change together on a reload.
final class LoopListener {
  var compiled: CompiledListener
  var routes: [LoopRoute] = []
  /// A reload took it away: what is in flight ends, every answer closes its connection.
  var isLeaving = false
  /// Where requests lead that name their destination; nil = nowhere.
  var destinations: Destinations?
  /// Of intercepted connections, by cluster; made when first needed.
  var clusterRoutes: [String: LoopRoute] = [:]
  let noRoute: RouteStats
  let nameBytes: [UInt8]
  /// What records say of it: members of a JSON object.
  let recordText: [UInt8]
  let duration: Histogram
  let overhead: Histogram
  let connectionsTotal: Counter
  let connectionsActive: Gauge
  let open: ProxyShared.OpenConnections
  /// Nil = the listener is plaintext.
  private(set) var tlsCounters: TLSCounters?
  let refusals: Refusals
  /// It has as many connections as it may.
  private var isFull: Bool { open.count.load(ordering: .relaxed) >= compiled.maxConnections }

  /// True when another connection is refused, which is counted and told.
  func refusesFull(_ loop: LoopState) -> Bool {
    guard isFull else { return false }
    refusals.count("it has \(compiled.maxConnections) connections, its limit", loop, compiled.name)
    return true
  }

  private let metrics: MetricRegistry
  /// Clients that broke HTTP/2 or cost too much.
  private(set) lazy var violations = Refusals(
    metrics.counter(
      "outrider_http2_violations_total", "HTTP/2 connections of clients that were ended with an error.",
      [Label("direction", compiled.direction.rawValue), Label("listener", compiled.name)]),
    what: "ended an HTTP/2 connection")

  /// Conditions of routes that were not decided; there once a route has such conditions.
  private lazy var matchLimits = metrics.counter(
    "outrider_route_match_limits_total", "Conditions of routes that did not match since they would have cost too much.",
    [Label("direction", compiled.direction.rawValue), Label("listener", compiled.name)])

  init(_ compiled: CompiledListener, _ shared: ProxyShared) {
    self.compiled = compiled
    metrics = shared.metrics
    let metrics = shared.metrics
    open = shared.openConnections(of: compiled.id)
    nameBytes = Array(compiled.name.utf8)
    var record = ByteBuffer(string: ",\"listener\":\"")
    record.writeJSON(nameBytes)
    record.writeString("\",\"direction\":\"\(compiled.direction.rawValue)\"")
    recordText = Array(record.readableBytesView)
    let direction = Label("direction", compiled.direction.rawValue)
    let listener = Label("listener", compiled.name)
    noRoute = RouteStats(metrics, compiled.direction, listener: compiled.name, route: "none", cluster: "")
    duration = metrics.histogram(
      "outrider_http_request_duration_seconds", "From a request's first byte to its response's last.",
      [direction, listener])
    overhead = metrics.histogram(
      "outrider_overhead_seconds", "Time that the sidecar itself added to a request.", [direction],
      bounds: Histogram.overheadBounds)
    connectionsTotal = metrics.counter(
      "outrider_downstream_connections_total", "Connections accepted.", [direction, listener])
    connectionsActive = metrics.gauge(
      "outrider_downstream_connections_active", "Open accepted connections.", [direction, listener])
    refusals = Refusals(
      metrics.counter(
        "outrider_downstream_refused_total", "Connections refused before their first request.", [direction, listener]))
  }

  /// Counts a rewrite that would have cost too much.
  func noteLimit() { matchLimits.add() }

  /// Counts the conditions that were not decided.
  func noteLimits(of scratch: RouteScratch) {
    let exceeded = scratch.takeExceeded()
    if exceeded > 0 { matchLimits.add(UInt64(exceeded)) }
  }

  func take(_ compiled: CompiledListener, _ shared: ProxyShared) {
    self.compiled = compiled
    if compiled.table.hasLimits { matchLimits.add(0) }
    guard let tls = compiled.tls, tlsCounters == nil else { return }
    tlsCounters = TLSCounters(tls.owner, place: tls.place, metrics: shared.metrics, logger: shared.logger)
  }
}

/// Everything that one event loop owns. Never leaves its loop.
final class LoopState {
  let eventLoop: EpollLoop
  let shared: ProxyShared
  let wheel: TimerWheel
  var limits = HeadLimits()
  var watermark = 256 << 10
  var replayLimit = 64 << 10
  var listeners: [ListenerID: LoopListener] = [:]
  var clusters: [String: LoopCluster] = [:]
  /// Replaced by a reload while requests wait for their first resolution.
  private var leaving: [LoopCluster] = []
  /// The same, in the order of the configuration.
  var ordered: [LoopCluster] = []
  var downstreams: [ObjectIdentifier: DownstreamHandler] = [:]
  /// Accepted connections that speak HTTP/2.
  var multiplexed: [ObjectIdentifier: HTTP2Downstream] = [:]
  /// Accepted connections that no protocol's handler has yet.
  var pending: [ObjectIdentifier: PendingConnection] = [:]
  /// Accepted connections that pass the proxy by.
  var splices: [ObjectIdentifier: Splice] = [:]
  var random: SeededRandom
  let routing: RouteScratch
  /// Heads are built here, after `clearScratch`.
  var scratch: ByteBuffer
  var gathering = RecordGathering()
  var request = RequestHead()
  var response = ResponseHead()
  /// One HTTP/2 head at a time, as it came, and one of each kind on its way out.
  var workspace = HTTP2Workspace()
  var downstreamLimits = HTTP2Limits()
  var upstreamLimits = HTTP2Limits()
  var outgoingRequest = RequestHead()
  var outgoingResponse = ResponseHead()
  var outgoingTrailers = FieldTable()
  /// HTTP/2 connections that have something to send when this turn of the loop is over.
  var dirty: ContiguousArray<HTTP2Handler> = []
  /// The buffer of a connection that is idle.
  var spareOutput = ByteBuffer()
  var access: AccessLogWriter
  var stories = StoryKeeper()
  /// Fraction of the requests without a trace that one is recorded for; below 0 = tracing is off.
  var traceSample = -1.0
  /// The proxy ends: what is cut now is cut by it.
  var isClosing = false
  /// Tokens that were verified.
  var tokens = TokenMemory()
  private var stats: [String: RouteStats] = [:]
  var mirrorStats: [String: MirrorStats] = [:]
  private let departures = Departures()
  private var scratches = ScratchBuffers()
  private var isTurnEnding = false
  private var isPublishing = false
  /// Which of how many loops this is.
  let place: (index: Int, count: Int)

  init(eventLoop: EpollLoop, shared: ProxyShared, seed: UInt64, place: (index: Int, count: Int) = (0, 1)) {
    self.place = place
    self.eventLoop = eventLoop
    self.shared = shared
    wheel = TimerWheel(eventLoop: eventLoop)
    random = SeededRandom(seed: seed)
    routing = RouteScratch(seed: random.next())
    scratch = ByteBufferAllocator().buffer(capacity: ScratchBuffers.size)
    access = AccessLogWriter(events: shared.events)
  }

  /// Makes `scratch` an empty buffer that nobody else has: what is written leaves at the end of the turn.
  @inline(__always)
  func clearScratch() {
    if scratch.modifyIfUniquelyOwned({ $0.clear() }) == nil { scratches.exchange(&scratch) }
  }

  /// When the kernel told what is dealt with now.
  var turnBegan: UInt64 { eventLoop.turnBegan }

  /// The exchange's request is on its way out at `now`.
  func requestLeaves(_ driver: ExchangeDriver, _ now: UInt64) { departures.add(driver, now) }

  /// So is the last of a response, after the sidecar took `overhead` for its exchange.
  func responseLeaves(_ listener: LoopListener, overhead: UInt64, _ now: UInt64) {
    departures.add(listener, overhead: overhead, now)
  }

  /// Takes over a new snapshot. Exchanges that run keep the routes and clusters they have.
  func apply(_ snapshot: Snapshot) {
    eventLoop.onWritten = { [unowned self] isLast in if isLast || !isTurnEnding { departures.settle() } }
    let configuration = snapshot.configuration
    limits = HeadLimits(bytes: configuration.maxHeadBytes, fields: configuration.maxFields)
    workspace = HTTP2Workspace(limits: FieldListLimits(octets: limits.bytes, fields: limits.fields))
    watermark = MemoryWatch.watermark(configuration.watermark)
    let window = max(65_535, watermark)
    downstreamLimits.streamWindow = window
    downstreamLimits.connectionWindow = 16 * window
    // Many clients share it: those who are slow must not hold back the others.
    upstreamLimits.openedStreams = 256
    upstreamLimits.streamWindow = window
    upstreamLimits.connectionWindow = 256 * window
    replayLimit = configuration.replayLimit
    stories.take(configuration.stories, loops: place.count)
    traceSample = configuration.tracing?.sample ?? -1
    var next: [String: LoopCluster] = [:]
    for shared in snapshot.clusters {
      let name = shared.configuration.name
      if let old = clusters[name], old.shared === shared {
        next[name] = old
      } else {
        let fresh = LoopCluster(
          shared, metrics: self.shared.metrics, logger: self.shared.logger, seed: random.next())
        if isHome(of: name) { fresh.beginMonitoring(self) }
        next[name] = fresh
      }
    }
    for (name, old) in clusters where next[name] !== old {
      old.closeAll()
      if !old.isResolved { leaving.append(old) }
    }
    clusters = next
    var kept: [ListenerID: LoopListener] = [:]
    ordered = snapshot.clusters.compactMap { next[$0.configuration.name] }
    for compiled in snapshot.listeners {
      let old = listeners[compiled.id]
      // Connections of the other protocol go on as they began.
      let listener =
        old?.compiled.isTCP == compiled.isTCP ? old ?? LoopListener(compiled, shared) : LoopListener(compiled, shared)
      listener.take(compiled, shared)
      listener.routes = routes(compiled, next)
      listener.clusterRoutes = [:]
      listener.destinations?.closeAll()
      listener.destinations = compiled.destinationRoute.map { route in
        Destinations(self, compiled, route, stats(compiled, route.name, "\(compiled.name)/destinations"))
      }
      kept[compiled.id] = listener
    }
    for (id, old) in listeners where kept[id] !== old { retire(old) }
    listeners = kept
  }

  /// Lets a listener's connections end: at their next answer, or after five seconds without a request.
  private func retire(_ listener: LoopListener) {
    listener.isLeaving = true
    endConnections(of: listener)
  }

  /// Resolution has found something new for that cluster.
  func resolutionChanged(_ shared: ClusterShared) {
    for cluster in leaving where cluster.shared === shared { cluster.update() }
    leaving.removeAll(where: \.isResolved)
    if let cluster = clusters[shared.configuration.name], cluster.shared === shared { cluster.update() }
  }

  func stats(_ compiled: CompiledListener, _ route: String, _ cluster: String) -> RouteStats {
    let key = "\(compiled.direction.rawValue) \(compiled.name) \(route) \(cluster)"
    let found =
      stats[key]
      ?? RouteStats(shared.metrics, compiled.direction, listener: compiled.name, route: route, cluster: cluster)
    stats[key] = found
    return found
  }

  /// Publishes what was recorded soon: whoever takes it is woken for many records at once.
  func accessChanged() {
    if access.pendingBytes >= 256 << 10 { return access.publish() }
    guard !isPublishing else { return }
    isPublishing = true
    eventLoop.assumeIsolated().scheduleTask(in: Self.gatheringTime) { [self] in
      isPublishing = false
      access.publish()
    }
  }

  /// The longest that an access record waits for others.
  private static let gatheringTime = TimeAmount.milliseconds(20)

  /// Everything that became ready in this turn of the loop is dealt with before its end.
  func endTurnLater() {
    guard !isTurnEnding else { return }
    isTurnEnding = true
    eventLoop.assumeIsolated().execute { [self] in endTurn() }
  }

  private func endTurn() {
    while let handler = dirty.popLast() { handler.flushNow() }
    isTurnEnding = false
  }
}
