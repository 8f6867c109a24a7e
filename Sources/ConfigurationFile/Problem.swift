/// One thing wrong with the configuration: what, where, and the way out.
struct Problem {
  var mark: Mark?
  var message: String
  var wayOut: String?
}

/// A file that was read, kept for messages.
struct SourceFile {
  var name: String
  /// Absolute; relative paths in the file start here.
  var directory: String
  var lines: [Substring]
}

/// Collects every problem of one load, so that all are shown at once.
final class ProblemReport {
  private(set) var files: [SourceFile] = []
  /// The first thousand; `count` has them all.
  private(set) var problems: [Problem] = []
  private(set) var count = 0

  var isEmpty: Bool { problems.isEmpty }

  func add(file: SourceFile) -> Int {
    files.append(file)
    return files.count - 1
  }

  func setLines(_ lines: [Substring], of file: Int) { files[file].lines = lines }

  func error(_ mark: Mark?, _ message: String, _ wayOut: String? = nil) {
    count += 1
    if problems.count < 1000 { problems.append(Problem(mark: mark, message: message, wayOut: wayOut)) }
  }

  /// `FILE:LINE:COL`.
  func place(_ mark: Mark) -> String { "\(files[mark.file].name):\(mark.line):\(mark.column)" }

  /// Every problem in the order of files and lines; after 100 only their number.
  func render() -> String {
    let sorted = problems.enumerated().sorted { left, right in
      let a = left.element.mark.map { ($0.file, $0.line, $0.column) } ?? (Int.max, 0, 0)
      let b = right.element.mark.map { ($0.file, $0.line, $0.column) } ?? (Int.max, 0, 0)
      return a == b ? left.offset < right.offset : a < b
    }
    var text = sorted.prefix(100).map { render($0.element) }.joined(separator: "\n")
    if count > 100 { text += "\n… and \(count - 100) more errors" }
    return text
  }

  private func render(_ problem: Problem) -> String {
    var lines: [String] = []
    if let mark = problem.mark {
      lines.append("\(place(mark)): error: \(problem.message)")
      if let source = sourceLine(mark) { lines += source }
    } else {
      lines.append("error: \(problem.message)")
    }
    if let wayOut = problem.wayOut { lines.append("  help: \(wayOut)") }
    return lines.joined(separator: "\n")
  }

  /// The line with a caret under the column; a long line is cut around the caret, secrets are masked.
  private func sourceLine(_ mark: Mark) -> [String]? {
    let lines = files[mark.file].lines
    guard mark.line >= 1, mark.line <= lines.count else { return nil }
    let masked = SensitiveText.masked(Array(lines[mark.line - 1]))
    let column = min(max(mark.column - 1, 0), masked.count)
    let start = column > 100 ? column - 60 : 0
    let shown = masked[start..<min(masked.count, start + 140)].map { character in
      character.unicodeScalars.allSatisfy { $0.value >= 0x20 && $0.value != 0x7F } ? character : " "
    }
    let lead = start > 0 ? "…" : ""
    let caret = String(repeating: " ", count: column - start + lead.count) + "^"
    return ["  | " + lead + String(shown), "  | " + caret]
  }
}

/// Hides what stands behind keys that hold secrets, when a source line is quoted.
enum SensitiveText {
  static let keys = ["password", "token", "secret_id", "role_id", "api_key"]

  static func masked(_ line: [Character]) -> [Character] {
    var result = line
    for key in keys {
      let word = Array(key)
      var index = 0
      while index + word.count < result.count {
        defer { index += 1 }
        guard Array(result[index..<(index + word.count)]) == word else { continue }
        var position = index + word.count
        while position < result.count, "\"' ".contains(result[position]) { position += 1 }
        guard position < result.count, result[position] == ":" else { continue }
        position += 1
        while position < result.count, result[position] == " " { position += 1 }
        if position + 1 < result.count, result[position] == "$", result[position + 1] == "{" { continue }
        if position < result.count, result[position] == "{" || result[position] == "[" { continue }
        while position < result.count, !",}".contains(result[position]) {
          result[position] = "*"
          position += 1
        }
      }
    }
    return result
  }
}

/// Why a configuration was refused: every error, ready to be printed.
package struct ConfigurationProblems: Error, Sendable, CustomStringConvertible {
  /// `FILE:LINE:COL: error: …`, the source line, a caret and a way out, for each error.
  package var rendered: String
  package var count: Int
  /// EX_CONFIG of sysexits.h.
  package static let exitCode: Int32 = 78

  package var description: String { rendered }
}
