/// What `/requests` answers.
struct RequestStories: Decodable {
  var requests: [RequestStory]
}

/// What became of a request, as text for a person.
struct RequestStory: Decodable {
  struct Attempt: Decodable {
    var endpoint: String
    var startMs: Double
    var endMs: Double
    var outcome: String
    var status: Int?
    var details: String?
  }

  var time: String
  var requestId: String
  var traceId: String?
  var listener: String
  var direction: String
  var client: String
  var route: String?
  var cluster: String?
  var method: String?
  var path: String?
  var status: Int
  var flags: String
  var blame: String?
  var reason: String?
  var details: String?
  var hint: String?
  var routes: [String]
  var attempts: [Attempt]
  var headMs: Double
  var routeMs: Double
  var poolMs: Double
  var connectMs: Double
  var tlsMs: Double
  var firstByteMs: Double
  var totalMs: Double
  var overheadMs: Double

  private var outcome: String {
    (status == 0 ? "no answer" : "\(status)") + (flags.isEmpty ? "" : " \(flags)")
      + (blame.map { ", blame: \($0)" } ?? "") + (reason.map { " (\($0))" } ?? "")
  }

  /// One line of a list.
  func line() -> String {
    "\(time)  \(requestId)  \(method ?? "-") \(path ?? "-")  \(outcome)  \(totalMs)ms"
  }

  func told() -> String {
    var lines = ["\(method ?? "-") \(path ?? "-"): \(outcome)"]
    if let details, !details.isEmpty { lines.append("  \(details)") }
    if let hint { lines.append("  hint: \(hint)") }
    lines.append("")
    lines.append("  when      \(time), \(totalMs) ms, \(overheadMs) ms of them in the sidecar")
    lines.append("  request   \(requestId)" + (traceId.map { "   trace \($0)" } ?? ""))
    lines.append("  from      \(client) at \(direction).\(listener)")
    lines.append("  routes    " + (routes.isEmpty ? "none" : routes.joined(separator: " > ")))
    if let cluster { lines.append("  cluster   \(cluster)") }
    lines.append("")
    lines += timeline()
    return lines.joined(separator: "\n")
  }

  private static let width = 40

  private func timeline() -> [String] {
    var rows: [(name: String, start: Double, end: Double, text: String)] = []
    if headMs > 0.001 { rows.append(("head", 0, headMs, "")) }
    for (index, attempt) in attempts.enumerated() {
      let status = attempt.status.map { "answered \($0)" } ?? attempt.outcome
      let details = attempt.details.map { $0.isEmpty ? "" : ": \($0)" } ?? ""
      rows.append(("try \(index + 1)", attempt.startMs, attempt.endMs, "\(attempt.endpoint) \(status)\(details)"))
    }
    if firstByteMs > 0 { rows.append(("body", firstByteMs, totalMs, "")) }
    if rows.isEmpty { rows.append(("answer", 0, totalMs, "by the sidecar itself")) }
    var lines = rows.map { row in
      let scale = Double(Self.width) / max(totalMs, 0.001)
      let start = min(Self.width - 1, Int(row.start * scale))
      let end = min(Self.width, max(start + 1, Int((row.end * scale).rounded())))
      let bar =
        String(repeating: " ", count: start) + String(repeating: "=", count: end - start)
        + String(repeating: " ", count: Self.width - end)
      return "  \(Self.padded(row.name, 8))|\(bar)| \(Self.milliseconds(row.end - row.start)) \(row.text)"
    }
    let phases = [
      ("head", headMs), ("route", routeMs), ("pool", poolMs), ("connect", connectMs), ("tls", tlsMs),
      ("first byte after", firstByteMs), ("last byte after", totalMs),
    ]
    lines.append("")
    lines.append("  " + phases.map { "\($0.0) \(Self.milliseconds($0.1))" }.joined(separator: ", "))
    return lines
  }

  private static func padded(_ text: String, _ width: Int) -> String {
    text + String(repeating: " ", count: max(0, width - text.utf8.count))
  }

  private static func milliseconds(_ value: Double) -> String {
    let thousandths = Int((max(0, value) * 1000).rounded())
    let rest = String(thousandths % 1000)
    return "\(thousandths / 1000)." + String(repeating: "0", count: 3 - rest.utf8.count) + rest + " ms"
  }
}
