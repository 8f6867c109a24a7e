import ArgumentParser
import FoundationEssentials

struct SecretsStatusCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "status", abstract: "Show where each secret of a running sidecar comes from and how it does.",
    discussion: "Never a value. Exit code 1 when a secret is failing, expired or missing.")
  @OptionGroup var options: CommonOptions

  func run() throws {
    let secrets = try WorkerStatus.read(options.controlSocket()).secrets
    if options.output == .json {
      let encoder = JSONEncoder()
      encoder.keyEncodingStrategy = .convertToSnakeCase
      encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
      print(String(decoding: try encoder.encode(secrets), as: UTF8.self))
    } else {
      print(secrets.isEmpty ? "no secrets are configured" : Self.rendered(secrets))
    }
    if secrets.contains(where: { $0.state != "fresh" }) { throw ExitCode(1) }
  }

  /// A table, and the last error of a secret in the line below it.
  static func rendered(_ secrets: [WorkerStatus.Secret]) -> String {
    let head = ["NAME", "STATE", "STORE", "SOURCE", "VERSION", "FETCHED", "TTL", "ROTATED"]
    let rows = secrets.map { secret in
      [
        secret.name, secret.state, secret.store, secret.source, secret.version ?? "-",
        secret.ageSeconds.map { "\($0)s ago" } ?? "never", secret.ttlSeconds.map { "\($0)s" } ?? "-",
        secret.lastRotation.map(Self.time) ?? "-",
      ]
    }
    let widths = head.indices.map { column in ([head] + rows).map { $0[column].count }.max() ?? 0 }
    var lines: [String] = []
    for (index, row) in ([head] + rows).enumerated() {
      let cells = zip(row, widths).map { $0 + String(repeating: " ", count: $1 - $0.count) }
      var line = cells.joined(separator: "  ")
      while line.hasSuffix(" ") { line.removeLast() }
      lines.append(line)
      if index > 0, let error = secrets[index - 1].lastError { lines.append("    last error: \(error)") }
    }
    return lines.joined(separator: "\n")
  }

  /// RFC 3339 in UTC, to the second.
  private static func time(_ seconds: Int64) -> String {
    Date(timeIntervalSince1970: TimeInterval(seconds)).formatted(.iso8601)
  }
}
