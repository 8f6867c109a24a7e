import Admin
import ConfigurationFile
import FoundationEssentials
import Glibc
import LogShipper
import SecretAgent
import Supervisor
import Telemetry
import Traffic
import TrafficProxy
import Vocabulary

extension Worker {
  /// What the admin API may ask of this worker.
  nonisolated func adminEndpoints() -> AdminEndpoints {
    let facts = facts
    let scraper = scraper
    let link = link
    var endpoints = AdminEndpoints(
      ready: { Self.readiness(facts.now) }, sidecarReady: { Self.sidecarReadiness(facts.now) },
      outboundReady: { Self.outboundReadiness(facts.now) },
      probeApp: { [weak self] in
        await self?.probeAppNow() ?? .init(isReady: false, reason: "the sidecar is stopping")
      }, metrics: { await scraper.text() }, status: { [weak self] in await self?.statusText() ?? "{}" },
      reload: { [weak self] in await self?.reload() ?? .init(status: 503, text: "the sidecar is stopping") },
      quit: { link.send(.quit) },
      drain: { [weak self] target, undo in
        self?.drain(target, undo: undo) ?? .init(status: 503, text: "the sidecar is stopping")
      })
    endpoints.upgrade = { [weak self] binary, timeout in
      await self?.upgrade(binary, within: timeout) ?? .init(status: 503, text: "the sidecar is stopping")
    }
    endpoints.bypass = { [weak self] in self?.bypass($0) ?? .init(status: 503, text: "the sidecar is stopping") }
    endpoints.taps = events.taps
    let proxy = proxy
    endpoints.stories = { await proxy.stories(of: $0, limit: 50) }
    return endpoints
  }

  /// Takes listeners out of service, or back: all, those of one direction, or one by its name in the configuration.
  private nonisolated func drain(_ target: String, undo: Bool) -> AdminEndpoints.Outcome {
    let traffic = facts.now.loaded.value.traffic
    let all = (traffic.inbound + traffic.outbound).map(\.id)
    let chosen = all.filter { target == "all" || target == $0.direction.rawValue || target == $0.description }
    guard !chosen.isEmpty else {
      let known = (["all", "inbound", "outbound"] + all.map(\.description)).joined(separator: ", ")
      return .init(status: 404, text: "there is no listener `\(target)`; name one of \(known)")
    }
    proxy.setDraining(chosen, !undo)
    facts.change { facts in
      for id in chosen { if undo { facts.drained.remove(id) } else { facts.drained.insert(id) } }
    }
    let names = chosen.map(\.description).joined(separator: ", ")
    return .init(text: undo ? "back in service: \(names)" : "draining: \(names)")
  }

  private static func outboundReadiness(_ now: WorkerFacts.Facts) -> AdminEndpoints.Readiness {
    now.outboundReady
      ? .init(isReady: true) : .init(isReady: false, reason: "secrets and outbound listeners are not ready")
  }

  private static func sidecarReadiness(_ now: WorkerFacts.Facts) -> AdminEndpoints.Readiness {
    if now.draining { return .init(isReady: false, reason: "draining") }
    let inbound = now.loaded.value.traffic.inbound
    if !inbound.isEmpty, inbound.allSatisfy({ now.drained.contains($0.id) }) {
      return .init(isReady: false, reason: "every inbound listener was drained by `outrider drain`")
    }
    return outboundReadiness(now)
  }

  private static func readiness(_ now: WorkerFacts.Facts) -> AdminEndpoints.Readiness {
    let sidecar = sidecarReadiness(now)
    guard sidecar.isReady else { return sidecar }
    if !now.loaded.value.app.command.isEmpty, !now.appReady {
      return .init(isReady: false, reason: now.appReason.isEmpty ? "the app is not ready" : now.appReason)
    }
    if let closed = now.loaded.value.traffic.inbound.first(where: { !now.open.contains("inbound.\($0.name)") }) {
      return .init(isReady: false, reason: "inbound.\(closed.name) is not open yet")
    }
    return sidecar
  }

  private func probeAppNow() async -> AdminEndpoints.Readiness {
    let value = loaded.value
    guard let ready = AppReadiness.effective(value) else {
      let now = facts.now
      return now.appPID != nil || value.app.command.isEmpty
        ? .init(isReady: true) : .init(isReady: false, reason: "the app is not running")
    }
    if ready.probe == .descriptor { return Self.readiness(facts.now) }
    let failure = await appProbe(ready).failure()
    return .init(isReady: failure == nil, reason: failure ?? "")
  }

  private func statusText() async -> String {
    let clusters = await proxy.clusters()
    let now = facts.now
    let value = now.loaded.value
    let status = WorkerStatus(
      version: ProductVersion.text, supervisorVersion: now.run.version, generation: Int(now.run.generation),
      upgrades: .init(
        succeeded: Int(now.run.upgrades.succeeded), failed: Int(now.run.upgrades.failed),
        reverted: Int(now.run.upgrades.reverted)), pid: Int(getpid()), state: now.state,
      uptimeSeconds: facts.started.duration(to: .now) / .seconds(1), stateDirectory: value.stateDirectory,
      configurationFiles: now.loaded.files, lastReloadError: now.lastReloadError,
      inFlightRequests: proxy.inFlight, bypass: bypassStatus,
      app: value.app.command.isEmpty
        ? nil
        : .init(
          pid: now.appPID.map(Int.init), command: value.app.command, ready: now.appReady, reason: now.appReason,
          restarts: now.restarts),
      listeners: (value.traffic.inbound + value.traffic.outbound).map {
        let occupancy = proxy.occupancy(of: $0.id)
        return .init(
          name: $0.name, direction: $0.direction.rawValue, addresses: $0.listen.map(\.description),
          open: now.open.contains("\($0.direction.rawValue).\($0.name)"), draining: occupancy.isDraining,
          connections: occupancy.connections)
      },
      unavailableEndpoints: proxy.unavailableEndpoints.map {
        .init(
          cluster: $0.cluster, address: $0.address, state: $0.state, reason: $0.reason, secondsLeft: $0.secondsLeft)
      },
      clusters: clusters.map { cluster in
        .init(
          name: cluster.name, source: cluster.source,
          endpoints: cluster.endpoints.map {
            .init(
              address: $0.address, host: $0.host, state: $0.state, weight: $0.weight, priority: $0.priority,
              locality: $0.locality, active: $0.active)
          }, lastError: cluster.failure)
      },
      sinks: logs.status().map {
        .init(
          name: $0.name, lagRecords: $0.lag, sent: $0.sent, retried: $0.retried, deadLetters: $0.deadLetters,
          lastError: $0.lastError)
      },
      secrets: agent.status().map {
        .init(
          name: $0.name, store: $0.store, source: $0.source, state: $0.state.rawValue, version: $0.version,
          ageSeconds: $0.age, ttlSeconds: $0.ttl, lastRotation: $0.lastRotation, lastError: $0.lastError)
      })
    let encoder = JSONEncoder()
    encoder.keyEncodingStrategy = .convertToSnakeCase
    encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
    guard let data = try? encoder.encode(status) else { return "{}" }
    return String(decoding: data, as: UTF8.self)
  }
}
