import Glibc
package import Logging
package import Logs
package import NIOCore
import Synchronization
package import Telemetry
package import Vocabulary

/// The log pipeline of a worker: sources → spool → sinks. Its state lives in `spool/ store/ checkpoints/ dead-letter/`
/// under the state directory; a successor goes on where it stood.
package final class LogPipeline: Sendable {
  /// The value of a text with secrets, nil while one of them is not there yet.
  package typealias SecretResolver = @Sendable (SecretTemplate) -> [UInt8]?

  private let configuration: LogsConfiguration
  private let checkpoints: String
  private let metrics: MetricRegistry
  private let events: EventStream
  private let logger: Logger
  private let context: IntakeContext
  private let inbox = SourceInbox()
  private let local: [LocalSink]
  private let network: [ElasticsearchSink]

  private var states: [SinkState] { local.map(\.state) + network.map(\.state) }

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
    self.configuration = configuration
    self.metrics = metrics
    self.events = events
    self.logger = logger
    checkpoints = stateDirectory + "/checkpoints"
    try StateFile.makeDirectory(stateDirectory + "/dead-letter")
    let spool = try Spool(
      path: configuration.spool.path ?? stateDirectory + "/spool", checkpoints: checkpoints,
      configuration: configuration.spool, write: spoolWrite)
    context = IntakeContext(spool: spool, logger: logger)
    metrics.read("outrider_log_spool_bytes", .gauge, "Bytes of the spool on disk.") { Double(spool.bytes) }
    metrics.read(
      "outrider_log_dropped_total", .counter, "Records dropped, by reason.",
      [Label("source", "spool"), Label("reason", "drop_oldest")]
    ) { Double(spool.lost) }
    let appSources = configuration.sources.filter { $0.input == .app }.map(\.name)
    var local: [LocalSink] = []
    var network: [ElasticsearchSink] = []
    for sink in configuration.sinks {
      var sources = sink.from
      // Access records do not belong among the app's own lines.
      if case .console = sink.output, sources.isEmpty { sources = appSources }
      let state = SinkState(name: sink.name, sources: sources, spool: spool, metrics: metrics)
      // The spool must know every sink before the first record, so that it keeps what they need.
      _ = spool.register(sink: sink.name)
      switch sink.output {
      case .store(let path, let keep):
        let path = path ?? stateDirectory + "/store"
        local.append(LocalSink(state, logger: logger) { .store(try StoreWriter(path: path, keep: keep)) })
      case .console(let pretty):
        local.append(LocalSink(state, logger: logger) { .console(ConsoleWriter(pretty: pretty)) })
      case .file(let path):
        local.append(LocalSink(state, logger: logger) { .file(FileWriter(path: path)) })
      case .elasticsearch(let options):
        let client = try BulkClient(options, sink, group: group, secrets: secrets)
        let dead = sink.deadLetter ?? "\(stateDirectory)/dead-letter/\(sink.name).ndjson"
        network.append(
          ElasticsearchSink(state, sink, options, client: client, deadLetter: dead, logger: logger))
      }
    }
    self.local = local
    self.network = network
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
    let configuration = configuration
    let metrics = metrics
    let access = configuration.sources.first { $0.input == .access }
    let queue = access.map { source in
      AccessQueue(
        dropped: metrics.counter(
          "outrider_log_dropped_total", "Records dropped, by reason.",
          [Label("source", source.name), Label("reason", "queue_full")]),
        wake: { inbox.wake.raise() })
    }
    if let queue { events.follow { topic, lines in if topic == .access { queue.push(lines) } } }
    let sourcesStarted = WorkThread.start {
      func shipper(_ source: LogSourceConfiguration) -> LineShipper {
        LineShipper(source, configuration.transforms, context, metrics)
      }
      let files = configuration.sources.compactMap { source -> FilesSource? in
        guard case .files(let input) = source.input else { return nil }
        return FilesSource(
          name: source.name, input: input, shipper: shipper(source), spool: context.spool, directory: checkpoints)
      }
      SourceLoop(
        inbox: inbox, context: context, checkpoints: checkpoints,
        app: configuration.sources.first { $0.input == .app }.map(shipper), access: access.map(shipper), queue: queue,
        files: files
      ).run()
    }
    let sinksStarted = local.allSatisfy { sink in WorkThread.start { sink.run() } }
    guard sourcesStarted, sinksStarted else {
      throw LogStorageError("cannot start a thread for", "logs", EAGAIN, "raise the limit of processes (ulimit -u)")
    }
    for sink in network { Task { await sink.run() } }
  }

  /// Current and previous secret values to redact; replaces the former set. Values shorter than four bytes are ignored.
  package func setRedactions(_ values: [(name: String, value: [UInt8])]) {
    let redactor = Redactor(values: values)
    context.redactor.withLock { $0 = redactor.isEmpty ? nil : redactor }
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
    await wait(until: ContinuousClock.now + .seconds(1)) { inbox.progress.withLock { $0.linesFinished } }
    return inbox.progress.withLock { $0.open <= 0 }
  }

  /// Reads what the sources have, stops them, flushes the sinks within the timeout; what cannot be sent stays in the
  /// spool. Returns the greatest number of records that a sink has left.
  package func stop(timeout: Duration) async -> Int {
    let end = ContinuousClock.now + timeout
    inbox.requests.withLock { $0.stop = true }
    inbox.wake.raise()
    await wait(until: end) { inbox.progress.withLock { $0.stopped } }
    setPhase(.draining)
    await wait(until: end) { states.allSatisfy { $0.phase == .finished } }
    setPhase(.abandoned)
    await wait(until: ContinuousClock.now + .seconds(1)) { states.allSatisfy { $0.phase == .finished } }
    return states.map { $0.spool.lag(sink: $0.name) }.max() ?? 0
  }

  private func setPhase(_ phase: SinkState.Phase) {
    for state in states where state.phase != .finished { state.phase = phase }
    for sink in local { sink.wake.raise() }
    for sink in network { sink.wake() }
  }

  private func wait(until end: ContinuousClock.Instant, _ condition: () -> Bool) async {
    while !condition(), ContinuousClock.now < end { try? await Task.sleep(for: .milliseconds(5)) }
  }

  package func status() -> [LogSinkStatus] { states.map(\.status) }
}
