import ConfigurationFile
import Vocabulary

/// What a running sidecar says of the app, its upstreams, secrets and sinks.
struct RunningCheck {
  let status: WorkerStatus
  let configuration: OutriderConfiguration

  func all(_ findings: inout Findings) {
    if let error = status.lastReloadError {
      findings.warning(
        "reload", "the last one failed, and the configuration before it is in use: \(error)",
        "correct the file and `outrider reload`")
    }
    if let bypass = status.bypass {
      findings.warning(
        "bypass", "it is on for another \(bypass.secondsLeft) s", "`outrider bypass off` when you are done")
    }
    app(&findings)
    listeners(&findings)
    upstreams(&findings)
    secrets(&findings)
    sinks(&findings)
  }

  private func app(_ findings: inout Findings) {
    guard let app = status.app else { return }
    if app.ready {
      findings.ok("app", "ready, pid \(app.pid.map(String.init) ?? "-"), \(app.restarts) restarts")
    } else {
      findings.error(
        "app", app.reason.isEmpty ? "it is not ready" : app.reason,
        "look at its output (`outrider logs`), and at what app.ready asks for")
    }
  }

  private func listeners(_ findings: inout Findings) {
    let closed = status.listeners.filter { !$0.open }
    for listener in closed {
      let isInbound = listener.direction == "inbound"
      findings.error(
        "listeners", "\(listener.direction).\(listener.name) is not open",
        isInbound ? "inbound opens once the app is ready" : "the sidecar's standard error says what it waits for")
    }
    for listener in status.listeners where listener.draining && listener.open {
      findings.warning(
        "listeners", "\(listener.direction).\(listener.name) is drained",
        "`outrider drain \(listener.direction).\(listener.name) --undo` takes it back")
    }
    if closed.isEmpty, !status.listeners.isEmpty { findings.ok("listeners", "all \(status.listeners.count) are open") }
  }

  private func upstreams(_ findings: inout Findings) {
    for cluster in status.clusters where !cluster.endpoints.isEmpty || cluster.lastError != nil {
      let available = cluster.endpoints.count { $0.state == "available" }
      if let error = cluster.lastError {
        findings.warning(
          "clusters", "`\(cluster.name)`: \(error)", "correct the name in the configuration, or look at the name server"
        )
      }
      if available == 0 {
        let reasons = status.unavailableEndpoints.filter { $0.cluster == cluster.name }.prefix(3)
          .map { "\($0.address) \($0.state), \($0.reason)" }
        findings.error(
          "clusters",
          "`\(cluster.name)` has no endpoint that can be used"
            + (reasons.isEmpty ? "" : ": " + reasons.joined(separator: "; ")),
          "look at that service; `outrider status` shows each endpoint")
      } else if available < cluster.endpoints.count {
        findings.warning(
          "clusters", "`\(cluster.name)`: \(available) of \(cluster.endpoints.count) endpoints can be used",
          "`outrider status` says why the others cannot")
      } else if cluster.lastError == nil {
        findings.ok("clusters", "`\(cluster.name)`: all \(available) endpoints can be used")
      }
    }
  }

  private func secrets(_ findings: inout Findings) {
    for secret in status.secrets where secret.state != "fresh" {
      let reason = secret.lastError ?? "it was not fetched yet"
      let text = "`\(secret.name)` from \(secret.store) is \(secret.state): \(reason)"
      let wayOut =
        "look at the store and at what its login may read (\(secret.source)); `outrider secrets status` follows it"
      if secret.state == "failing" {
        findings.warning("secrets", text, wayOut)
      } else {
        findings.error("secrets", text, wayOut)
      }
    }
    let fresh = status.secrets.count { $0.state == "fresh" }
    if fresh > 0 { findings.ok("secrets", "\(fresh) of \(status.secrets.count) are fresh") }
  }

  private func sinks(_ findings: inout Findings) {
    for sink in status.sinks {
      if let error = sink.lastError, sink.lagRecords > 0 {
        findings.warning(
          "logs", "sink `\(sink.name)`: \(sink.lagRecords) records wait, last error: \(error)",
          "they stay in the spool and are sent once it answers; look at that service")
      }
      if sink.deadLetters > 0 {
        findings.warning(
          "logs", "sink `\(sink.name)` refused \(sink.deadLetters) records for good",
          "`outrider logs dead-letter show \(sink.name)` says why, `replay` sends them again")
      }
    }
  }
}
