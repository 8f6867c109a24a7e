import Logging
import Supervisor

/// The sidecar's own messages: one line each on standard error, `outrider: level: message key=value`.
struct StandardErrorLog: LogHandler {
  var metadata: Logger.Metadata = [:]
  var logLevel: Logger.Level = .info

  subscript(metadataKey key: String) -> Logger.Metadata.Value? {
    get { metadata[key] }
    set { metadata[key] = newValue }
  }

  func log(event: LogEvent) {
    var line = "outrider: "
    if event.level >= .warning { line += event.level == .warning ? "warning: " : "error: " }
    line += "\(event.message)"
    for (key, value) in metadata.merging(event.metadata ?? [:], uniquingKeysWith: { $1 }).sorted(by: { $0.key < $1.key }
    ) {
      line += " \(key)=\(value)"
    }
    StandardError.write(line.replacingLineEnds())
  }
}

extension String {
  /// Line ends as two characters, so that one message stays one line.
  fileprivate func replacingLineEnds() -> String {
    guard utf8.contains(10) || utf8.contains(13) else { return self }
    return split(separator: "\n", omittingEmptySubsequences: false).joined(separator: "\\n")
      .split(separator: "\r", omittingEmptySubsequences: false).joined(separator: "\\r")
  }
}
