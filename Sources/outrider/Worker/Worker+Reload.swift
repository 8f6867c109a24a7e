import Admin
import ConfigurationFile
import Glibc
import LogShipper
import Logging
import Logs
import SecretAgent
import Secrets
import Supervisor
import Traffic
import TrafficProxy
import Vocabulary

/// Reload: read, check, compare, apply; the last good configuration stays, or comes back, on any error.
extension Worker {
  /// How long new secrets may take.
  static let secretsLimit = Duration.seconds(15)

  /// One reload at a time, in the order asked for.
  func reload() async -> AdminEndpoints.Outcome {
    let before = reloading
    let task = Task {
      _ = await before?.value
      return await self.reloadNow()
    }
    reloading = task
    return await task.value
  }

  private func reloadNow() async -> AdminEndpoints.Outcome {
    defer { link.send(.reloaded) }
    guard !isStopping else { return .init(status: 503, text: "the sidecar is stopping") }
    guard !isGiving else { return .init(status: 409, text: "an upgrade is under way; reload when it has ended") }
    let fresh: LoadedConfiguration
    do {
      fresh = try ConfigurationLoader.load(input)
    } catch {
      logger.error("reload: the configuration is invalid, the last good one stays\n\(error.rendered)")
      facts.change { $0.lastReloadError = error.rendered }
      return .init(status: 422, text: error.rendered)
    }
    guard outboundIsOpen else { return beginAnew() }
    agent.refreshNow()
    do {
      let text = try await apply(fresh)
      facts.change { $0.lastReloadError = nil }
      logger.info("reload: \(text)")
      return .init(text: text)
    } catch {
      logger.error("reload: \(error); the last good configuration stays")
      facts.change { $0.lastReloadError = "\(error)" }
      return .init(status: 409, text: "\(error); the last good configuration stays")
    }
  }

  /// A worker that has not come up yet, perhaps because of what was wrong in the configuration, is replaced.
  private func beginAnew() -> AdminEndpoints.Outcome {
    let text = "the sidecar was still starting: a new worker begins with the new configuration"
    logger.info("reload: \(text)")
    leaves = true
    memory?.clear()
    let link = link
    Task {
      // Time for the answer to leave.
      try? await Task.sleep(for: .milliseconds(200))
      link.leave()
    }
    return .init(text: text)
  }

  /// Everything that can fail comes before everything that shows.
  private func apply(_ fresh: LoadedConfiguration) async throws -> String {
    let old = loaded
    let diff = fresh.value.changes(from: old.value)
    var next = fresh
    next.value = fresh.value.keepingProcess(of: old.value)
    let new = next.value
    let newLogs = diff.touches(.sources, .transforms, .spool, .sinks) ? try logs.prepare(new.logs) : nil
    let changes = SocketChanges(from: seats(old.value), to: new.adminSeats + new.listenerSeats)
    try await bind(changes, new.admin)
    do {
      if diff.touches(.stores, .values, .files, .delivery) {
        try await replaceAgent(from: old.value.secrets, to: new.secrets)
      }
    } catch {
      await release(changes)
      throw error
    }
    do {
      try await serve(changes, next, diff)
    } catch {
      await restore(old, changes, diff)
      throw error
    }
    if diff.touches(.tracing) { followTracing(new.traffic.tracing) }
    if diff.touches(.metrics) { await followMetrics(new.traffic.metricPush) }
    if let newLogs { await logs.apply(newLogs) }
    if diff.touches(.app, .shutdown) { tellPolicy(old.value, new) }
    followApp(old.value, new)
    memory?.write(next.image)
    return Self.describe(diff, applied: new.changes(from: old.value))
  }

  private static func describe(_ diff: ConfigurationDiff, applied: ConfigurationDiff) -> String {
    if diff.isEmpty { return "nothing has changed" }
    var text = applied.isEmpty ? "nothing is applied now" : "applied \(applied.summary)"
    if diff.needsAppRestart { text += "; the app itself sees its part when it starts the next time" }
    if diff.needsSidecarRestart {
      text += "; \(diff.waitsForProcess.joined(separator: ", ")): at the next start of the sidecar"
    }
    return text
  }

  // MARK: Sockets

  /// What is served now.
  private func seats(_ value: OutriderConfiguration) -> [Seat] {
    adminListeners.keys.map { Seat(.admin, $0) } + value.listenerSeats
  }

  /// Binds every new address; none when one fails.
  private func bind(_ changes: SocketChanges, _ admin: AdminConfiguration) async throws {
    for seat in changes.closed where changes.releasedFirst.contains(seat.address) { await close(seat) }
    unbind(changes.releasedFirst)
    do {
      for seat in changes.opened {
        sockets.discard([seat.address])
        try await bind([seat.address], for: "\(seat.owner)")
      }
    } catch {
      await release(changes)
      throw error
    }
  }

