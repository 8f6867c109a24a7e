import Glibc
import Logging
import NIOCore
import NIOPosix
import Synchronization
import Telemetry

@testable import SecretAgent
@testable import Secrets

/// A directory of a test's own, removed with it.
final class Folder: Sendable {
  let path: String

  init() {
    var template = Array("/tmp/outrider-secrets-XXXXXX".utf8CString)
    precondition(mkdtemp(&template) != nil)
    path = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
  }

  deinit { _ = try? run("/bin/rm", ["-rf", path]) }

  func write(_ name: String, _ text: String, mode: UInt32 = 0o600) throws {
    try PlainFile.replace("\(path)/\(name)", Array(text.utf8), mode: mode)
  }

  func read(_ name: String) -> String? {
    (try? PlainFile.read("\(path)/\(name)")).map { String(decoding: $0, as: UTF8.self) }
  }
}

struct SpawnFailure: Error { var code: Int32 }

/// Starts a program with its output in a file; returns its process id.
func spawn(_ program: String, _ arguments: [String], output: String = "/dev/null") throws -> pid_t {
  var pid: pid_t = 0
  var actions = posix_spawn_file_actions_t()
  posix_spawn_file_actions_init(&actions)
  defer { posix_spawn_file_actions_destroy(&actions) }
  posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0)
  posix_spawn_file_actions_addopen(&actions, 1, output, O_WRONLY | O_CREAT | O_APPEND, 0o600)
  posix_spawn_file_actions_adddup2(&actions, 1, 2)
  var words: [UnsafeMutablePointer<CChar>?] = ([program] + arguments).map { strdup($0) } + [nil]
  defer { for word in words { free(word) } }
  let code = posix_spawn(&pid, program, &actions, nil, &words, environ)
  guard code == 0 else { throw SpawnFailure(code: code) }
  return pid
}

/// Runs a program to its end; returns its exit status.
@discardableResult
func run(_ program: String, _ arguments: [String], output: String = "/dev/null") throws -> Int32 {
  let pid = try spawn(program, arguments, output: output)
  var status: Int32 = 0
  while waitpid(pid, &status, 0) < 0, errno == EINTR {}
  return status
}

/// Waits until `condition` holds, looking often; false after ten seconds.
func eventually(_ condition: @Sendable () async -> Bool) async -> Bool {
  let end = ContinuousClock.now + .seconds(30)
  while ContinuousClock.now < end {
    if await condition() { return true }
    try? await Task.sleep(for: .milliseconds(5))  // between two looks
  }
  return false
}

/// The lines an agent logged.
final class LogLines: Sendable {
  private let lines = Mutex<[String]>([])
  var text: String { lines.withLock { $0.joined(separator: "\n") } }

  var logger: Logger { Logger(label: "test") { _ in LineHandler(lines: self) } }

  fileprivate func add(_ line: String) { lines.withLock { $0.append(line) } }
}

private struct LineHandler: LogHandler {
  let lines: LogLines
  var metadata: Logger.Metadata = [:]
  var logLevel: Logger.Level = .trace

  init(lines: LogLines) { self.lines = lines }

  subscript(metadataKey key: String) -> Logger.Metadata.Value? {
    get { metadata[key] }
    set { metadata[key] = newValue }
  }

  func log(event: LogEvent) { lines.add("\(event.level) \(event.message)") }
}

/// Actions an agent asked for; each fails as often as told.
final class Actions: Sendable {
  private let state = Mutex<(all: [ChangeAction], failures: Int)>(([], 0))
  init(failures: Int = 0) { state.withLock { $0.failures = failures } }
  var all: [ChangeAction] { state.withLock { $0.all } }

  func take(_ action: ChangeAction) -> Bool {
    state.withLock { state in
      state.all.append(action)
      state.failures -= 1
      return state.failures < 0
    }
  }
}

extension AgentTimings {
  static let quick = AgentTimings(
    watch: .milliseconds(10), debounce: .milliseconds(5), notice: .milliseconds(50), retry: .milliseconds(5),
    request: .seconds(5))
}

func makeAgent(
  _ configuration: SecretsConfiguration, _ folder: Folder, actions: Actions = Actions(), log: LogLines = LogLines(),
  metrics: MetricRegistry = MetricRegistry(), timings: AgentTimings = .quick
) -> SecretAgent {
  SecretAgent(
    configuration: configuration, baseDirectory: folder.path, metrics: metrics,
    group: MultiThreadedEventLoopGroup.singleton, logger: log.logger, timings: timings
  ) { actions.take($0) }
}
