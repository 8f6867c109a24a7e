package import Logging
import NIOCore
package import NIOPosix
package import Secrets
import Synchronization
package import Telemetry
package import Traffic
import Transport
package import Vocabulary

/// The proxy: listeners on given descriptors, one state per event loop, one compiled snapshot for all.
package final class TrafficProxy: Sendable {
  /// The bytes of a template with its secrets; nil = a secret is missing.
  package typealias SecretResolver = @Sendable (SecretTemplate) -> [UInt8]?

  struct Worker: Sendable {
    let eventLoop: EpollLoop
    let state: NIOLoopBound<LoopState>
  }

  private struct State {
    var snapshot: Snapshot
    var servers: [Server] = []
    /// Counts configurations, so that the TLS watch never goes back to an older one.
    var generation = 1
    var isClosed = false
  }

  private struct Server: Sendable {
    let listener: ListenerID
    let address: Address?
    let socket: ListeningSocket
    let last: LastConnections?
  }

  let shared: ProxyShared
  let workers: [Worker]
  private let state: Mutex<State>
  private let tls: TLSWatch
  private let gates: GateBook
  private let keys = KeyWatch()

  /// `app` is where the cluster named `app` leads; nil when there is no app to reach. `book` holds the secrets that
  /// TLS certificates are taken from; `endpointFiles` reads what the `file` of a cluster holds. Throws when a file of a `tls` cannot be used.
  package init(
    configuration: TrafficConfiguration, app: Address?, threads: Int, group: MultiThreadedEventLoopGroup,
    metrics: MetricRegistry, events: EventStream, secrets: @escaping SecretResolver, book: SecretBook = SecretBook(),
    endpointFiles: @escaping EndpointFileDecoder, logger: Logger
  ) throws {
    let outside = OutsideClient(group: group)
    let shared = ProxyShared(
      metrics: metrics, events: events, secrets: secrets, endpointFiles: endpointFiles, logger: logger,
      outside: outside)
    self.shared = shared
    shared.resolver.start()
    shared.memory.start()
    shared.own.configure(configuration)
    let tls = TLSWatch(material: MaterialSource(book: book), metrics: metrics, logger: logger)
    self.tls = tls
    gates = GateBook(metrics: metrics, logger: logger, client: outside)
    let snapshot = try Self.compile(configuration, app: app, keeping: nil, tls.material, gates, shared)
    state = Mutex(State(snapshot: snapshot))
    var generator = SystemRandomNumberGenerator()
    let eventLoops = try (0..<max(1, threads)).map { _ in try EpollLoop() }
    workers = try eventLoops.enumerated().map { index, eventLoop in
      let seed = generator.next()
      return try eventLoop.submit {
        let loop = LoopState(
          eventLoop: eventLoop, shared: shared, seed: seed, place: (index, eventLoops.count))
        loop.apply(snapshot)
        return Worker(eventLoop: eventLoop, state: NIOLoopBound(loop, eventLoop: eventLoop))
      }.wait()
    }
    shared.know(workers.map(\.state))
    followClusters()
    followKeys(1)
    book.follow { [weak tls] names in
      guard let tls else { return }
      Task { await tls.changed(names) }
    }
  }

  /// Exchanges in flight in both directions, tunnels included.
  package var inFlight: Int { shared.inFlight(.inbound) + shared.inFlight(.outbound) }

  /// The endpoints that get no requests, by cluster.
  package var unavailableEndpoints: [UnavailableEndpoint] {
    UnavailableEndpoint.all(of: state.withLock { $0.snapshot.clusters })
  }

  private static func compile(
    _ configuration: TrafficConfiguration, app: Address?, keeping old: Snapshot?, _ material: MaterialSource,
    _ gates: GateBook, _ shared: ProxyShared
  ) throws -> Snapshot {
    gates.begin()
    let listeners = configuration.inbound + configuration.outbound
    var clusters = configuration.clusters
    if !clusters.contains(where: { $0.name == "app" }) {
      clusters.append(ClusterConfiguration(name: "app", discovery: .fixed([])))
    }
    return Snapshot(
      configuration: configuration,
      listeners: try listeners.map { listener in
        CompiledListener(listener, gates, tls: try ServerTLS.make(listener, keeping: old, material))
      },
      clusters: try clusters.map { cluster in
        let before = old?.clusters.first { $0.configuration.name == cluster.name }
        if let before, before.configuration == cluster, !before.isApp || before.app == app { return before }
        return ClusterShared(
          cluster, app: app, tls: try ClusterTLS.make(cluster, material), before: before,
          metrics: shared.metrics(of: cluster.name))
      })
  }

  // MARK: Listeners

  /// Starts accepting on bound and listening descriptors of the named listener; takes ownership of the descriptors.
  /// `address` is what `close` knows them by.
  package func open(
    listener name: String, direction: Direction, descriptors: [CInt], address: Address? = nil
  ) async throws {
    let id = ListenerID(direction, name)
    let (snapshot, generation) = state.withLock { ($0.snapshot, $0.generation) }
    await tls.follow(snapshot.tls, generation: generation)
    let workers = workers
    let isTransparent = state.withLock { $0.snapshot.listeners.first { $0.id == id }?.isTransparent ?? false }
    for descriptor in descriptors {
      if isTransparent { OriginalDestination.allowForeignAddresses(descriptor) }
      let last = LastConnections(of: descriptor)
      do {
        let server = try await ListeningSocket.open(descriptor, on: workers.map(\.eventLoop)) { [shared] code in
          let reason = String(cString: strerror(code)).lowercased()
          shared.logger.warning(
            "\(direction) listener '\(name)': cannot accept connections: \(reason); they wait; raise the limit of open files (ulimit -n)"
          )
        } accept: { eventLoop, connection in
          guard let worker = workers.first(where: { $0.eventLoop === eventLoop }) else { return }
          Self.adopt(connection, worker, id)
        }
        shared.own.add(server.localAddress)
        state.withLock { $0.servers.append(Server(listener: id, address: address, socket: server, last: last)) }
      } catch {
        last?.end()
        throw error
      }
    }
  }

  /// On the worker's own thread.
  private static func adopt(_ connection: CInt, _ worker: Worker, _ id: ListenerID) {
    let loop = worker.state.value
    // Who refuses it has counted and told so.
    try? StreamChannel.adopt(worker.eventLoop, connection, watermark: loop.watermark) { try accept($0, loop, id) }
  }

  private static func accept(_ channel: any Channel, _ loop: LoopState, _ id: ListenerID) throws {
    guard let listener = loop.listeners[id] else { throw ChannelError.operationUnsupported }
    if listener.refusesFull(loop) { throw ChannelError.operationUnsupported }
    if id.direction == .inbound, loop.shared.bypass.isOn.load(ordering: .relaxed) {
      return try Splice(loop, listener).begin(channel)
    }
    try AcceptChain(loop, listener, channel).begin(channel)
  }

  /// True once responses of that direction carry `Connection: close`.
  package func isDraining(_ direction: Direction) -> Bool { shared.isDraining(direction) }

  /// Responses carry `Connection: close` from now on; connections are still accepted.
  package func setDraining(_ direction: Direction) {
    switch direction {
    case .inbound: shared.drainingInbound.store(true, ordering: .relaxed)
    case .outbound: shared.drainingOutbound.store(true, ordering: .relaxed)
    }
    shared.onEveryLoop { loop in
      for downstream in loop.multiplexed.values
      where downstream.listener.compiled.direction == direction { downstream.drain() }
      if direction == .inbound { loop.endSplices() }
    }
  }

  /// Stops accepting in that direction, lets what is in flight end, and cuts what is left after `timeout`.
  /// Returns how many exchanges were cut.
  package func drain(_ direction: Direction, timeout: Duration) async -> Int {
    setDraining(direction)
    await closeServers { $0.listener.direction == direction }
    let start = ContinuousClock.now
    let deadline = start + timeout
    while ContinuousClock.now < deadline {
      if shared.inFlight(direction) == 0 { break }
      try? await Task.sleep(for: .milliseconds(10))
    }
    // What was answered may still be on its way out to a client, and who has just connected is about to ask.
    while true {
      let now = ContinuousClock.now
      let isLate = now >= deadline
      let cut = isLate ? max(0, shared.inFlight(direction)) : 0
      let left = await closeSettled(direction, sparesNew: now < start + Self.newcomerTime, cuts: isLate)
      if left == 0 || isLate { return cut }
      try? await Task.sleep(for: .milliseconds(10))
    }
  }

  /// Time for the first request of a client that was accepted last.
  private static let newcomerTime = Duration.seconds(1)

  /// Closes the connections of that direction that have nothing left to do; returns how many others there are. With
  /// `sparesNew`, those that have not been asked anything yet are among the others; with `cuts`, those in the middle of
  /// an exchange are not.
  private func closeSettled(_ direction: Direction, sparesNew: Bool, cuts: Bool) async -> Int {
    var lingering = 0
    for worker in workers {
      let state = worker.state
      let left = try? await worker.eventLoop.submit {
        var left = 0
        for downstream in Array(state.value.downstreams.values)
        where downstream.listener.compiled.direction == direction {
          let isNew = sparesNew && downstream.phase == .head && !downstream.accept.hasServed
          let isBusy = downstream.phase == .exchange || downstream.phase == .tunnel
          if isNew || downstream.phase == .lingering || isBusy && !cuts { left += 1 } else { downstream.closeNow() }
        }
        for downstream in Array(state.value.multiplexed.values)
        where downstream.listener.compiled.direction == direction {
          if downstream.isSettled { downstream.closeNow() } else { left += 1 }
        }
        for pending in Array(state.value.pending.values)
        where pending.listener.compiled.direction == direction {
          if sparesNew { left += 1 } else { pending.closeNow() }
        }
        for splice in Array(state.value.splices.values) where direction == .inbound {
          if cuts { splice.closeNow() } else { left += 1 }
        }
        return left
      }.get()
      lingering += left ?? 0
    }
    return lingering
  }

  /// Stops accepting for that listener on that address; what it has accepted goes on.
  package func close(listener: ListenerID, address: Address) async {
    await closeServers { $0.listener == listener && $0.address == address }
  }

  private func closeServers(_ matches: (Server) -> Bool) async {
    let servers = state.withLock { state in
      let chosen = state.servers.filter(matches)
      state.servers.removeAll(where: matches)
      return chosen
    }
    for server in servers { await server.socket.pause() }
    for server in servers {
      await server.socket.close()
      for connection in server.last?.take() ?? [] { await serve(connection, server.listener) }
    }
  }

  /// Leaves the sockets to another process that accepts from them: takes nothing more, answers what is open with
  /// `Connection: close` (HTTP/2: GOAWAY), lets idle connections go after five seconds, and cuts what is left after
  /// `timeout`. Returns how many exchanges were cut.
  package func leave(timeout: Duration) async -> Int {
    let servers = state.withLock { state in
      defer { state.servers = [] }
      return state.servers
    }
    for server in servers { await server.socket.pause() }
    for server in servers {
      await server.socket.close()
      server.last?.end()
    }
    let listeners = state.withLock { $0.snapshot.listeners.map(\.id) }
    setDraining(listeners, true)
    shared.onEveryLoop { $0.endSplices() }
    let deadline = ContinuousClock.now + timeout
    while ContinuousClock.now < deadline, listeners.contains(where: { occupancy(of: $0).connections > 0 }) {
      try? await Task.sleep(for: .milliseconds(20))
    }
    return max(0, inFlight)
  }

  /// Serves a connection that no server channel has accepted.
  private func serve(_ connection: CInt, _ id: ListenerID) async {
    guard let worker = workers.randomElement() else { return }
    _ = fcntl(connection, F_SETFL, O_NONBLOCK)
    try? await worker.eventLoop.submit { Self.adopt(connection, worker, id) }.get()
  }

  /// New exchanges use the new configuration; listeners are opened and closed by the caller, closed ones before this.
  /// Connections of a listener that is gone end with their next answer, or after five seconds without a request.
  /// Throws when a file of a `tls` cannot be used; then nothing changes.
  package func reload(_ configuration: TrafficConfiguration, app: Address?) throws {
    let old = state.withLock { $0.snapshot }
    let snapshot = try Self.compile(configuration, app: app, keeping: old, tls.material, gates, shared)
    shared.own.configure(configuration)
    let generation = state.withLock { state in
      state.snapshot = snapshot
      state.generation += 1
      return state.generation
    }
    Task { [tls] in await tls.follow(snapshot.tls, generation: generation) }
    followKeys(generation)
    shared.onEveryLoop { $0.apply(snapshot) }
    followClusters()
  }

  /// Closes everything at once; the loops end with it.
  package func close() async {
    let isFirst = state.withLock { state in
      defer { state.isClosed = true }
      return !state.isClosed
    }
    guard isFirst else { return }
    shared.bypass.stop()
    shared.memory.stop()
    shared.discovery.stop()
    await tls.stop()
    await keys.stop()
    await closeServers { _ in true }
    shared.know([])
    for worker in workers {
      let state = worker.state
      try? await worker.eventLoop.submit {
        state.value.isClosing = true
        for pending in Array(state.value.pending.values) { pending.closeNow() }
        for downstream in Array(state.value.downstreams.values) { downstream.closeNow() }
        for downstream in Array(state.value.multiplexed.values) { downstream.closeNow() }
        for splice in Array(state.value.splices.values) { splice.closeNow() }
        for cluster in state.value.clusters.values { cluster.closeAll() }
        for listener in state.value.listeners.values { listener.destinations?.closeAll() }
        state.value.access.publish()
      }.get()
    }
    await shared.outside.shutdown()
    try? await shared.resolver.shutdownGracefully()
    for worker in workers { await worker.eventLoop.shutdown() }
  }

  private func followKeys(_ generation: Int) {
    let sources = gates.settle()
    Task { [keys] in await keys.follow(sources, generation: generation) }
  }

  // MARK: Discovery

  /// Keeps the endpoints of the clusters in use current.
  private func followClusters() {
    let snapshot = state.withLock { $0.snapshot }
    shared.forgetMetrics(except: Set(snapshot.clusters.map(\.configuration.name)))
    shared.discovery.follow(snapshot.clusters, servers: snapshot.configuration.resolvers) { [shared] cluster in
      shared.onEveryLoop { $0.resolutionChanged(cluster) }
    }
  }

  /// The clusters of the configuration in use and their endpoints, for people.
  package func clusters() async -> [ClusterStatus] {
    let clusters = state.withLock { $0.snapshot.clusters }
    var statuses = clusters.map { ClusterStatus($0) }
    for worker in workers {
      let state = worker.state
      let before = statuses
      let known = try? await worker.eventLoop.submit {
        var statuses = before
        for (index, shared) in clusters.enumerated() {
          guard let cluster = state.value.clusters[shared.configuration.name], cluster.shared === shared else {
            continue
          }
          statuses[index].add(cluster)
        }
        return statuses
      }.get()
      if let known { statuses = known }
    }
    return statuses
  }
}