  /// Gives back what `bind` took, and takes again what it gave up for it.
  private func release(_ changes: SocketChanges) async {
    let opened = changes.opened.map(\.address)
    sockets.discard(opened)
    let before = Set(changes.closed.map(\.address))
    unbind(opened.filter { !before.contains($0) })
    for seat in changes.closed {
      // What was handed over may have been bound and not opened yet.
      if changes.releasedFirst.contains(seat.address) || opened.contains(seat.address) && !isServed(seat) {
        await reopen(seat)
      }
    }
  }

  private func unbind(_ addresses: [Address]) {
    if !addresses.isEmpty { link.send(.unbind(addresses)) }
  }

  /// The supervisor gives its share of these sockets up, and has done so on return: they end when the proxy closes them,
  /// with nobody left who would let clients connect and not serve them.
  func releaseForGood(_ addresses: [Address]) async {
    guard !addresses.isEmpty else { return }
    unbind(addresses)
    // Requests are answered in order: an empty one tells that those before it are done.
    try? await bind([], for: "the end of inbound")
  }

  private func isServed(_ seat: Seat) -> Bool {
    switch seat.owner {
    case .admin: adminListeners[seat.address] != nil
    case .listener(let id): id.direction == .outbound || inboundIsOpen
    }
  }

  private func close(_ seat: Seat) async {
    switch seat.owner {
    case .admin: await adminListeners.removeValue(forKey: seat.address)?.close()
    case .listener(let id): await proxy.close(listener: id, address: seat.address)
    }
  }

  private func open(_ seat: Seat) async throws {
    switch seat.owner {
    case .admin: try await serveAdmin(seat.address)
    case .listener(let id):
      guard !isStopping, id.direction == .outbound || inboundIsOpen else { return }
      try await open(id, seat.address)
    }
  }

  private func reopen(_ seat: Seat) async {
    do {
      try await bind([seat.address], for: "\(seat.owner)")
      try await open(seat)
    } catch {
      logger.error("\(seat.owner) cannot be served on \(seat.address) again: \(error)")
    }
  }

  /// Old sockets close, routes change, new sockets open. Connections that were accepted go on.
  private func serve(_ changes: SocketChanges, _ next: LoadedConfiguration, _ diff: ConfigurationDiff) async throws {
    let fresh = Set(changes.opened.map(\.address))
    await releaseForGood(changes.released)
    for seat in changes.closed {
      // A socket that was bound and never opened.
      if !fresh.contains(seat.address) { sockets.discard([seat.address]) }
      await close(seat)
    }
    if diff.touches(.app, .inbound, .outbound, .clusters, .resolvers, .tracing, .stories) {
      try proxy.reload(next.value.traffic, app: Self.address(of: next.value.app))
    }
    loaded = next
    for seat in changes.opened { try await open(seat) }
    let listeners = Set(next.value.listenerSeats.map(\.owner.description))
    facts.change {
      $0.loaded = next
      $0.open.formIntersection(listeners)
    }
  }

  /// The way back when serving failed half way.
  private func restore(_ old: LoadedConfiguration, _ changes: SocketChanges, _ diff: ConfigurationDiff) async {
    let new = loaded.value.secrets
    for seat in changes.opened { await close(seat) }
    loaded = old
    do {
      try proxy.reload(old.value.traffic, app: Self.address(of: old.value.app))
    } catch {
      logger.error("the former listeners are not all back: \(error)")
    }
    sockets.discard(changes.opened.map(\.address))
    let before = Set(changes.closed.map(\.address))
    unbind(changes.opened.map(\.address).filter { !before.contains($0) })
    for seat in changes.closed { await reopen(seat) }
    facts.change { $0.loaded = old }
    guard diff.touches(.stores, .values, .files, .delivery) else { return }
    do {
      try await replaceAgent(from: new, to: old.value.secrets)
    } catch {
      logger.error("the former secrets are not all back: \(error)")
    }
  }

  // MARK: Secrets

  /// The new agent takes over, or the former configuration goes on.
  private func replaceAgent(from old: SecretsConfiguration, to new: SecretsConfiguration) async throws {
    let inheritance = await agent.handOver()
    agent = makeAgent(new, inheritance)
    do {
      try await agent.succeed(within: Self.secretsLimit)
    } catch {
      agent = makeAgent(old, inheritance)
      await agent.resume()
      throw error
    }
  }

  private func makeAgent(_ configuration: SecretsConfiguration, _ inheritance: SecretInheritance) -> SecretAgent {
    Self.makeAgent(
      configuration, inheritance, input: input, metrics: metrics, group: group, logger: logger, link: link,
      memory: memory)
  }

  // MARK: The app

  /// Whether there is an app at all is decided at the start of a run.
  private func tellPolicy(_ old: OutriderConfiguration, _ new: OutriderConfiguration) {
    var policy = AppPolicy(app: new.app, shutdown: new.shutdown)
    policy.hasApp = !old.app.command.isEmpty
    link.send(.plan(policy))
  }

  private func followApp(_ old: OutriderConfiguration, _ new: OutriderConfiguration) {
    guard facts.now.appPID != nil,
      AppReadiness.effective(old) != AppReadiness.effective(new)
        || Self.address(of: old.app) != Self.address(of: new.app)
    else { return }
    probeApp(known: facts.now.appReady)
  }
}
