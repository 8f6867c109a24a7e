package import Logging
import NIOCore
package import NIOPosix
import Synchronization
package import Telemetry
package import Traffic
package import Vocabulary

/// The proxy: listeners on given descriptors, one state per event loop, one compiled snapshot for all.
package final class TrafficProxy: Sendable {
  /// The bytes of a template with its secrets; nil = a secret is missing.
  package typealias SecretResolver = @Sendable (SecretTemplate) -> [UInt8]?

  private struct Worker: Sendable {
    let eventLoop: any EventLoop
    let state: NIOLoopBound<LoopState>
  }

  private struct State {
    var snapshot: Snapshot
    var servers: [(direction: Direction, channel: any Channel)] = []
    var isClosed = false
  }

  private let app: Address?
  private let group: MultiThreadedEventLoopGroup
  private let shared: ProxyShared
  private let workers: [Worker]
  private let state: Mutex<State>
  private let resolverTask = Mutex<Task<Void, Never>?>(nil)

  /// `app` is where the cluster named `app` leads; nil when there is no app to reach.
  package init(
    configuration: TrafficConfiguration, app: Address?, group: MultiThreadedEventLoopGroup,
    metrics: MetricRegistry, events: EventStream, secrets: @escaping SecretResolver, logger: Logger
  ) throws {
    self.app = app
    self.group = group
    let shared = ProxyShared(metrics: metrics, events: events, secrets: secrets, logger: logger)
    self.shared = shared
    shared.resolver.start()
    shared.own.configure(configuration)
    let snapshot = Self.compile(configuration, app: app, keeping: [])
    state = Mutex(State(snapshot: snapshot))
    var generator = SystemRandomNumberGenerator()
    workers = try group.makeIterator().map { eventLoop in
      let seed = generator.next()
      return try eventLoop.submit {
        let loop = LoopState(eventLoop: eventLoop, shared: shared, seed: seed)
        loop.apply(snapshot)
        return Worker(eventLoop: eventLoop, state: NIOLoopBound(loop, eventLoop: eventLoop))
      }.wait()
    }
    startResolver()
  }

  /// Exchanges in flight in both directions, tunnels included.
  package var inFlight: Int { shared.inFlight(.inbound) + shared.inFlight(.outbound) }

  private static func compile(
    _ configuration: TrafficConfiguration, app: Address?, keeping old: [ClusterShared]
  ) -> Snapshot {
    let listeners = configuration.inbound + configuration.outbound
    var clusters = configuration.clusters
    if !clusters.contains(where: { $0.name == "app" }) {
      clusters.append(ClusterConfiguration(name: "app", discovery: .fixed([])))
    }
    return Snapshot(
      configuration: configuration, listeners: listeners.map { CompiledListener($0) },
      clusters: clusters.map { cluster in
        old.first { $0.configuration == cluster } ?? ClusterShared(cluster, app: app)
      })
  }

  // MARK: Listeners

  /// Starts accepting on bound and listening descriptors of the named listener; takes ownership of the descriptors.
  package func open(listener name: String, direction: Direction, descriptors: [CInt]) async throws {
    let watermark = state.withLock { $0.snapshot.configuration.watermark }
    let workers = workers
    let isTransparent = state.withLock { $0.snapshot.listeners.first { $0.name == name }?.isTransparent ?? false }
    for descriptor in descriptors {
      if isTransparent { OriginalDestination.allowForeignAddresses(descriptor) }
      let bootstrap = ServerBootstrap(group: group)
        .serverChannelOption(.backlog, value: 1024)
        .childChannelOption(.writeBufferWaterMark, value: .init(low: max(1, watermark / 2), high: watermark))
        .childChannelInitializer { channel in
          channel.eventLoop.makeCompletedFuture {
            guard let worker = workers.first(where: { $0.eventLoop === channel.eventLoop }) else { return }
            try Self.accept(channel, worker.state.value, name)
          }
        }
      let server = try await bootstrap.withBoundSocket(descriptor).get()
      shared.own.add(server.localAddress)
      state.withLock { $0.servers.append((direction, server)) }
    }
  }

  private static func accept(_ channel: any Channel, _ loop: LoopState, _ name: String) throws {
    guard let listener = loop.listeners[name] else { throw ChannelError.operationUnsupported }
    if listener.isFull { throw ChannelError.operationUnsupported }
    if channel.localAddress?.ipAddress != nil {
      try channel.syncOptions?.setOption(.tcpOption(.tcp_nodelay), value: 1)
    }
    try AcceptChain.build(channel, loop, listener)
  }

  /// True once responses of that direction carry `Connection: close`.
  package func isDraining(_ direction: Direction) -> Bool { shared.isDraining(direction) }

  /// Responses carry `Connection: close` from now on; connections are still accepted.
  package func setDraining(_ direction: Direction) {
    switch direction {
    case .inbound: shared.drainingInbound.store(true, ordering: .relaxed)
    case .outbound: shared.drainingOutbound.store(true, ordering: .relaxed)
    }
  }

  /// Stops accepting in that direction, lets what is in flight end, and cuts what is left after `timeout`.
  /// Returns how many exchanges were cut.
  package func drain(_ direction: Direction, timeout: Duration) async -> Int {
    setDraining(direction)
    await closeServers { $0 == direction }
    let deadline = ContinuousClock.now + timeout
    while ContinuousClock.now < deadline {
      if shared.inFlight(direction) == 0 { break }
      try? await Task.sleep(for: .milliseconds(10))
    }
    let cut = max(0, shared.inFlight(direction))
    // What was answered may still be on its way out to a client.
    while await closeSettled(direction) > 0, ContinuousClock.now < deadline {
      try? await Task.sleep(for: .milliseconds(10))
    }
    return cut
  }

  /// Closes the connections of that direction that have nothing left to send; returns how many others there are.
  private func closeSettled(_ direction: Direction) async -> Int {
    var lingering = 0
    for worker in workers {
      let state = worker.state
      let left = try? await worker.eventLoop.submit {
        var left = 0
        for downstream in Array(state.value.downstreams.values)
        where downstream.listener.compiled.direction == direction {
          if downstream.phase == .lingering { left += 1 } else { downstream.closeNow() }
        }
        return left
      }.get()
      lingering += left ?? 0
    }
    return lingering
  }

  private func closeServers(_ matches: (Direction) -> Bool) async {
    let servers = state.withLock { state in
      let chosen = state.servers.filter { matches($0.direction) }
      state.servers.removeAll { matches($0.direction) }
      return chosen
    }
    for server in servers { try? await server.channel.close() }
  }

  /// New exchanges use the new configuration; listeners are opened and closed by the caller.
  package func reload(_ configuration: TrafficConfiguration) {
    shared.own.configure(configuration)
    let snapshot = state.withLock { state in
      state.snapshot = Self.compile(configuration, app: app, keeping: state.snapshot.clusters)
      return state.snapshot
    }
    for worker in workers {
      let state = worker.state
      worker.eventLoop.execute { state.value.apply(snapshot) }
    }
    startResolver()
  }

  /// Closes everything at once.
  package func close() async {
    resolverTask.withLock { $0?.cancel() }
    await closeServers { _ in true }
    for worker in workers {
      let state = worker.state
      try? await worker.eventLoop.submit {
        for downstream in Array(state.value.downstreams.values) { downstream.closeNow() }
        for cluster in state.value.clusters.values { cluster.closeAll() }
        for listener in state.value.listeners.values { listener.destinations?.closeAll() }
        state.value.access.publish()
      }.get()
    }
    try? await shared.resolver.shutdownGracefully()
  }

  // MARK: Resolution

  /// Resolves names now, every 10 seconds when that goes well and every second until a first answer.
  private func startResolver() {
    let clusters = state.withLock { $0.snapshot.clusters.filter(\.needsResolver) }
    let workers = workers
    let pool = shared.resolver
    let task =
      clusters.isEmpty
      ? nil
      : Task {
        while !Task.isCancelled {
          var settled = true
          for cluster in clusters {
            let changed = try? await pool.runIfActive { cluster.resolve() }
            if case .ready = cluster.current {} else { settled = false }
            guard changed == true else { continue }
            for worker in workers {
              let state = worker.state
              let name = cluster.configuration.name
              worker.eventLoop.execute {
                if let loop = state.value.clusters[name], loop.shared === cluster { loop.update() }
              }
            }
          }
          try? await Task.sleep(for: settled ? .seconds(10) : .seconds(1))
        }
      }
    resolverTask.withLock { current in
      current?.cancel()
      current = task
    }
  }
}
