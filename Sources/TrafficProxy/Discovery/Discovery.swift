import Logging
import NIOCore
import NIOPosix
import Synchronization
import Traffic
import Vocabulary

/// Keeps the endpoints of clusters current: a task for each that has names to look up or a file to read.
final class Discovery: Sendable {
  let resolver = NameResolver()
  /// Where names are looked up and files are read: that blocks, and one slow name must not hold the others.
  private let pool: NIOThreadPool
  private let files: EndpointFileSource
  private let watch = DirectoryWatch()
  private let logger: Logger
  private let runs = Mutex<[ObjectIdentifier: DiscoveryRun]>([:])

  init(pool: NIOThreadPool, decode: @escaping EndpointFileDecoder, logger: Logger) {
    self.pool = pool
    files = EndpointFileSource(decode: decode)
    self.logger = logger
  }

  /// Takes over the clusters of a configuration; those that were followed already go on as they are, unless they are to
  /// ask other servers. `changed` is called when loops must be told.
  func follow(
    _ clusters: [ClusterShared], servers: [Address], changed: @escaping @Sendable (ClusterShared) -> Void
  ) {
    let asksOthers = resolver.use(servers: servers)
    let (ended, begun) = runs.withLock { runs in
      let before = runs
      var begun: [DiscoveryRun] = []
      runs = [:]
      for cluster in clusters where cluster.isDiscovered {
        let run = before[ObjectIdentifier(cluster)] ?? DiscoveryRun(cluster)
        if before[ObjectIdentifier(cluster)] == nil { begun.append(run) }
        runs[ObjectIdentifier(cluster)] = run
      }
      return (before.filter { runs[$0.key] == nil }.values, begun)
    }
    for run in ended { run.stop() }
    for run in begun { run.start(pool, resolver, files, watch, logger, changed) }
    if asksOthers { for run in runs.withLock({ Array($0.values) }) { run.ring() } }
  }

  func stop() {
    resolver.stop()
    let ended = runs.withLock { runs in
      defer { runs = [:] }
      return Array(runs.values)
    }
    for run in ended { run.stop() }
    watch.stop()
  }
}

/// One cluster being followed.
private final class DiscoveryRun: Sendable {
  private struct State {
    var task: Task<Void, Never>?
    /// Waits for the time of the next round.
    var sleeper: Task<Void, Never>?
    /// Something changed since the last round began.
    var isRung = false
    var isStopped = false
  }

  /// A file is looked at this often, whatever the watch says: its directory may not have been there.
  private static let glance = Duration.seconds(10)

  private let cluster: ClusterShared
  private let state = Mutex(State())

  init(_ cluster: ClusterShared) { self.cluster = cluster }

  func start(
    _ pool: NIOThreadPool, _ resolver: NameResolver, _ files: EndpointFileSource, _ watch: DirectoryWatch,
    _ logger: Logger, _ changed: @escaping @Sendable (ClusterShared) -> Void
  ) {
    let task = Task { [cluster] in
      let directory = cluster.file.map(Self.directory)
      let serial = directory.map { watch.watch($0) { [weak self] in self?.ring() } }
      var schedule = ResolutionSchedule()
      while !Task.isCancelled {
        self.state.withLock { $0.isRung = false }
        let round = try? await pool.runIfActive { cluster.discover(resolver, files) }
        guard let round, !Task.isCancelled else { break }
        self.report(logger)
        if round.hasChanged { changed(cluster) }
        var wait = schedule.next(lifetime: round.lifetime, failed: !round.isGood)
        if let directory {
          watch.refresh(directory)
          wait = min(wait ?? Self.glance, Self.glance)
        }
        await self.sleep(wait)
      }
      if let directory, let serial { watch.forget(directory, serial) }
    }
    let isStopped = state.withLock { state in
      state.task = task
      return state.isStopped
    }
    if isStopped { task.cancel() }
  }

  /// Begins a round now, or after the one that runs.
  func ring() {
    let sleeper = state.withLock { state in
      state.isRung = true
      return state.sleeper
    }
    sleeper?.cancel()
  }

  func stop() {
    let (task, sleeper) = state.withLock { state in
      state.isStopped = true
      return (state.task, state.sleeper)
    }
    task?.cancel()
    sleeper?.cancel()
  }

  /// Nil = until something rings.
  private func sleep(_ duration: Duration?) async {
    let sleeper = Task { _ = try? await Task.sleep(for: duration ?? .seconds(86_400)) }
    let isNeeded = state.withLock { state in
      state.sleeper = sleeper
      return !state.isRung && !state.isStopped
    }
    if isNeeded { await sleeper.value } else { sleeper.cancel() }
    state.withLock { $0.sleeper = nil }
  }

  private func report(_ logger: Logger) {
    guard let failure = cluster.newFailure() else { return }
    let isReady = if case .ready = cluster.current { true } else { false }
    let effect = isReady ? "the last good endpoints stay in use" : "its requests are answered 503"
    logger.warning("cluster `\(cluster.configuration.name)`: \(failure); \(effect)")
  }

  private static func directory(of path: String) -> String {
    guard let slash = path.lastIndex(of: "/") else { return "." }
    return slash == path.startIndex ? "/" : String(path[..<slash])
  }
}
