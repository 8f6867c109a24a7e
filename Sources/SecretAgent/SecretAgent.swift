package import Logging
package import NIOCore
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
  private struct State {
    var tasks: [Task<Void, Never>] = []
    var vaults: [VaultStore] = []
    var delivery: FileDelivery?
    /// Names that changed and are not delivered yet.
    var pending: Set<String> = []
    var isStopped = false
  }

  package let book: SecretBook
  let configuration: SecretsConfiguration
  let logger: Logger
  let timings: AgentTimings
  let ledger: SecretLedger
  private let baseDirectory: String
  private let metrics: MetricRegistry
  private let group: any EventLoopGroup
  private let runner: ActionRunner
  private let state = Mutex(State())
  /// Rung by every fetch result while start waits.
  let progress = Doorbell()
  /// Rung when something is pending.
  private let changes = Doorbell()
  /// One for each secret that is polled.
  let polls: [String: Doorbell]

  /// Relative paths in `configuration` are relative to `baseDirectory`. `onAction` carries out a change action and
  /// returns whether it worked; a failing one is tried again. `book` is the predecessor's after a reload.
  package convenience init(
    configuration: SecretsConfiguration, baseDirectory: String, metrics: MetricRegistry, group: any EventLoopGroup,
    logger: Logger, book: SecretBook = SecretBook(), onAction: @escaping @Sendable (ChangeAction) async -> Bool
  ) {
    self.init(
      configuration: configuration, baseDirectory: baseDirectory, metrics: metrics, group: group, logger: logger,
      book: book, timings: AgentTimings(), onAction: onAction)
  }

  init(
    configuration: SecretsConfiguration, baseDirectory: String, metrics: MetricRegistry, group: any EventLoopGroup,
    logger: Logger, book: SecretBook = SecretBook(), timings: AgentTimings,
    onAction: @escaping @Sendable (ChangeAction) async -> Bool
  ) {
    self.configuration = configuration
    self.baseDirectory = baseDirectory
    self.metrics = metrics
    self.group = group
    self.logger = logger
    self.timings = timings
    self.book = book
    ledger = SecretLedger(metrics: metrics, book: book)
    runner = ActionRunner(retry: timings.retry, logger: logger, onAction: onAction)
    polls = Dictionary(configuration.values.map { ($0.name, Doorbell()) }) { first, _ in first }
  }

  /// Logs in, fetches every value and writes every file; returns when all required values are there. Throws only for
  /// what waiting cannot heal: a wrong identity, a store file that is missing or malformed, an unwritable directory,
  /// a field that a template wants and the secret has not.
  package func start() async throws {
    book.follow { [weak self] names in self?.changed(names) }
    do {
      let delivery = try FileDelivery(configuration.files) { self.absolute($0) }
      state.withLock { $0.delivery = delivery }
      for store in configuration.stores { try open(store) }
      try await waitForValues()
      state.withLock { $0.pending = [] }
      for index in configuration.files.indices { try deliverFirst(index) }
    } catch {
      await stop()
      throw error
    }
    spawn { agent in await agent.deliverChanges() }
    spawn { agent in await agent.watch() }
  }

  /// Fetches every value now.
  package func refreshNow() { for bell in polls.values { bell.ring() } }

  /// Ends every task, removes delivered files and forgets values. `forSuccessor` leaves both to the agent that takes
  /// over (reload, upgrade).
  package func stop(forSuccessor: Bool = false) async {
    let (tasks, vaults, delivery) = state.withLock { state in
      defer { state = State(isStopped: true) }
      return (state.tasks, state.vaults, state.delivery)
    }
    for task in tasks { task.cancel() }
    await runner.stop()
    for task in tasks { await task.value }
    for vault in vaults { await vault.close() }
    if forSuccessor { return }
    delivery?.remove()
    book.forget()
  }

  /// Every secret's state, by name; never a value.
  package func status() -> [SecretStatus] { ledger.statuses }

  func absolute(_ path: String) -> String { path.hasPrefix("/") ? path : "\(baseDirectory)/\(path)" }

  /// Starts a task that ends with `stop`.
  private func spawn(_ body: @escaping @Sendable (SecretAgent) async -> Void) {
    state.withLock { state in
      guard !state.isStopped else { return }
      state.tasks.append(Task { await body(self) })
    }
  }

  // MARK: - Stores

  private func open(_ store: SecretStoreConfiguration) throws {
    let values = configuration.values.filter { $0.store == store.name }
    for value in values { ledger.add(value.name, store: store.name, required: value.required) }
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

  private func open(_ vault: VaultConfiguration, _ name: String, _ values: [SecretValueConfiguration]) throws {
    let client = try VaultClient(vault, { self.absolute($0) }, group: group, timeout: timings.request)
    let renewals = metrics.counter(
      "outrider_secret_renewals_total", "Token renewals of a store.", [Label("store", name)])
    let bells = values.compactMap { polls[$0.name] }
    let store = VaultStore(
      name: name, configuration: vault, client: client, book: book, logger: logger, renewals: renewals,
      absolute: { [baseDirectory] in $0.hasPrefix("/") ? $0 : "\(baseDirectory)/\($0)" },
      onLogin: { [weak self] in
        let failing = Set(self?.ledger.statuses.filter { $0.lastError != nil || $0.age == nil }.map(\.name) ?? [])
        for (value, bell) in zip(values, bells) where failing.contains(value.name) { bell.ring() }
      })
    state.withLock { $0.vaults.append(store) }
    spawn { _ in await store.run() }
    for value in values {
      switch value.source {
      case .kv(let path): spawn { agent in await agent.poll(value, path, store) }
      case .pki(let request): spawn { agent in await agent.keepIssued(value, request, store) }
      case .key:
        throw SecretStartError(
          description: "secret `\(value.name)`: the vault store `\(name)` has no `key`; write `kv: MOUNT/PATH` instead")
      }
    }
  }

  private func poll(_ value: SecretValueConfiguration, _ path: String, _ store: VaultStore) async {
    var random = SystemRandomNumberGenerator()
    var schedule = RefreshSchedule(interval: value.refresh)
    let bell = polls[value.name] ?? Doorbell()
    while !Task.isCancelled {
      let now = SystemTime.uptime
      if schedule.due > now {
        if await bell.wait(for: schedule.due - now) { schedule.refreshNow(at: SystemTime.uptime) }
        continue
      }
      do throws(VaultFailure) {
        let secret = try await store.read(path)
        if Task.isCancelled { return }
        let rotated = book.publish(value.name, secret.fields, version: secret.version)
        if ledger.succeeded(value.name, rotated: rotated) { logger.info("secret `\(value.name)`: fetched again") }
        schedule.succeeded(at: SystemTime.uptime, using: &random)
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

  private func waitForValues() async throws {
    var notice = SystemTime.uptime + timings.notice
    while true {
      let awaited = ledger.awaited
      if awaited.isEmpty { return }
      try Task.checkCancellation()
      if state.withLock({ $0.isStopped }) { throw CancellationError() }
      let now = SystemTime.uptime
      if now >= notice {
        notice = now + timings.notice
        let names = awaited.map { "`\($0.name)`" }.joined(separator: ", ")
        logger.warning("waiting for \(awaited.count == 1 ? "secret" : "secrets") \(names): \(awaited[0].reason)")
      }
      _ = await progress.wait(for: max(notice - now, .milliseconds(1)))
    }
  }

  // MARK: - Delivery

  private func changed(_ names: [String]) {
    state.withLock { $0.pending.formUnion(names) }
    changes.ring()
  }

  private func deliverFirst(_ index: Int) throws {
    let file = configuration.files[index]
    let optional = Set(configuration.values.filter { !$0.required }.map(\.name))
    let isWaiting = file.content.references.contains { optional.contains($0.name) && book.fields($0.name) == nil }
    if isWaiting {
      logger.warning("\(file.path) is not written yet: \(book.reason(file.content) ?? "a secret is missing")")
      return
    }
    do {
      let bytes = try book.render(file.content)
      _ = try state.withLock({ $0.delivery })?.deliver(index, bytes)
    } catch let error as SecretTemplateError {
      throw SecretStartError(description: "\(file.path): \(error)")
    }
  }

  private func deliverChanges() async {
    var random = SystemRandomNumberGenerator()
    var backoff = FailureBackoff(first: timings.retry)
    while !Task.isCancelled {
      guard await changes.wait(for: .seconds(3600)) else { continue }
      try? await Task.sleep(for: timings.debounce)
      if Task.isCancelled { return }
      let names = state.withLock { state in
        defer { state.pending = [] }
        return state.pending
      }
      if names.isEmpty { continue }
      let (actions, failures) = deliver(names)
      if failures.isEmpty {
        backoff.reset()
        await runner.request(actions)
      } else {
        let wait = backoff.failed(using: &random)
        for failure in failures { logger.error("\(failure); tried again in \(wait)") }
        state.withLock { $0.pending.formUnion(names) }
        _ = await changes.wait(for: wait)
        changes.ring()
      }
    }
  }

  /// Writes the files that refer to changed secrets; the actions that follow, each once, in the order written.
  private func deliver(_ names: Set<String>) -> (actions: [ChangeAction], failures: [String]) {
    var actions: [ChangeAction] = []
    var failures: [String] = []
    for value in configuration.values where names.contains(value.name) { actions += value.onChange }
    for (index, file) in configuration.files.enumerated()
    where file.content.references.contains(where: { names.contains($0.name) }) {
      do {
        let bytes = try book.render(file.content)
        if try state.withLock({ $0.delivery })?.deliver(index, bytes) == true { actions += file.onChange }
      } catch {
        failures.append("\(file.path): \(error)")
      }
    }
    var seen: Set<ChangeAction> = []
    return (actions.filter { seen.insert($0).inserted }, failures)
  }

  private func watch() async {
    while !Task.isCancelled {
      try? await Task.sleep(for: timings.watch)
      if Task.isCancelled { return }
      state.withLock { $0.delivery }?.restore(logger)
    }
  }
}
