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
  }
  struct Sink: Codable, Sendable {
    var name: String
    var lag_records: Int
    var sent: UInt64
    var retried: UInt64
    var dead_letters: UInt64
    var last_error: String?
  }
  struct Secret: Codable, Sendable {
    var name: String
    var store: String
    var version: String?
    var age_seconds: Int64?
    var ttl_seconds: Int64?
    var last_error: String?
  }

  var version: String
  var pid: Int
  var state: String
  var uptime_seconds: Double
  var state_directory: String
  var configuration_files: [String]
  var last_reload_error: String?
  var in_flight_requests: Int
  var app: App?
  var listeners: [Listener]
  var sinks: [Sink]
  var secrets: [Secret]

  /// The status for a person, a line each.
  func rendered() -> String {
    var lines = ["outrider \(version): \(state), worker \(pid), up \(Int(uptime_seconds)) s, \(in_flight_requests) requests in flight"]
    if let app {
      let condition = app.ready ? "ready" : (app.reason.isEmpty ? "not ready" : app.reason)
      lines.append("app       \(app.command.joined(separator: " ")): \(condition), pid \(app.pid.map(String.init) ?? "-"), \(app.restarts) restarts")
    }
    for listener in listeners {
      lines.append("\(listener.direction.padded(9)) \(listener.name) on \(listener.addresses.joined(separator: ", "))\(listener.open ? "" : " (closed)")")
    }
    for sink in sinks {
      let error = sink.last_error.map { ", last error: \($0)" } ?? ""
      lines.append("logs      \(sink.name): \(sink.sent) sent, \(sink.lag_records) waiting, \(sink.dead_letters) dead letters\(error)")
    }
    for secret in secrets {
      let error = secret.last_error.map { ", last error: \($0)" } ?? ""
      let age = secret.age_seconds.map { ", \($0) s old" } ?? ""
      lines.append("secret    \(secret.name) from \(secret.store), version \(secret.version ?? "-")\(age)\(error)")
    }
    if let last_reload_error { lines.append("reload    last one failed: \(last_reload_error)") }
    lines.append("state     \(state_directory)")
    return lines.joined(separator: "\n")
  }
}

extension String {
  fileprivate func padded(_ width: Int) -> String {
    self + String(repeating: " ", count: max(0, width - count))
  }
}
