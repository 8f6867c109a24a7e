import FoundationEssentials

/// What `outrider doctor` says about one thing.
struct Finding: Encodable {
  enum Level: String, Encodable { case ok, warning, error }

  var level: Level
  /// What was looked at: `configuration`, `ports` and so on.
  var check: String
  var text: String
  /// What to do about it; nil when all is well.
  var wayOut: String?
}

/// All findings, in the order in which they were made.
struct Findings: Encodable {
  private(set) var findings: [Finding] = []

  mutating func ok(_ check: String, _ text: String) { findings.append(Finding(level: .ok, check: check, text: text)) }
  mutating func warning(_ check: String, _ text: String, _ wayOut: String) {
    findings.append(Finding(level: .warning, check: check, text: text, wayOut: wayOut))
  }
  mutating func error(_ check: String, _ text: String, _ wayOut: String) {
    findings.append(Finding(level: .error, check: check, text: text, wayOut: wayOut))
  }

  func count(_ level: Finding.Level) -> Int { findings.count { $0.level == level } }

  func rendered() -> String {
    var lines: [String] = []
    for finding in findings {
      let word = finding.level == .ok ? "ok     " : finding.level == .warning ? "WARNING" : "ERROR  "
      lines.append("\(word)  \(finding.check): \(finding.text)")
      if let wayOut = finding.wayOut { lines.append("         -> \(wayOut)") }
    }
    lines.append("\(count(.ok)) well, \(count(.warning)) warnings, \(count(.error)) errors")
    return lines.joined(separator: "\n")
  }

  func json() throws -> String {
    let encoder = JSONEncoder()
    encoder.keyEncodingStrategy = .convertToSnakeCase
    encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
    return String(decoding: try encoder.encode(self), as: UTF8.self)
  }
}
