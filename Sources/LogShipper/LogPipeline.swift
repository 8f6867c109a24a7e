import Glibc
package import Logging
package import Logs
package import NIOCore
import Synchronization
package import Telemetry
import Threads
package import Vocabulary

/// The log pipeline of a worker: sources → spool → sinks. Its state lives in `spool/ store/ checkpoints/ dead-letter/`
/// under the state directory; a successor goes on where it stood.
package final class LogPipeline: Sendable {
  /// The value of a text with secrets, nil while one of them is not there yet.
  package typealias SecretResolver = @Sendable (SecretTemplate) -> [UInt8]?

  private let configuration: Mutex<LogsConfiguration>
  private let checkpoints: String
  private let metrics: MetricRegistry
  private let events: EventStream
  private let context: IntakeContext
  private let inbox = SourceInbox()
  private let sinks: SinkSet
  private let intake: IntakeQueue
  private let served: HTTPIntake
  private let redactions = Mutex(RedactionMemory())
  /// From `start` on.
  private let access = Mutex<AccessQueue?>(nil)
  private let forwarding = Mutex(Forwarding())

  /// Of access records to a successor.
  private struct Forwarding {
    var ends = false
    var isOver = true
  }

  /// Makes the directories and opens the spool. Throws when a directory or a TLS file cannot be used.
  package convenience init(
    configuration: LogsConfiguration, stateDirectory: String, metrics: MetricRegistry, events: EventStream,
    secrets: @escaping SecretResolver, group: any EventLoopGroup, logger: Logger
  ) throws {
    try self.init(
      configuration: configuration, stateDirectory: stateDirectory, metrics: metrics, events: events, secrets: secrets,
      group: group, logger: logger, spoolWrite: { pwrite($0, $1, $2, off_t($3)) })
  }

  package init(
    configuration: LogsConfiguration, stateDirectory: String, metrics: MetricRegistry, events: EventStream,
    secrets: @escaping SecretResolver, group: any EventLoopGroup, logger: Logger, spoolWrite: @escaping Spool.Write
  ) throws {
    let configuration = Self.completed(configuration)
    self.configuration = Mutex(configuration)
    self.metrics = metrics
    self.events = events
    checkpoints = stateDirectory + "/checkpoints"
    try StateFile.makeDirectory(stateDirectory + "/dead-letter")
    let spool = try Spool(
      path: configuration.spool.path ?? stateDirectory + "/spool", checkpoints: checkpoints,
      configuration: configuration.spool, write: spoolWrite)
    context = IntakeContext(spool: spool, logger: logger, group: group, secrets: secrets)
    let inbox = inbox
    intake = IntakeQueue(wake: { inbox.wake.raise() })
    served = HTTPIntake(group: group, queue: intake, context: context)
    metrics.read("outrider_log_spool_bytes", .gauge, "Bytes of the spool on disk.") { Double(spool.bytes) }
    metrics.read(
      "outrider_log_dropped_total", .counter, "Records dropped, by reason.",
      [Label("source", "spool"), Label("reason", "drop_oldest")]
    ) { Double(spool.lost) }
    sinks = SinkSet(
      stateDirectory: stateDirectory, spool: spool, metrics: metrics, secrets: secrets, group: group, logger: logger)
    sinks.adopt(try sinks.prepare(SinkSet.plans(configuration)))
  }

  /// Adds the sources and the sink that exist by default.
  private static func completed(_ configuration: LogsConfiguration) -> LogsConfiguration {
    var result = configuration
    if !result.sources.contains(where: { $0.input == .app }) {
      result.sources.append(LogSourceConfiguration(name: "app", input: .app))
    }
    if !result.sources.contains(where: { $0.input == .access }) {
      result.sources.append(LogSourceConfiguration(name: "access", input: .access))
    }
    let none = result.sinks.isEmpty
    let hasStore = result.sinks.contains { if case .store = $0.output { true } else { false } }
    if !hasStore {
      result.sinks.append(LogSinkConfiguration(name: "store", output: .store(path: nil, keep: 256 << 20)))
    }
    if none { result.sinks.append(LogSinkConfiguration(name: "console", output: .console(pretty: false))) }
    return result
  }

  /// Starts the source thread and the sinks. Call once.
  package func start() throws {
    let inbox = inbox
    let context = context
    let checkpoints = checkpoints
    let configuration = configuration.withLock { $0 }
    let metrics = metrics
    let intake = intake
    let access = configuration.sources.first { $0.input == .access }?.name ?? "access"
    let queue = AccessQueue(
      dropped: metrics.counter(
        "outrider_log_dropped_total", "Records dropped, by reason.",
        [Label("source", access), Label("reason", "queue_full")]),
      wake: { inbox.wake.raise() })
    self.access.withLock { $0 = queue }
    events.follow { topic, lines in if topic == .access { queue.push(lines) } }
    let sourcesStarted = WorkThread.start {
      SourceLoop(
        inbox: inbox, context: context, checkpoints: checkpoints, configuration: configuration, queue: queue,
        intake: intake, metrics: metrics
      ).run()
    }
    guard sourcesStarted, sinks.start() else {
      throw LogStorageError("cannot start a thread for", "logs", EAGAIN, "raise the limit of processes (ulimit -u)")
    }
    served.adopt(configuration.sources)
  }

  /// A configuration whose sinks can be started.
  package struct Prepared: Sendable {
    fileprivate var configuration: LogsConfiguration
    fileprivate var sinks: SinkSet.Prepared
  }

  /// Makes ready what `apply` needs, without any effect on what runs. Throws when a directory or a TLS file cannot be
  /// used.
  package func prepare(_ configuration: LogsConfiguration) throws -> Prepared {
    let configuration = Self.completed(configuration)
    return Prepared(configuration: configuration, sinks: try sinks.prepare(SinkSet.plans(configuration)))
  }

  /// Goes over to a configuration without losing a record: sources go on at their byte, unchanged sinks are left alone,
  /// changed ones go on at their checkpoint, and those that are gone may first send what they have for five seconds.
  /// The spool's path stays as it is.
  package func apply(_ prepared: Prepared) async {
    let before = configuration.withLock { configuration in
      defer { configuration = prepared.configuration }
      return configuration
    }
    context.spool.adopt(prepared.configuration.spool)
    await sinks.replace(with: prepared.sinks, grace: .seconds(5))
    guard before.sources != prepared.configuration.sources || before.transforms != prepared.configuration.transforms
    else { return }
    let adopted = inbox.progress.withLock { $0.adopted }
    inbox.requests.withLock { $0.configuration = prepared.configuration }
    inbox.wake.raise()
    await SinkSet.wait(.seconds(5)) { inbox.progress.withLock { $0.adopted } > adopted }
    served.adopt(prepared.configuration.sources)
  }

  /// Current secret values to redact; former ones of the same names stay sought. The arrays are zeroed. Values shorter than
  /// four bytes are ignored.
  package func setRedactions(_ values: [(name: String, value: [UInt8])]) {
    redactions.withLock { memory in
      memory.learn(values)
      let redactor = Redactor(patterns: memory.patterns)
      context.redactor.withLock { $0 = redactor.isEmpty ? nil : redactor }
    }
    for value in values { value.value.erase() }
  }

  /// Takes ownership of the descriptors (dups of the read ends of the app's pipes); -1 for none.
  package func attachApp(stdout: CInt, stderr: CInt) {
    inbox.progress.withLock { $0.open += 2 }
    inbox.requests.withLock { $0.attach.append((stdout, stderr)) }
    inbox.wake.raise()
  }

  /// Returns true when both app pipes were read to their end and spooled. At the timeout, spools what is there, a last
  /// line without its LF included, and returns false.
  package func awaitAppEnd(timeout: Duration) async -> Bool {
    let end = ContinuousClock.now + timeout
    while ContinuousClock.now < end {
      if inbox.progress.withLock({ $0.open <= 0 }) { return true }
      try? await Task.sleep(for: .milliseconds(5))
    }
    if inbox.progress.withLock({ $0.open <= 0 }) { return true }
    inbox.progress.withLock { $0.linesFinished = false }
    inbox.requests.withLock { $0.finishLines = true }
    inbox.wake.raise()
    await SinkSet.wait(.seconds(1)) { inbox.progress.withLock { $0.linesFinished } }
    return inbox.progress.withLock { $0.open <= 0 }
  }

  /// Reads what the sources have, stops them, flushes the sinks within the timeout; what cannot be sent stays in the
  /// spool. Returns the greatest number of records that a sink has left.
  package func stop(timeout: Duration) async -> Int {
    let end = ContinuousClock.now + timeout
    served.adopt([])
    inbox.requests.withLock { $0.stop = true }
    inbox.wake.raise()
    await SinkSet.wait(timeout) { inbox.progress.withLock { $0.stopped } }
    sinks.become(.draining)
    await sinks.awaitEnd(within: ContinuousClock.now.duration(to: end))
    sinks.become(.abandoned)
    await sinks.awaitEnd(within: .seconds(1))
    return sinks.all.map { context.spool.lag(sink: $0.state.name) }.max() ?? 0
  }

  /// Stops reading, so that a successor goes on at the next byte of every source: what was read is spooled, and the
  /// beginning of a line stays where it is. Sinks finish what they have begun, within the timeout. Access records wait
  /// for `forwardAccess`.
  package func handOver(timeout: Duration) async {
    served.adopt([])
    inbox.requests.withLock {
      $0.handsOver = true
      $0.stop = true
    }
    inbox.wake.raise()
    await SinkSet.wait(timeout) { inbox.progress.withLock { $0.stopped } }
    sinks.become(.draining)
    await sinks.awaitEnd(within: timeout)
    sinks.become(.abandoned)
    await sinks.awaitEnd(within: .seconds(1))
  }

  /// After `handOver`: whole lines of access records go to `take`, on a thread of its own, until it says false.
  package func forwardAccess(_ take: @escaping @Sendable ([UInt8]) -> Bool) {
    guard let queue = access.withLock({ $0 }) else { return }
    let inbox = inbox
    forwarding.withLock { $0.isOver = false }
    let started = WorkThread.start { [self] in
      while true {
        let ends = forwarding.withLock { $0.ends }
        let lines = queue.takeAll()
        if lines.isEmpty ? ends : !take(lines) { break }
        if lines.isEmpty { inbox.wake.wait(milliseconds: 1000) }
      }
      forwarding.withLock { $0.isOver = true }
    }
    if !started { forwarding.withLock { $0.isOver = true } }
  }

  /// Forwards what is left.
  package func endForwarding() async {
    forwarding.withLock { $0.ends = true }
    inbox.wake.raise()
    await SinkSet.wait(.seconds(2)) { forwarding.withLock { $0.isOver } }
  }

  package func status() -> [LogSinkStatus] { sinks.all.map(\.state.status) }
}
