import Glibc
import Logging
import Logs
import NIOCore
import Synchronization
import Telemetry
import Threads
import Vocabulary

/// A sink of any kind.
enum RunningSink: Sendable {
  case local(LocalSink)
  case network(NetworkSink)

  var state: SinkState {
    switch self {
    case .local(let sink): sink.state
    case .network(let sink): sink.state
    }
  }

  /// False when the system has no thread to give.
  func start() -> Bool {
    switch self {
    case .local(let sink): return WorkThread.start { sink.run() }
    case .network(let sink):
      sink.start()
      return true
    }
  }

  func become(_ phase: SinkState.Phase) {
    if state.phase != .finished { state.phase = phase }
    switch self {
    case .local(let sink): sink.wake.raise()
    case .network(let sink):
      sink.wake()
      if phase == .abandoned { sink.cancel() }
    }
  }
}

/// The sinks of a pipeline, in the order of the configuration.
final class SinkSet: Sendable {
  /// What a sink is made from; an equal one need not be replaced.
  struct Plan: Sendable, Equatable {
    var configuration: LogSinkConfiguration
    /// Names of the sources it takes; empty = all.
    var sources: [String]
    /// What the transforms route to it; nil = everything.
    var route: LogCondition? = nil
    var name: String { configuration.name }
  }

  private struct Member: Sendable {
    var plan: Plan
    var sink: RunningSink
  }

  private let stateDirectory: String
  private let spool: Spool
  private let metrics: MetricRegistry
  private let secrets: LogPipeline.SecretResolver
  private let group: any EventLoopGroup
  private let logger: Logger
  private let members = Mutex<[Member]>([])
  private let meters = Mutex<[String: SinkMeters]>([:])

  init(
    stateDirectory: String, spool: Spool, metrics: MetricRegistry, secrets: @escaping LogPipeline.SecretResolver,
    group: any EventLoopGroup, logger: Logger
  ) {
    self.stateDirectory = stateDirectory
    self.spool = spool
    self.metrics = metrics
    self.secrets = secrets
    self.group = group
    self.logger = logger
  }

  var all: [RunningSink] { members.withLock { $0.map(\.sink) } }

  /// What a configuration wants.
  static func plans(_ configuration: LogsConfiguration) -> [Plan] {
    let appSources = configuration.sources.filter { $0.input == .app }.map(\.name)
    return configuration.sinks.map { sink in
      let route = configuration.transforms.route(to: sink.name)
      // Access records do not belong among the app's own lines.
      if case .console = sink.output, sink.from.isEmpty {
        return Plan(configuration: sink, sources: appSources, route: route)
      }
      return Plan(configuration: sink, sources: sink.from, route: route)
    }
  }

  /// Sinks that are new or changed and can be started: their files and directories can be used.
  struct Prepared: Sendable {
    fileprivate var plans: [Plan]
    fileprivate var fresh: [String: RunningSink]
  }

  func prepare(_ plans: [Plan]) throws -> Prepared {
    let before = members.withLock { $0 }
    var fresh: [String: RunningSink] = [:]
    for plan in plans where !before.contains(where: { $0.plan == plan }) { fresh[plan.name] = try make(plan) }
    return Prepared(plans: plans, fresh: fresh)
  }

  private func make(_ plan: Plan) throws -> RunningSink {
    let sink = plan.configuration
    let meters = meters.withLock { all in
      var meters = all[sink.name] ?? SinkMeters(name: sink.name, spool: spool, metrics: metrics)
      if sink.output.isRemote { meters.requests = meters.requests ?? RequestMeters(name: sink.name, metrics: metrics) }
      all[sink.name] = meters
      return meters
    }
    let state = SinkState(name: sink.name, sources: plan.sources, route: plan.route, spool: spool, meters: meters)
    switch sink.output {
    case .store(let path, let keep):
      let path = path ?? stateDirectory + "/store"
      try StateFile.makeDirectory(path)
      return .local(LocalSink(state, logger: logger) { .store(try StoreWriter(path: path, keep: keep)) })
    case .console(let pretty):
      return .local(LocalSink(state, logger: logger) { .console(ConsoleWriter(pretty: pretty)) })
    case .file(let path, let rotation):
      return .local(LocalSink(state, logger: logger) { .file(FileWriter(path: path, rotation: rotation)) })
    case .elasticsearch, .http, .splunk, .loki, .otlp, .syslog, .forward:
      let route = try SinkRoute(sink, group: group, secrets: secrets)
      let dead = sink.deadLetter ?? "\(stateDirectory)/dead-letter/\(sink.name).ndjson"
      return .network(
        NetworkSink(
          state, sink, format: route.format, transport: route.transport, deadLetter: dead, logger: logger))
    }
  }

  /// The first sinks. The spool must know every sink before the first record, so that it keeps what they need.
  func adopt(_ prepared: Prepared) {
    for plan in prepared.plans { _ = spool.register(sink: plan.name) }
    members.withLock { members in
      members = prepared.plans.compactMap { plan in prepared.fresh[plan.name].map { Member(plan: plan, sink: $0) } }
    }
  }

  /// False when the system has no thread to give.
  func start() -> Bool { all.allSatisfy { $0.start() } }

  /// Replaces what has changed. A changed sink goes on where its predecessor was acknowledged; one that is taken away
  /// may send for `grace` what it still has, and a line says how much it could not.
  func replace(with prepared: Prepared, grace: Duration) async {
    let before = members.withLock { $0 }
    for plan in prepared.plans where !before.contains(where: { $0.plan.name == plan.name }) {
      _ = spool.register(sink: plan.name)
    }
    let leaving = before.filter { member in prepared.plans.allSatisfy { $0.name != member.plan.name } }
    let changing = before.filter { prepared.fresh[$0.plan.name] != nil }
    let end = spool.end
    for member in leaving { member.sink.become(.draining) }
    for member in changing { member.sink.become(.abandoned) }
    await Self.wait(.seconds(5)) { changing.allSatisfy { $0.sink.state.phase == .finished } }
    members.withLock { members in
      members = prepared.plans.compactMap { plan in
        if let fresh = prepared.fresh[plan.name] { return Member(plan: plan, sink: fresh) }
        return before.first { $0.plan.name == plan.name }
      }
    }
    for (name, sink) in prepared.fresh.sorted(by: { $0.key < $1.key }) where !sink.start() {
      logger.error("log sink '\(name)' has no thread; raise the limit of processes (ulimit -u)")
    }
    await Self.wait(grace) { leaving.allSatisfy { $0.sink.state.phase == .finished } }
    for member in leaving { member.sink.become(.abandoned) }
    await Self.wait(.seconds(1)) { leaving.allSatisfy { $0.sink.state.phase == .finished } }
    for member in leaving { release(member.plan.name, at: end) }
  }

  private func release(_ name: String, at end: UInt64) {
    let left = spool.lag(sink: name, before: end)
    spool.unregister(sink: name)
    guard left > 0 else { return }
    logger.warning("log sink '\(name)' was taken away with \(left) records that it had not acknowledged")
  }

  func become(_ phase: SinkState.Phase) { for sink in all { sink.become(phase) } }

  /// Waits until every sink has finished.
  func awaitEnd(within limit: Duration) async {
    await Self.wait(limit) { all.allSatisfy { $0.state.phase == .finished } }
  }

  /// Until the condition holds, the limit is reached, or the task is cancelled.
  static func wait(_ limit: Duration, _ condition: () -> Bool) async {
    let end = ContinuousClock.now + limit
    while !condition(), ContinuousClock.now < end {
      do { try await Task.sleep(for: .milliseconds(5)) } catch { return }
    }
  }
}
