package import Logging
package import NIOCore
import Resilience
package import Secrets
import Synchronization
package import Telemetry
import Vocabulary

/// Why the agent cannot start. Waiting does not heal it.
package struct SecretStartError: Error, CustomStringConvertible {
  package var description: String
}

/// Fetches secrets from their stores, keeps them fresh, delivers them to files and runs change actions.
package final class SecretAgent: Sendable {
  struct State {
    var tasks: [Task<Void, Never>] = []
    /// By the store's name.
    var vaults: [String: OpenVault] = [:]
    var delivery: FileDelivery?
    /// Names that changed and are not delivered yet.
    var pending: Set<String> = []
    /// Names of secrets that this agent's stores have.
    var names: Set<String> = []
    var isStopped = false
  }

  package let book: SecretBook
  let configuration: SecretsConfiguration
  let logger: Logger
  let timings: AgentTimings
  let ledger: SecretLedger
  /// What an earlier agent left to this one.
  let inheritance: SecretInheritance?
  let baseDirectory: String
  let logins: KeptLogins?
  let outlets: SecretOutlets
  private let metrics: MetricRegistry
  private let group: any EventLoopGroup
  let runner: ActionRunner
  private let onWait: (@Sendable (String) -> Void)?
  let state = Mutex(State())
  /// Rung by every fetch result while start waits.
  let progress = Doorbell()
  /// Rung when something is pending.
  let changes = Doorbell()
  /// One for each secret that is polled.
  let polls: [String: Doorbell]

  /// Relative paths in `configuration` are relative to `baseDirectory`. `onAction` carries out a change action and
  /// returns whether it worked; a failing one is tried again. After a reload `inheritance` is what the agent before
  /// handed over. `onWait` hears what start waits for, at each change, and the empty text at its end; without it a line
  /// is logged every five seconds.
  package convenience init(
    configuration: SecretsConfiguration, baseDirectory: String, metrics: MetricRegistry, group: any EventLoopGroup,
    logger: Logger, inheritance: SecretInheritance? = nil, logins: KeptLogins? = nil,
    onWait: (@Sendable (String) -> Void)? = nil, onAction: @escaping @Sendable (ChangeAction) async -> Bool
  ) {
    self.init(
      configuration: configuration, baseDirectory: baseDirectory, metrics: metrics, group: group, logger: logger,
      inheritance: inheritance, timings: AgentTimings(), logins: logins, onWait: onWait, onAction: onAction)
  }

  init(
    configuration: SecretsConfiguration, baseDirectory: String, metrics: MetricRegistry, group: any EventLoopGroup,
    logger: Logger, inheritance: SecretInheritance? = nil, timings: AgentTimings,
    logins: KeptLogins? = nil, onWait: (@Sendable (String) -> Void)? = nil,
    onAction: @escaping @Sendable (ChangeAction) async -> Bool
  ) {
    self.logins = logins
    self.configuration = configuration
    self.baseDirectory = baseDirectory
    self.metrics = metrics
    self.group = group
    self.logger = logger
    self.timings = timings
    self.inheritance = inheritance
    self.onWait = onWait
    book = inheritance?.book ?? SecretBook()
    ledger = inheritance?.ledger ?? SecretLedger(metrics: metrics, book: book)
    outlets =
      inheritance?.outlets
      ?? SecretOutlets(book: book, ledger: ledger, metrics: metrics, group: group, logger: logger)
    runner = ActionRunner(
      retry: timings.retry, logger: logger,
      onOutcome: { [ledger] action, failures in
        let reason = failures == 0 ? nil : "the change action \(action) failed \(failures) times and is tried again"
        ledger.note("action \(action)", of: configuration.secrets(with: action), reason)
      },
      onAction: ActionDriver(group: group, counters: outlets.actions, logger: logger, others: onAction).run)
    polls = Dictionary(configuration.values.map { ($0.name, Doorbell()) }) { first, _ in first }
  }

  /// Logs in, fetches every value and writes every file; returns when all required values are there. Throws only for
  /// what waiting cannot heal: a wrong identity, a store file that is missing or malformed, an unwritable directory,
  /// a field that a template wants and the secret has not.
  package func start() async throws {
    do {
      try await prepare(within: nil)
      try await begin()
    } catch {
      await stop()
      throw error
    }
  }

  /// Opens the stores, waits for the values, at most `limit`, and writes the files.
  func prepare(within limit: Duration?) async throws {
    book.follow { [weak self] names in self?.changed(names) }
    let delivery = try FileDelivery(configuration.files) { self.absolute($0) }
    state.withLock { $0.delivery = delivery }
    for store in configuration.stores { try open(store) }
    try await waitForValues(within: limit)
    if inheritance == nil { state.withLock { $0.pending = [] } }
  }

  /// Writes every file, tells the app of what is new to it, and goes on with what changes.
  func begin() async throws {
    warnOfDisks()
    var actions = try deliverFirst()
    try openOutlets()
    let names = state.withLock { state in
      defer { state.pending = [] }
      return state.pending.union(inheritance?.pending ?? [])
    }
    for value in configuration.values where names.contains(value.name) { actions += value.onChange }
    await runner.request((inheritance?.actions ?? []) + actions)
    follow()
  }

  func follow() {
    spawn { agent in await agent.deliverChanges() }
    spawn { agent in await agent.watch() }
  }

  /// Fetches every value now.
  package func refreshNow() { for bell in polls.values { bell.ring() } }

  /// Ends every task, logs out of the stores, removes delivered files and forgets values.
  package func stop() async {
    let left = await end()
    for vault in left.vaults.values { await vault.close() }
    left.delivery?.remove()
    outlets.close()
    book.forget()
  }

  /// Ends every task; what is open and pending is the caller's.
  func end() async -> (
    vaults: [String: OpenVault], delivery: FileDelivery?, pending: Set<String>, actions: [ChangeAction]
  ) {
    let (tasks, vaults, delivery) = state.withLock { state in
      state.isStopped = true
      defer { state.tasks = [] }
      return (state.tasks, state.vaults, state.delivery)
    }
    for task in tasks { task.cancel() }
    let actions = await runner.stop()
    for task in tasks { await task.value }
    let pending = state.withLock { state in
      let pending = state.pending
      state = State(isStopped: true)
      return pending
    }
    return (vaults, delivery, pending, actions)
  }

  /// Every secret's state, by name; never a value.
  package func status() -> [SecretStatus] { ledger.statuses }

  func absolute(_ path: String) -> String { path.hasPrefix("/") ? path : "\(baseDirectory)/\(path)" }

  /// Starts a task that ends with `stop`.
  func spawn(_ body: @escaping @Sendable (SecretAgent) async -> Void) {
    state.withLock { state in
      guard !state.isStopped else { return }
      state.tasks.append(Task { await body(self) })
    }
  }

  // MARK: - Stores

  func open(_ store: SecretStoreConfiguration) throws {
    let values = configuration.values.filter { $0.store == store.name }
    for value in values {
      note(
        value.name, store: store.name, source: value.source.summary, required: value.required,
        isNew: inheritance?.has(value, in: store) != true)
    }
    switch store.kind {
    case .vault(let vault): try open(vault, store.name, values)
    case .age(let file, let identity):
      let (file, identity) = (absolute(file), absolute(identity))
      if let mode = PlainFile.mode(identity), mode & 0o077 != 0 {
        let text = String(mode, radix: 8)
        logger.warning("\(identity) can be read by others (mode \(text)): run `chmod 600 \(identity)`")
      }
      try open(LocalStore(name: store.name, kind: .age(file: file, identity: identity)), values)
    case .directory(let path): try open(LocalStore(name: store.name, kind: .directory(absolute(path))), values)
    case .environment: try open(LocalStore(name: store.name, kind: .environment), values)
    }
  }

  private func open(_ local: LocalStore, _ values: [SecretValueConfiguration]) throws {
    var keys: [String: String] = [:]
    for value in values {
      guard case .key(let key) = value.source else {
        throw SecretStartError(
          description: "secret `\(value.name)`: the store `\(local.name)` has no `kv`; write `key: NAME` instead")
      }
      keys[value.name] = key
    }
    let source = LocalSource(store: local, values: values, keys: keys, takesAll: configuration.values.isEmpty)
    var watched = LocalWatch(source: source)
    if let failure = watched.load(into: self) { throw SecretStartError(description: failure) }
    let start = watched
    spawn { agent in
      var watched = start
      while !Task.isCancelled {
        try? await Task.sleep(for: agent.timings.watch)
        if !Task.isCancelled { watched.look(agent) }
      }
    }
  }

  /// A secret of this agent's; a new one is waited for even when the book has a value of that name.
  func note(_ name: String, store: String, source: String, required: Bool, isNew: Bool = false) {
    state.withLock { _ = $0.names.insert(name) }
    ledger.add(name, store: store, source: source, required: required, isNew: isNew)
  }

  private func open(_ vault: VaultConfiguration, _ name: String, _ values: [SecretValueConfiguration]) throws {
    let opened = try inheritance?.vault(name, vault) ?? login(vault, name)
    state.withLock { $0.vaults[name] = opened }
    let store = opened.store
    let bells = values.compactMap { polls[$0.name] }
    spawn { agent in
      await store.follow { [weak agent] in
        let failing = Set(agent?.ledger.statuses.filter { $0.lastError != nil || $0.age == nil }.map(\.name) ?? [])
        for (value, bell) in zip(values, bells) where failing.contains(value.name) || value.source.isLeased {
          bell.ring()
        }
      }
    }
    for value in values {
      switch value.source {
      case .kv(let path), .staticRole(let path): spawn { agent in await agent.poll(value, path, store) }
      case .lease(let path): spawn { agent in await agent.keepLeased(value, path, store) }
      case .pki(let request): spawn { agent in await agent.keepIssued(value, request, store) }
      case .key:
        throw SecretStartError(
          description: "secret `\(value.name)`: the vault store `\(name)` has no `key`; write `kv: MOUNT/PATH` instead")
      }
    }
  }

  private func login(_ vault: VaultConfiguration, _ name: String) throws -> OpenVault {
    let store = try Self.makeStore(
      vault, name, book: book, baseDirectory: baseDirectory, metrics: metrics, group: group, logger: logger,
      timings: timings, logins: logins)
    return OpenVault(configuration: vault, store: store, life: Task { await store.run() })
  }

  static func makeStore(
    _ vault: VaultConfiguration, _ name: String, book: SecretBook, baseDirectory: String, metrics: MetricRegistry,
    group: any EventLoopGroup, logger: Logger, timings: AgentTimings, logins: KeptLogins?
  ) throws -> VaultStore {
    try VaultStore(
      name: name, configuration: vault, group: group, timings: timings, book: book, logger: logger,
      metrics: VaultMetrics(metrics, store: name), logins: logins,
      absolute: { $0.hasPrefix("/") ? $0 : "\(baseDirectory)/\($0)" })
  }

  private func poll(_ value: SecretValueConfiguration, _ path: String, _ store: VaultStore) async {
    var random = SeededRandom()
    var schedule = RefreshSchedule(interval: value.refresh)
    let bell = polls[value.name] ?? Doorbell()
    while !Task.isCancelled {
      let now = SystemTime.uptime
      if schedule.due > now {
        if await bell.wait(for: schedule.due - now) { schedule.refreshNow(at: SystemTime.uptime) }
        continue
      }
      do throws(VaultFailure) {
        let isStatic = if case .staticRole = value.source { true } else { false }
        let secret = try await isStatic ? store.readStaticRole(path) : store.read(path)
        if Task.isCancelled { return }
        let rotated = book.publish(
          value.name, secret.fields, version: secret.version,
          expires: secret.rotatesIn.map { SystemTime.now + $0.components.seconds })
        if ledger.succeeded(value.name, rotated: rotated) { logger.info("secret `\(value.name)`: fetched again") }
        schedule.succeeded(at: SystemTime.uptime, rotatesIn: secret.rotatesIn, using: &random)
      } catch {
        if Task.isCancelled { return }
        schedule.failed(at: SystemTime.uptime, using: &random)
        if ledger.failed(value.name, "\(path) in \(store.address): \(error)"), book.fields(value.name) != nil {
          logger.warning("secret `\(value.name)`: \(path): \(error); the last good value stays in use")
        }
      }
      progress.ring()
    }
  }

  private func waitForValues(within limit: Duration?) async throws {
    var notice = SystemTime.uptime + timings.notice
    var said = ""
    let deadline = limit.map { SystemTime.uptime + $0 }
    defer { onWait?("") }
    while true {
      let (mine, isStopped) = state.withLock { ($0.names, $0.isStopped) }
      if isStopped { throw CancellationError() }
      let awaited = ledger.awaited.filter { mine.contains($0.name) }
      if awaited.isEmpty { return }
      try Task.checkCancellation()
      let now = SystemTime.uptime
      if let limit, let deadline, now >= deadline {
        throw SecretStartError(
          description: "secret `\(awaited[0].name)` did not come within \(DurationText.format(limit)): "
            + awaited[0].reason)
      }
      let names = awaited.map { "`\($0.name)`" }.joined(separator: ", ")
      let text = "\(awaited.count == 1 ? "secret" : "secrets") \(names): \(awaited[0].reason)"
      if let onWait, text != said { onWait(text) }
      said = text
      if now >= notice {
        notice = now + timings.notice
        if onWait == nil { logger.warning("waiting for \(text)") }
      }
      _ = await progress.wait(for: max(min(notice, deadline ?? notice) - now, .milliseconds(1)))
    }
  }
}
