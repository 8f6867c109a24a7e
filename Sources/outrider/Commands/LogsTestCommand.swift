import ArgumentParser
import ConfigurationFile
import Glibc
import Logs
import Supervisor
import Vocabulary

/// Shows what lines turn into. Nothing is read but the file, and nothing is sent.
struct LogsTestCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "test", abstract: "Show what the lines of a sample turn into, before and after the transforms.")
  @OptionGroup var options: CommonOptions

  @Argument(help: "A file with sample lines; `-` reads standard input.")
  var file: String

  @Option(name: .long, help: "The source that the lines are taken for.")
  var source = "app"

  func run() throws {
    let logs = try options.load().value.logs
    guard logs.sources.contains(where: { $0.name == source }) else {
      throw ValidationError(
        "--source \(source): there is no such source; known: \(logs.sources.map(\.name).joined(separator: ", "))")
    }
    if logs.sources.contains(where: { $0.name == source && !$0.isPlain }) {
      StandardError.write(
        "outrider: the source '\(source)' takes a wrapping off its lines (`parse`); here they are taken as if bare")
    }
    let trial = LogTrial(logs, source: source, arrival: Self.now())
    let output = LineOutput()
    try lines { line in
      let outcome = trial.run(line)
      let sinks = outcome.sinks.joined(separator: ", ")
      switch options.output {
      case .json:
        let before = String(decoding: JSONText.quoted(line.text), as: UTF8.self)
        let names = outcome.sinks.map { String(decoding: JSONText.quoted($0), as: UTF8.self) }.joined(separator: ",")
        return output.write("{\"before\":\(before),\"after\":\(outcome.record ?? "null"),\"sinks\":[\(names)]}")
      case .text:
        let after = outcome.record.map { sinks.isEmpty ? "\($0)  → no sink" : "\($0)  → \(sinks)" } ?? "dropped"
        return output.write("- \(Self.shown(line))") && output.write("+ \(Self.shown(after))")
      }
    }
    _ = output.flush()
  }

  private static func now() -> Int64 {
    var now = timespec()
    clock_gettime(CLOCK_REALTIME, &now)
    return Int64(now.tv_sec) * 1_000_000_000 + Int64(now.tv_nsec)
  }

  /// Control characters escaped, so that a sample cannot steer the terminal.
  private static func shown(_ bytes: UnsafeRawBufferPointer) -> String { shown(bytes.text) }

  private static func shown(_ text: String) -> String {
    var result = ""
    for scalar in text.unicodeScalars {
      if scalar.value < 0x20 && scalar != "\t" || (0x7F...0x9F).contains(scalar.value) {
        result += "\\x" + (scalar.value < 16 ? "0" : "") + String(scalar.value, radix: 16)
      } else {
        result.unicodeScalars.append(scalar)
      }
    }
    return result
  }

  /// Each line without its LF, until `body` returns false.
  private func lines(_ body: (UnsafeRawBufferPointer) -> Bool) throws {
    let descriptor = file == "-" ? STDIN_FILENO : open(file, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else {
      throw ValidationError("cannot read \(file): \(String(cString: strerror(errno)))")
    }
    defer { if descriptor != STDIN_FILENO { close(descriptor) } }
    let pending = ByteArena(capacity: 128 << 10)
    while true {
      let count = read(descriptor, pending.reserve(64 << 10), 64 << 10)
      if count < 0 {
        if errno == EINTR { continue }
        throw ValidationError("cannot read \(file): \(String(cString: strerror(errno)))")
      }
      pending.advance(count)
      var start = 0
      while let end = pending.bytes.firstOffset(of: 0x0A, from: start) {
        guard body(pending.bytes.part(start..<end)) else { return }
        start = end + 1
      }
      if count == 0 {
        if start < pending.count { _ = body(pending.bytes.part(start..<pending.count)) }
        return
      }
      pending.removeFirst(start)
      guard pending.count <= 64 << 20 else { throw ValidationError("\(file) has a line above 64 MiB") }
    }
  }
}
