import ArgumentParser
import Glibc
import Supervisor
import Vocabulary

struct TopCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "top", abstract: "Watch what passes a running sidecar: rates, errors and times of each listener.",
    discussion: "Ends with Ctrl-C. Without a terminal, or with --once, each view stands below the one before.")
  @OptionGroup var options: CommonOptions

  @Option(help: "How long each view is measured, such as 2s; at least 100ms.")
  var interval = "1s"

  @Flag(help: "One view, then end.")
  var once = false

  func validate() throws {
    guard let time = DurationText.parse(interval), time >= .milliseconds(100), time <= .seconds(3600) else {
      throw ValidationError("`--interval \(interval)` is no duration from 100ms to 1h; write one such as 2s")
    }
  }

  func run() throws {
    let socket = try options.controlSocket()
    let pause = DurationText.parse(interval) ?? .seconds(1)
    let clears = isatty(STDOUT_FILENO) == 1 && !once && options.output == .text
    var before = try TrafficSample(socket: socket)
    while true {
      usleep(UInt32(pause.inMilliseconds * 1000))
      let now = try TrafficSample(socket: socket)
      let view = TopView(status: try WorkerStatus.read(socket), rows: now.rows(since: before))
      let text = options.output == .json ? view.json : (clears ? "\u{1B}[H\u{1B}[2J" : "") + view.rendered()
      let output = LineOutput()
      guard output.write(text), output.flush(), !once else { return }
      before = now
    }
  }
}

/// What the counters of each listener showed at one moment.
struct TrafficSample {
  struct Totals {
    var requests = 0.0
    var errors = 0.0
    /// Requests that took at most so many seconds.
    var buckets: [(bound: Double, count: Double)] = []
  }
  struct Row {
    var listener: String
    /// A second.
    var requests: Double
    var errors: Double
    /// Milliseconds, an upper bound; nil = nothing passed, or it took longer than the last bound.
    var median: Double?
    var p99: Double?
  }

  private let time = ContinuousClock.now
  private var totals: [String: Totals] = [:]

  init(socket: String) throws {
    let answer = try ControlClient.send("GET", "/metrics", socket: socket)
    for line in answer.body.split(separator: "\n") where line.hasPrefix("outrider_http_request") { take(line) }
  }

  private mutating func take(_ line: Substring) {
    guard let brace = line.firstIndex(of: "{"), let end = line.lastIndex(of: "}"),
      let value = Double(line[line.index(end, offsetBy: 2)...])
    else { return }
    let labels = line[line.index(after: brace)..<end]
    func label(_ name: String) -> Substring? {
      guard let start = labels.firstRange(of: "\(name)=\"")?.upperBound else { return nil }
      return labels[start...].prefix { $0 != "\"" }
    }
    guard let direction = label("direction"), let listener = label("listener") else { return }
    let key = "\(direction).\(listener)"
    switch line[..<brace] {
    case "outrider_http_requests_total":
      totals[key, default: Totals()].requests += value
      let code = label("code_class")
      if code == "5xx" || code == "none" { totals[key, default: Totals()].errors += value }
    case "outrider_http_request_duration_seconds_bucket":
      guard let bound = label("le").map({ $0 == "+Inf" ? Double.infinity : Double($0) ?? .infinity }) else { return }
      totals[key, default: Totals()].buckets.append((bound, value))
    default: break
    }
  }

  /// What happened between two samples; after a new worker began, what happened since then.
  func rows(since before: TrafficSample) -> [Row] {
    let seconds = max((time - before.time) / .seconds(1), 0.001)
    return totals.sorted { $0.key < $1.key }.map { key, now in
      var old = before.totals[key] ?? Totals()
      if old.requests > now.requests { old = Totals() }
      var buckets = now.buckets
      for index in buckets.indices where old.buckets.count == buckets.count {
        buckets[index].count -= old.buckets[index].count
      }
      return Row(
        listener: key, requests: (now.requests - old.requests) / seconds, errors: (now.errors - old.errors) / seconds,
        median: Self.quantile(0.5, buckets), p99: Self.quantile(0.99, buckets))
    }
  }

