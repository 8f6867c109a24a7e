import ArgumentParser
import Glibc
import LogShipper
import Logs
import Supervisor
import Vocabulary

struct LogsCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "logs", abstract: "Search and follow the local store of log records.",
    subcommands: [LogsTestCommand.self, DeadLetterCommand.self])
  @OptionGroup var options: CommonOptions

  @Flag(name: [.long, .customShort("f")], help: "Go on with records as they arrive.")
  var follow = false

  @Option(name: .long, help: "Only records since a time ago (5m, 1h) or an RFC 3339 time.")
  var since: String?

  @Option(name: .long, help: "Only records before a time ago or an RFC 3339 time.")
  var until: String?

  @Option(name: .long, help: "Only records of this level and above: trace, debug, info, warn, error, fatal.")
  var level: String?

  @Option(name: .long, help: "Only records that match this regular expression (PCRE2).")
  var grep: String?

  @Option(name: .long, help: "Only records for which this condition holds, for example 'status >= 500'.")
  var `where`: String?

  @Option(name: .long, help: "Only records of this source.")
  var source: String?

  @Option(name: .long, help: "Only records of this request id.")
  var request: String?

  @Option(name: .long, help: "At most this many records, the newest.")
  var limit: Int?

  func run() throws {
    var query = StoreQuery(grep: grep, source: source, requestID: request, limit: limit, follow: follow)
    query.since = try since.map { try Self.moment($0, "--since") }
    query.until = try until.map { try Self.moment($0, "--until") }
    if let level {
      guard let known = LogLevel(level) else {
        throw ValidationError("--level \(level): use trace, debug, info, warn, error or fatal")
      }
      query.level = known
    }
    if let text = `where` {
      do { query.condition = try LogCondition(text) } catch {
        throw ValidationError(
          "--where: \(error.message)\n  | \(text)\n  | \(String(repeating: " ", count: error.offset))^\n  help: \(error.wayOut)"
        )
      }
    }
    let state = try options.stateDirectory()
    guard access(state, F_OK) == 0 else {
      StandardError.write("outrider: there is no state directory \(state); name the one of the sidecar with --state")
      throw ExitCode(1)
    }
    let reader = StoreReader(directory: state + "/store")
    let asJSON = options.output == .json
    let colour = !asJSON && isatty(STDOUT_FILENO) == 1 && getenv("NO_COLOR") == nil
    let output = LineOutput()
    let show: (UnsafeRawBufferPointer) -> Bool = { record in
      asJSON ? output.write(record) : output.write(RecordView.pretty(record, colour: colour))
    }
    do {
      try reader.query(query, idle: { output.flush() }, show)
    } catch {
      throw ValidationError("--grep \(grep ?? ""): \(error)")
    }
    _ = output.flush()
  }

  /// Nanoseconds since 1970 of `5m` (ago) or an RFC 3339 time.
  private static func moment(_ text: String, _ option: String) throws -> Int64 {
    if let ago = DurationText.parse(text) {
      var now = timespec()
      clock_gettime(CLOCK_REALTIME, &now)
      return Int64(now.tv_sec) * 1_000_000_000 + Int64(now.tv_nsec) - ago.inNanoseconds
    }
    var copy = text
    guard let time = copy.withUTF8({ LogTime.parse(UnsafeRawBufferPointer($0)) }) else {
      throw ValidationError("\(option) \(text): use a duration such as 5m or 1h, or an RFC 3339 time")
    }
    return time
  }
}

/// Standard output in large writes; false once nobody reads it.
final class LineOutput {
  private var pending: [UInt8] = []

  func write(_ line: UnsafeRawBufferPointer) -> Bool {
    pending.append(contentsOf: line)
    pending.append(10)
    return pending.count < 64 << 10 || flush()
  }

  func write(_ line: String) -> Bool {
    pending.append(contentsOf: line.utf8)
    pending.append(10)
    return pending.count < 64 << 10 || flush()
  }

  func flush() -> Bool {
    var start = 0
    while start < pending.count {
      let count = pending[start...].withUnsafeBytes { Glibc.write(STDOUT_FILENO, $0.baseAddress, $0.count) }
      if count <= 0 { return false }
      start += count
    }
    pending.removeAll(keepingCapacity: true)
    return true
  }
}
