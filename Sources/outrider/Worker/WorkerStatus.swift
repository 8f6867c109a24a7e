/// What `/status` answers and `outrider status` shows. Never a secret's value.
struct WorkerStatus: Codable, Sendable {
  struct App: Codable, Sendable {
    var pid: Int?
    var command: [String]
    var ready: Bool
    var reason: String
    var restarts: Int
  }
  struct Listener: Codable, Sendable {
    var name: String
    var direction: String
    var addresses: [String]
    var open: Bool
    var draining: Bool
    var connections: Int
  }
  /// Inbound connections pass the proxy by.
  struct Bypass: Codable, Sendable {
    var secondsLeft: Int64
    /// That pass by now.
    var connections: Int
  }
  /// An endpoint that gets no requests.
  struct Endpoint: Codable, Sendable {
    var cluster: String
    var address: String
    /// `unhealthy` (active checks) or `ejected` (outlier detection).
    var state: String
    var reason: String
    /// Of an ejection.
    var secondsLeft: Int?
  }
  struct Cluster: Codable, Sendable {
    struct Endpoint: Codable, Sendable {
      var address: String
      var host: String
      var state: String
      var weight: Int
      var priority: Int
      var locality: String?
      var active: Int
    }
    var name: String
    var source: String
    var endpoints: [Endpoint]
    var lastError: String?
  }
  struct Sink: Codable, Sendable {
    var name: String
    var lagRecords: Int
    var sent: UInt64
    var retried: UInt64
    var deadLetters: UInt64
    var lastError: String?
  }
  struct Secret: Codable, Sendable {
    var name: String
    var store: String
    /// What is asked of the store.
    var source: String
    /// `fresh`, `failing` (the last good value is in use), `expired` or `missing`.
    var state: String
    var version: String?
    var ageSeconds: Int64?
    var ttlSeconds: Int64?
    /// Seconds since 1970.
    var lastRotation: Int64?
    var lastError: String?
  }

  /// Of this run, by outcome.
  struct Upgrades: Codable, Sendable {
    var succeeded: Int
    var failed: Int
    var reverted: Int
  }

  /// Of the worker.
  var version: String
  var supervisorVersion: String
  /// Counts the workers of this run from 1.
  var generation: Int
  var upgrades: Upgrades
  var pid: Int
  var state: String
  var uptimeSeconds: Double
  var stateDirectory: String
  var configurationFiles: [String]
  var lastReloadError: String?
  var inFlightRequests: Int
  /// nil = off.
  var bypass: Bypass?
  var app: App?
  var listeners: [Listener]
  var unavailableEndpoints: [Endpoint]
  var clusters: [Cluster]
  var sinks: [Sink]
  var secrets: [Secret]

  /// The status for a person, a line each.
  func rendered() -> String {
    var lines = [
      "outrider \(version): \(state), worker \(pid), up \(Int(uptimeSeconds)) s, \(inFlightRequests) requests in flight"
    ]
    if generation > 1 || supervisorVersion != version {
      lines.append(
        "sidecar   worker \(generation) of this run, supervisor \(supervisorVersion), upgrades: \(upgrades.succeeded) succeeded, "
          + "\(upgrades.failed) failed, \(upgrades.reverted) taken back")
    }
    if let bypass { lines.append("BYPASS    \(bypass.rendered)") }
    if let app {
      let condition = app.ready ? "ready" : (app.reason.isEmpty ? "not ready" : app.reason)
      lines.append(
        "app       \(app.command.joined(separator: " ")): \(condition), pid \(app.pid.map(String.init) ?? "-"), \(app.restarts) restarts"
      )
    }
    for listener in listeners {
      let condition =
        listener.draining ? " (draining, \(listener.connections) connections left)" : listener.open ? "" : " (closed)"
      lines.append(
        "\(listener.direction.padded(9)) \(listener.name) on \(listener.addresses.joined(separator: ", "))\(condition)")
    }
    for endpoint in unavailableEndpoints {
      let time = endpoint.secondsLeft.map { " for \($0) s more" } ?? ""
      lines.append(
        "upstream  \(endpoint.cluster) \(endpoint.address): \(endpoint.state)\(time), \(endpoint.reason)")
    }
    for cluster in clusters { lines += cluster.rendered() }
    for sink in sinks {
      let error = sink.lastError.map { ", last error: \($0)" } ?? ""
      lines.append(
        "logs      \(sink.name): \(sink.sent) sent, \(sink.lagRecords) waiting, \(sink.deadLetters) dead letters\(error)"
      )
    }
    for secret in secrets {
      let error = secret.lastError.map { ", last error: \($0)" } ?? ""
      let age = secret.ageSeconds.map { ", \($0) s old" } ?? ""
      lines.append("secret    \(secret.name) from \(secret.store), version \(secret.version ?? "-")\(age)\(error)")
    }
    if let lastReloadError { lines.append("reload    last one failed: \(lastReloadError)") }
    lines.append("state     \(stateDirectory)")
    return lines.joined(separator: "\n")
  }
}

extension WorkerStatus.Bypass {
  var rendered: String {
    "on for another \(secondsLeft) s: inbound connections go to the app unseen, \(connections) now; `outrider bypass off` ends it"
  }
}

extension WorkerStatus.Cluster {
  /// More endpoints are counted alone.
  private static let shown = 20

  func rendered() -> [String] {
    let available = endpoints.count { $0.state == "available" }
    let error = lastError.map { ", last error: \($0.replacing("\n", with: "\n          "))" } ?? ""
    var lines = ["cluster   \(name) from \(source): \(available) of \(endpoints.count) endpoints available\(error)"]
    for endpoint in endpoints.prefix(Self.shown) {
      var text = "          \(endpoint.address) \(endpoint.state), \(endpoint.active) requests"
      if endpoint.weight != 1 { text += ", weight \(endpoint.weight)" }
      if endpoint.priority != 0 { text += ", priority \(endpoint.priority)" }
      if let locality = endpoint.locality { text += ", locality \(locality)" }
      lines.append(text)
    }
    if endpoints.count > Self.shown { lines.append("          … and \(endpoints.count - Self.shown) more") }
    return lines
  }
}

extension String {
  fileprivate func padded(_ width: Int) -> String {
    self + String(repeating: " ", count: max(0, width - count))
  }
}
