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
    if asksOthers { for run in runs.withLock({ Array($0.values) }) { run.ring(isForced: true) } }
    for run in begun { run.start(pool, resolver, files, watch, logger, changed) }
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
    /// Something may have changed since it was looked for last.
    var isRung = false
    /// What was found is not to be relied on any more.
    var isForced = false
    var isStopped = false
  }

  /// A file is looked at this often, whatever the watch says: its directory may not have been there.
  private static let glance = Duration.seconds(10)
  /// A directory in which others are busy is looked at no more often than this.
  private static let pause = Duration.milliseconds(100)

  private let cluster: ClusterShared
  private let state = Mutex(State())

  init(_ cluster: ClusterShared) { self.cluster = cluster }

  func start(
    _ pool: NIOThreadPool, _ resolver: NameResolver, _ files: EndpointFileSource, _ watch: DirectoryWatch,
    _ logger: Logger, _ changed: @escaping @Sendable (ClusterShared) -> Void
  ) {
    let task = Task { [cluster] in
      let directory = cluster.file.map(Self.directory)
      let serial = directory.map { watch.watch($0) { [weak self] in self?.ring(isForced: false) } }
      var schedule = ResolutionSchedule()
      var due: ContinuousClock.Instant? = .now
      while !Task.isCancelled {
        let isForced = self.begin()
        let isDue = due.map { $0 <= .now } ?? false
        let look: @Sendable () -> ClusterShared.Round? = {
          isForced || isDue || cluster.fileHasChanged ? cluster.discover(resolver, files) : nil
        }
        // It throws when the proxy is closed.
        guard let answer = try? await pool.runIfActive({ [look()] }).first, !Task.isCancelled else { break }
        if let round = answer {
          self.report(logger)
          if round.hasChanged { changed(cluster) }
          due = schedule.next(lifetime: round.lifetime, failed: !round.isGood).map { .now + $0 }
        } else {
          try? await Task.sleep(for: Self.pause)
        }
        if let directory { watch.refresh(directory) }
        await self.sleep(until: due, atMost: directory == nil ? nil : Self.glance)
      }
      if let directory, let serial { watch.forget(directory, serial) }
    }
    let isStopped = state.withLock { state in
      state.task = task
      return state.isStopped
    }
    if isStopped { task.cancel() }
  }

  /// True when everything is to be looked up.
  private func begin() -> Bool {
    state.withLock { state in
      defer {
        state.isRung = false
        state.isForced = false
      }
      return state.isForced
    }
  }

  /// Looks now, or after the round that runs.
  func ring(isForced: Bool) {
    let sleeper = state.withLock { state in
      state.isRung = true
      if isForced { state.isForced = true }
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

  /// Until that time, nil = without end, or until something rings.
  private func sleep(until due: ContinuousClock.Instant?, atMost longest: Duration?) async {
    let wait = min(due.map { ContinuousClock.now.duration(to: $0) } ?? .seconds(86_400), longest ?? .seconds(86_400))
    let sleeper = Task { _ = try? await Task.sleep(for: wait) }
    let isNeeded = state.withLock { state in
      state.sleeper = sleeper
      return !state.isRung && !state.isStopped
    }
    if isNeeded { await sleeper.value } else { sleeper.cancel() }
    state.withLock { $0.sleeper = nil }
  }

  private func report(_ logger: Logger) {
    guard let failure = cluster.newFailure() else { return }
    let effect =
      switch cluster.current {
      case .ready(let set) where set.leftOut > 0: "the others get no requests"
      case .ready: "the last good endpoints stay in use"
      default: "its requests are answered 503"
      }
    logger.warning("cluster `\(cluster.configuration.name)`: \(failure); \(effect)")
  }

  private static func directory(of path: String) -> String {
    guard let slash = path.lastIndex(of: "/") else { return "." }
    return slash == path.startIndex ? "/" : String(path[..<slash])
  }
}
