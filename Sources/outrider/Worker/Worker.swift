import Admin
import AsyncHTTPClient
import CLinux
import ConfigurationFile
import Glibc
import LogShipper
import Logging
import MetricExporter
import NIOCore
import NIOPosix
import SecretAgent
import Secrets
import Supervisor
import Telemetry
import Traffic
import TrafficProxy
import Vocabulary

/// The parts of one sidecar, wired. The order of a life stands in `start`, `handle` and `finish`.
actor Worker {
  let input: ConfigurationInput
  let link: SupervisorLink
  /// Keeps the configuration in use for the worker that takes over.
  let memory: KeptState?
  let logger: Logger
  let group: MultiThreadedEventLoopGroup
  let client: HTTPClient
  /// For spans and metrics, whose credentials no redirect leads elsewhere.
  let sender: HTTPClient
  let metrics = MetricRegistry()
  /// What `/metrics` shows: ours, and what is scraped.
  let scraper: Scraper
  private let appProcesses: AppProcesses
  let events = EventStream()
  /// Replaced by a reload that changes secrets; its book stays.
  var agent: SecretAgent
  let logs: LogPipeline
  let proxy: TrafficProxy
  let facts: WorkerFacts
  /// Sends spans while `telemetry.tracing` is configured.
  var tracer: Tracer?
  /// Sends metrics while `telemetry.metrics` names receivers.
  var pusher: MetricPusher?
  let metricLines: MetricLines

  var loaded: LoadedConfiguration
  var sockets: SocketBook
  var adminListeners: [Address: AdminListener] = [:]
  /// The last reload asked for; each waits for the one before.
  var reloading: Task<AdminEndpoints.Outcome, Never>?
  var probing: Task<Void, Never>?
  private(set) var logsStarted = false
  private var outputsWaiting: [(stdout: CInt, stderr: CInt)] = []
  private(set) var inboundIsOpen = false
  private(set) var outboundIsOpen = false
  /// The run is ending: nothing is opened any more.
  private(set) var isStopping = false
  var ended = false
  /// Makes room for a worker that begins with a new configuration.
  var leaves = false
  /// The state directory's, until a successor has it.
  var lock: CInt
  /// What the former worker handed over.
  private let handover: Handover?
  /// What this one has handed over; from there on it only serves traffic.
  var given: Given?
  /// From the beginning of the handing over on.
  var isGiving = false
  /// Who waits for the end of an upgrade.
  var upgrading: CheckedContinuation<AdminEndpoints.Outcome, Never>?

  init(
    loaded: LoadedConfiguration, input: ConfigurationInput, link: SupervisorLink, memory: KeptState?, lock: CInt,
    handover: Handover?, logger: Logger
  ) async throws {
    self.memory = memory
    self.lock = lock
    self.handover = handover
    self.loaded = loaded
    self.input = input
    self.link = link
    self.logger = logger
    let value = loaded.value
    try Self.requireDescriptors()
    // The proxy has loops of its own; this one serves the rest.
    group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
    facts = WorkerFacts(loaded: loaded)
    sockets = SocketBook(link: link)
    let inherited = try await handover?.secrets(
      value.secrets, input: input, metrics: metrics, group: group, logger: logger, logins: memory?.logins)
    agent = Self.makeAgent(
      value.secrets, inherited, input: input, metrics: metrics, group: group, logger: logger, link: link,
      memory: memory)
    let book = agent.book
    logs = try LogPipeline(
      configuration: value.logs, stateDirectory: value.stateDirectory, metrics: metrics, events: events,
      secrets: { book.resolve($0) }, group: group, logger: logger)
    do {
      proxy = try TrafficProxy(
        configuration: value.traffic, app: Self.address(of: value.app),
        threads: value.traffic.threads ?? min(System.coreCount, 4), group: group, metrics: metrics, events: events,
        secrets: { book.resolve($0) }, book: book, endpointFiles: { EndpointFile.decode($0, path: $1) }, logger: logger)
    } catch let error as TLSMaterialError {
      throw StartFailure(description: "\(error)", exitCode: ExitStatus.configuration)
    }
    // Last: a client that was made has to be shut down.
    client = HTTPClient(eventLoopGroup: group)
    var sending = HTTPClient.Configuration()
    sending.redirectConfiguration = .disallow
    sender = HTTPClient(eventLoopGroup: group, configuration: sending)
    let facts = facts
    scraper = Scraper(metrics, client: client, logger: logger) { facts.now.loaded.value.scrape }
    metricLines = MetricLines(metrics)
    appProcesses = AppProcesses(metrics) { facts.now.appPID }
    handover?.follow(metrics: metrics, events: events)
  }

  /// Throws when there are not as many descriptors as the event loops need to begin.
  private static func requireDescriptors() throws(StartFailure) {
    let taken = (0..<32).map { _ in Glibc.open("/dev/null", O_RDONLY | O_CLOEXEC) }
    for descriptor in taken where descriptor >= 0 { Glibc.close(descriptor) }
    if taken.contains(-1) {
      throw StartFailure(description: "no descriptors are left to begin with; raise the limit (ulimit -n)", exitCode: 1)
    }
  }

  func shutDownClients() async {
    try? await client.shutdown()
    try? await sender.shutdown()
  }

  static func address(of app: AppConfiguration) -> Address? { app.port.map { .tcp(host: app.address, port: $0) } }

  static func makeAgent(
    _ configuration: SecretsConfiguration, _ inheritance: SecretInheritance?, input: ConfigurationInput,
    metrics: MetricRegistry, group: MultiThreadedEventLoopGroup, logger: Logger, link: SupervisorLink,
    memory: KeptState?
  ) -> SecretAgent {
    SecretAgent(
      configuration: configuration, baseDirectory: input.workingDirectory, metrics: metrics, group: group,
      logger: logger, inheritance: inheritance, logins: memory?.logins, onWait: { link.send(.waiting(for: $0)) },
      onAction: { action in
        switch action {
        case .signal(let number): link.send(.actionSignal(number))
        case .restart: link.send(.actionRestart)
        case .exec, .http: return false
        }
        return true
      })
  }

  /// What health and status say, for alerts.
  private func registerLifecycleMetrics() {
    let facts = facts
    metrics.read("outrider_app_ready", .gauge, "1 while the app is ready.") { facts.now.appReady ? 1 : 0 }
    metrics.read("outrider_app_restarts_total", .counter, "Starts of the app after its first.") {
      Double(facts.now.restarts)
    }
    for (outcome, count) in Self.upgradeOutcomes {
      metrics.read(
        "outrider_upgrades_total", .counter, "Upgrades of the sidecar in this run, by outcome.",
        [Label("outcome", outcome)]
      ) { Double(count(facts.now.run.upgrades)) }
    }
    metrics.read("outrider_worker_generation", .gauge, "Workers of this run so far, this one included.") {
      Double(facts.now.run.generation)
    }
    metrics.read("outrider_build_info", .gauge, "Always 1.", [Label("version", ProductVersion.text)]) { 1 }
  }

  private static var upgradeOutcomes: [(String, @Sendable (UpgradeCounts) -> UInt32)] {
    [("succeeded", { $0.succeeded }), ("failed", { $0.failed }), ("reverted", { $0.reverted })]
  }

  /// Lives until the supervisor has all it wants, or is gone. `first` is a frame that was taken already.
  func run(_ frames: AsyncStream<(SupervisorFrame, [CInt])>, first: (SupervisorFrame, [CInt])?) async -> Int32 {
    registerLifecycleMetrics()
    if let first { await handle(first.0, first.1) }
    link.send(.plan(AppPolicy(app: loaded.value.app, shutdown: loaded.value.shutdown)))
    let starting = Task { await self.startOrFail() }
    for await (frame, descriptors) in frames {
      await handle(frame, descriptors)
      if ended { break }
    }
    starting.cancel()
    if !ended { await shutDownClients() }
    return ended || leaves ? 0 : 1
  }

  private func startOrFail() async {
    do {
      try await start()
    } catch is CancellationError {
      return
    } catch {
      let failure = error as? StartFailure ?? StartFailure(description: "\(error)", exitCode: ExitStatus.configuration)
      logger.error("\(failure.description)")
      link.send(.fatal(exitCode: failure.exitCode))
    }
  }

  /// Start order: addresses, admin, secrets, logs, outbound; the app comes when the supervisor asks for it.
  private func start() async throws {
    let value = loaded.value
    for seat in value.adminSeats { try await openAdmin(seat.address, value.admin) }
    for listener in value.traffic.outbound + value.traffic.inbound {
      try await bind(listener.listen, for: "\(listener.direction.rawValue).\(listener.name)")
    }
    if handover == nil { try await agent.start() } else { try await agent.succeed(within: Self.secretsLimit) }
    followSecrets()
    link.send(.secretsReady)
    try logs.start()
    logsStarted = true
    for output in outputsWaiting { logs.attachApp(stdout: output.stdout, stderr: output.stderr) }
    outputsWaiting = []
    followTracing(value.traffic.tracing)
    await followMetrics(value.traffic.metricPush)
    for listener in value.traffic.outbound { try await open(listener) }
    outboundIsOpen = true
    facts.change { $0.outboundReady = true }
    memory?.write(loaded.image)
    link.send(.outboundReady)
    if inboundIsOpen { await openInbound() }
  }

  private func followSecrets() {
    let book = agent.book
    let logs = logs
    logs.setRedactions(book.redactions())
    book.follow { _ in logs.setRedactions(book.redactions()) }
  }

  /// A default address that is taken is no reason not to start.
  private func openAdmin(_ address: Address, _ admin: AdminConfiguration) async throws {
    do {
      try await bind([address], for: "admin")
    } catch let failure as StartFailure where address == admin.listen && !admin.isExplicit {
      logger.warning("\(failure.description); health and metrics are served on the control socket only")
      return
    }
    try await serveAdmin(address)
  }

  /// Serves the admin API on a bound address.
  func serveAdmin(_ address: Address) async throws {
    let server = AdminServer(endpoints: adminEndpoints(), group: group, logger: logger)
    sockets.listen(address)
    for descriptor in sockets.take(address) {
      let isNetwork = if case .tcp = address { true } else { false }
      adminListeners[address] = try await server.open(descriptor: descriptor, isNetwork: isNetwork)
    }
  }

  /// Asks the supervisor for sockets and waits for its answer.
  func bind(_ addresses: [Address], for subject: String) async throws {
    for await answer in sockets.request(addresses, for: subject) { _ = try answer.get() }
  }

  private func open(_ listener: ListenerConfiguration) async throws {
    for address in listener.listen { try await open(listener.id, address) }
  }

  /// Serves a listener on a bound address.
  func open(_ listener: ListenerID, _ address: Address) async throws {
    sockets.listen(address)
    let descriptors = sockets.take(address)
    guard !descriptors.isEmpty else { return }
    try await proxy.open(
      listener: listener.name, direction: listener.direction, descriptors: descriptors, address: address)
    facts.change { $0.open.insert(listener.description) }
  }

  private func openInbound() async {
    inboundIsOpen = true
    guard outboundIsOpen, !isStopping else { return }
    for listener in loaded.value.traffic.inbound {
      do {
        try await open(listener)
      } catch {
        logger.error("inbound.\(listener.name) cannot accept connections: \(error)")
      }
    }
  }

  /// One frame of the supervisor.
  private func handle(_ frame: SupervisorFrame, _ descriptors: [CInt]) async {
    switch frame {
    case .bound(let id, let addresses): sockets.bound(id, addresses, descriptors)
    case .bindFailed(let id, let address, let reason): sockets.failed(id, address, reason)
    case .prepareApp: prepareApp()
    case .appStarted(let pid, let restarts):
      facts.change {
        $0.appPID = pid
        $0.restarts = Int(restarts)
      }
      attach(descriptors)
      probeApp()
    case .appExited(let exit):
      probing?.cancel()
      facts.change {
        $0.appPID = nil
        $0.appReady = false
        $0.appReason = "the app \(exit)"
      }
    case .appReadyByDescriptor:
      facts.change { $0.appReady = true }
    case .openInbound:
      await openInbound()
      link.send(.serving)
    case .draining:
      isStopping = true
      facts.change { $0.draining = true }
      proxy.setDraining(.inbound)
    case .closeInbound(let timeout):
      Task {
        await self.releaseForGood(self.loaded.value.traffic.inbound.flatMap(\.listen))
        let cut = await self.proxy.drain(.inbound, timeout: timeout)
        if cut > 0 {
          self.logger.warning("drain: \(cut) inbound requests were cut after \(DurationText.format(timeout))")
        }
        self.link.send(.inboundDrained)
      }
    case .finish(let timeout): Task { await self.finish(timeout) }
    case .reload: Task { _ = await self.reload() }
    case .state(let state):
      if state == .ready { outrider_release_file_pages() }
      facts.change { $0.state = state.rawValue }
    case .inherit(let inheritance):
      facts.change {
        $0.appPID = inheritance.appPID
        $0.restarts = Int(inheritance.restarts)
        $0.state = inheritance.state.rawValue
        $0.wasReady = true
        $0.appReady = inheritance.appPID != nil && inheritance.state == .ready
        if $0.appReady { $0.appReason = "" }
      }
      attach(descriptors)
      if inheritance.appPID != nil { probeApp(known: inheritance.state == .ready ? true : nil) }
    case .handOver: await handOver(to: descriptors.first ?? -1)
    case .leave(let timeout): Task { await self.leave(timeout) }
    case .upgradeEnded(let outcome, let text): await upgradeEnded(outcome, text)
    case .run(let run): facts.change { $0.run = run }
    }
  }

  /// Pairs of stdout and stderr, in order.
  private func attach(_ descriptors: [CInt]) {
    for index in stride(from: 0, to: descriptors.count - 1, by: 2) {
      let pair = (stdout: descriptors[index], stderr: descriptors[index + 1])
      if logsStarted { logs.attachApp(stdout: pair.stdout, stderr: pair.stderr) } else { outputsWaiting.append(pair) }
    }
  }

  private func prepareApp() {
    let app = loaded.value.app
    do {
      let secrets = agent.appInheritance()
      defer { if let descriptor = secrets.descriptor { close(descriptor) } }
      var base = input.environment
      for variable in secrets.variables { base[variable.name] = variable.value }
      let environment = try AppEnvironment.render(app, base: base, book: agent.book)
      link.send(
        .startApp(
          AppSpec(
            arguments: app.command, environment: environment, workingDirectory: app.workingDirectory, user: app.user,
            group: app.group, readyDescriptor: app.ready?.probe == .descriptor)),
        descriptors: secrets.descriptor.map { [$0] } ?? [])
    } catch {
      logger.error("\(error)")
      link.send(.fatal(exitCode: ExitStatus.configuration))
    }
  }

  /// Begins to follow the app's readiness; `known` is what is known of it already.
  func probeApp(known: Bool? = nil) {
    probing?.cancel()
    guard let ready = AppReadiness.effective(loaded.value) else {
      facts.change { $0.appReady = true }
      link.send(.appReady(true, reason: ""))
      return
    }
    if ready.probe == .descriptor { return }
    let readiness = AppReadiness(
      configuration: ready, probe: appProbe(ready), link: link, facts: facts, logger: logger, known: known)
    probing = Task { await readiness.run() }
  }

  /// The probe that `ready` describes, of the app as configured now.
  func appProbe(_ ready: AppConfiguration.Ready) -> AppProbe {
    let app = loaded.value.app
    return AppProbe(
      probe: ready.probe, address: app.address, port: app.port, timeout: ready.timeout, client: client, group: group)
  }

  /// Stop order: pipes to their end, outbound, sinks, secrets.
  private func finish(_ timeout: Duration) async {
    guard !ended else { return }
    isStopping = true
    let deadline = ContinuousClock.now + timeout
    reloading?.cancel()
    _ = await reloading?.value
    if logsStarted {
      if !(await logs.awaitAppEnd(timeout: timeout / 2)) {
        logger.warning(
          "the app's output did not end within \(DurationText.format(timeout / 2)); a child of the app keeps it open")
      }
      _ = await proxy.drain(.outbound, timeout: min(.seconds(1), timeout / 10))
      let left = await logs.stop(
        timeout: max(.milliseconds(200), ContinuousClock.now.duration(to: deadline) - .milliseconds(500)))
      if left > 0 {
        logger.warning("\(left) log records are not delivered yet; they stay in the spool for the next run")
      }
    }
    await proxy.close()
    await tracer?.end()
    await pusher?.end()
    await agent.stop()
    probing?.cancel()
    for listener in adminListeners.values { listener.stop() }
    await shutDownClients()
    ended = true
    link.send(.flushed)
  }
}