  private static func quantile(_ part: Double, _ buckets: [(bound: Double, count: Double)]) -> Double? {
    guard let all = buckets.last?.count, all > 0,
      let bucket = buckets.first(where: { $0.count >= all * part }), bucket.bound.isFinite
    else { return nil }
    return bucket.bound * 1000
  }
}

/// One view.
struct TopView {
  let status: WorkerStatus
  let rows: [TrafficSample.Row]

  func rendered() -> String {
    var lines = [
      "outrider \(status.version): \(status.state), worker \(status.pid), up \(Int(status.uptimeSeconds)) s, \(status.inFlightRequests) in flight"
    ]
    if let bypass = status.bypass { lines.append("BYPASS \(bypass.rendered)") }
    if let app = status.app {
      let condition = app.ready ? "ready" : app.reason.isEmpty ? "not ready" : app.reason
      lines.append("app: \(condition), pid \(app.pid.map(String.init) ?? "-"), \(app.restarts) restarts")
    }
    lines.append("")
    lines.append(Self.line("LISTENER", ["REQ/S", "ERR/S", "P50 ms", "P99 ms", "CONNS"]))
    for listener in status.listeners {
      let name = "\(listener.direction).\(listener.name)"
      let row = rows.first { $0.listener == name }
      lines.append(
        Self.line(
          name,
          [
            Self.number(row?.requests ?? 0), Self.number(row?.errors ?? 0),
            row?.median.map { "<\(Self.number($0))" } ?? "-",
            row?.p99.map { "<\(Self.number($0))" } ?? "-", "\(listener.connections)",
          ]))
    }
    lines.append("")
    for cluster in status.clusters where !cluster.endpoints.isEmpty {
      let available = cluster.endpoints.count { $0.state == "available" }
      let active = cluster.endpoints.reduce(0) { $0 + $1.active }
      lines.append("cluster \(cluster.name): \(available)/\(cluster.endpoints.count) endpoints, \(active) requests")
    }
    for sink in status.sinks {
      lines.append(
        "logs \(sink.name): \(sink.sent) sent, \(sink.lagRecords) wait" + (sink.lastError.map { ", \($0)" } ?? ""))
    }
    let stale = status.secrets.filter { $0.state != "fresh" }
    if !status.secrets.isEmpty {
      lines.append(
        "secrets: \(status.secrets.count - stale.count)/\(status.secrets.count) fresh"
          + stale.map { ", \($0.name) \($0.state)" }.joined())
    }
    return lines.joined(separator: "\n")
  }

  var json: String {
    let listeners = rows.map { row in
      "{\"listener\":\(JSONNode.string(row.listener).json),\"requests_per_second\":\(Self.number(row.requests)),"
        + "\"errors_per_second\":\(Self.number(row.errors)),\"p50_ms\":\(row.median.map(Self.number) ?? "null"),"
        + "\"p99_ms\":\(row.p99.map(Self.number) ?? "null")}"
    }
    return "{\"state\":\(JSONNode.string(status.state).json),\"worker\":\(status.pid),"
      + "\"in_flight_requests\":\(status.inFlightRequests),\"listeners\":[\(listeners.joined(separator: ","))]}"
  }

  private static func line(_ name: String, _ cells: [String]) -> String {
    let head = name + String(repeating: " ", count: max(1, 24 - name.count))
    return head + cells.map { String(repeating: " ", count: max(1, 10 - $0.count)) + $0 }.joined()
  }

  /// To a tenth below 100.
  private static func number(_ value: Double) -> String {
    value >= 100 || value == 0 ? "\(Int(value.rounded()))" : "\((value * 10).rounded() / 10)"
  }
}
