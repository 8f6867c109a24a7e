import NIOCore
import NIOPosix
import Synchronization
import Traffic
import Vocabulary

/// The clusters of one listener and one event loop that requests name themselves: made when first asked for, pooled like
/// any other, and gone a minute after their last use.
final class Destinations: Timed {
  /// For each listener and event loop.
  static let limit = 256
  private static let idle: UInt64 = 60_000_000_000
  /// An answer of the resolver that has expired is asked for again, and used until the new one is there. However long it
  /// may be used, it is asked for again after five minutes.
  private static let longest: UInt64 = 300_000_000_000
  private static let failureFreshness: UInt64 = 1_000_000_000

  private final class Entry {
    let route: LoopRoute
    var resolvedAt: UInt64 = 0
    /// Nanoseconds that the answer may be used.
    var lifetime: UInt64 = 0
    var isResolving = false
    init(_ route: LoopRoute) { self.route = route }
    /// Something counts as a request, or waits for a connection.
    var isBusy: Bool {
      guard let shared = route.cluster?.shared else { return false }
      return isResolving || shared.requests.load(ordering: .relaxed) > 0 || shared.pending.load(ordering: .relaxed) > 0
    }
  }

  private let loop: LoopState
  private let listener: String
  private let compiled: CompiledRoute
  private let stats: RouteStats
  private var table = BoundedTable<Destination, Entry>(limit: Destinations.limit, idle: Destinations.idle)

  init(_ loop: LoopState, _ listener: CompiledListener, _ route: CompiledRoute, _ stats: RouteStats) {
    self.loop = loop
    self.listener = listener.name
    compiled = route
    self.stats = stats
  }

  /// The route to that destination; nil when too many others are in use.
  func route(to destination: Destination, now: UInt64) -> LoopRoute? {
    if let entry = table.find(destination, now: now) {
      refresh(entry, now)
      return entry.route
    }
    let entry = Entry(LoopRoute(compiled, cluster(destination), stats))
    switch table.insert(destination, entry, now: now, isBusy: { $0.isBusy }) {
    case .full: return nil
    case .added(let evicted): evicted?.route.cluster?.closeAll()
    }
    refresh(entry, now)
    if deadline == .max { loop.wheel.set(self, now &+ Self.idle, now: now) }
    return entry.route
  }

  private func cluster(_ destination: Destination) -> LoopCluster {
    let discovery: ClusterConfiguration.Discovery =
      IPAddress(destination.host) == nil
      ? .dns(host: destination.host, port: destination.port)
      : .fixed([EndpointConfiguration(address: .tcp(host: destination.host, port: destination.port))])
    var configuration = ClusterConfiguration(name: destination.description, discovery: discovery)
    // Its addresses are tried one after the other anyway.
    configuration.outliers = nil
    return LoopCluster(
      ClusterShared(configuration, app: nil, keepsOrder: true), metrics: loop.shared.metrics,
      logger: loop.shared.logger,
      seed: loop.random.next(),
      destinationsOf: listener)
  }

  /// Asks the resolver off the loops, when there is a name and no recent answer.
  private func refresh(_ entry: Entry, _ now: UInt64) {
    guard let cluster = entry.route.cluster, cluster.shared.isDiscovered, !entry.isResolving else { return }
    let age = now &- entry.resolvedAt
    if entry.resolvedAt > 0 {
      if age < (cluster.failure == nil ? entry.lifetime : Self.failureFreshness) { return }
      // A failure is no answer to go on with.
      if cluster.failure != nil { cluster.isResolved = false }
    }
    entry.isResolving = true
    let shared = cluster.shared
    let resolver = loop.shared.names
    let answer = loop.shared.resolver.runIfActive(eventLoop: loop.eventLoop) { shared.discover(resolver, nil) }
    answer.assumeIsolated().whenComplete { result in
      entry.isResolving = false
      let round = try? result.get()
      let lifetime = round.flatMap { $0.isGood ? $0.lifetime?.nanoseconds : nil } ?? Self.failureFreshness
      entry.lifetime = min(max(lifetime, 1_000_000_000), Self.longest)
      entry.resolvedAt = max(1, NIODeadline.now().uptimeNanoseconds)
      cluster.update()
    }
  }

  override func deadlinePassed(_ now: UInt64) {
    for entry in table.sweep(now: now, isBusy: { $0.isBusy }) { entry.route.cluster?.closeAll() }
    if table.count > 0 { loop.wheel.set(self, now &+ Self.idle, now: now) }
  }

  func closeAll() {
    for entry in table.values { entry.route.cluster?.closeAll() }
    table.removeAll()
    loop.wheel.remove(self)
  }
}

/// The ports that this sidecar listens on, and the addresses of this machine.
final class OwnAddresses: Sendable {
  private let configured = Mutex<Set<Int>>([])
  private let bound = Mutex<Set<Int>>([])

  func configure(_ configuration: TrafficConfiguration) {
    let addresses = (configuration.inbound + configuration.outbound).flatMap(\.listen) + configuration.reserved
    let ports = addresses.compactMap { if case .tcp(_, let port) = $0 { port } else { nil } }
    configured.withLock { $0 = Set(ports) }
  }

  func add(_ address: SocketAddress?) {
    guard let port = address?.port else { return }
    bound.withLock { _ = $0.insert(port) }
  }

  func has(_ port: Int) -> Bool {
    configured.withLock { $0.contains(port) } || bound.withLock { $0.contains(port) }
  }

  /// Why a connection to that address is refused; nil = it is allowed.
  func refusal(_ address: SocketAddress, client: IPAddress?) -> String? {
    guard let ip = IPAddress(of: address), let port = address.port else { return nil }
    return SelfProtection(ports: has(port) ? [port] : []).refusal(ip, port: port, client: client, isOwn: Self.isHere)
  }

  /// Whether it is an address of this machine.
  static func isHere(_ address: IPAddress) -> Bool {
    if address.isLoopback || address.isUnspecified { return true }
    let devices = (try? System.enumerateDevices()) ?? []
    return devices.contains { $0.address.flatMap { IPAddress(of: $0) } == address }
  }
}
