import AsyncHTTPClient
import Glibc
import Logging
import NIOCore
import NIOHTTP1
import Secrets
import Synchronization
import Telemetry
import Threads
import Vocabulary

/// How often change actions worked, by kind; counters are made when first needed.
final class ActionCounters: Sendable {
  private let metrics: MetricRegistry
  private let counters = Mutex<[String: Counter]>([:])

  init(_ metrics: MetricRegistry) { self.metrics = metrics }

  func count(_ action: ChangeAction, done: Bool) {
    let outcome = done ? "done" : "failed"
    let counter = counters.withLock { counters in
      let key = action.kind + outcome
      if let counter = counters[key] { return counter }
      let counter = metrics.counter(
        "outrider_secret_actions_total", "Change actions that were tried, by kind and outcome.",
        [Label("action", action.kind), Label("outcome", outcome)])
      counters[key] = counter
      return counter
    }
    counter.add()
  }
}

/// Carries out change actions: programs and requests here, what concerns the app's process by `others`.
struct ActionDriver: Sendable {
  let group: any EventLoopGroup
  let counters: ActionCounters
  let logger: Logger
  let others: @Sendable (ChangeAction) async -> Bool

  /// Whether it worked.
  func run(_ action: ChangeAction) async -> Bool {
    let failure: String?
    switch action {
    case .signal, .restart: failure = await others(action) ? nil : ""
    case .exec(let command, let timeout): failure = await execute(command, timeout)
    case .http(let url, let timeout): failure = await post(url, timeout)
    }
    counters.count(action, done: failure == nil)
    if let failure, !failure.isEmpty { logger.warning("change action \(action): \(failure)") }
    return failure == nil
  }

  private func post(_ url: String, _ timeout: Duration) async -> String? {
    var configuration = HTTPClient.Configuration()
    configuration.redirectConfiguration = .disallow
    configuration.connectionPool.retryConnectionEstablishment = false
    configuration.timeout.connect = .nanoseconds(timeout.inNanoseconds)
    let client = HTTPClient(eventLoopGroupProvider: .shared(group), configuration: configuration)
    var request = HTTPClientRequest(url: url)
    request.method = .POST
    request.headers.add(name: "Content-Type", value: "application/json")
    request.body = .bytes(ByteBuffer(string: "{\"event\":\"secrets_changed\"}\n"))
    let failure: String?
    do {
      let response = try await client.execute(request, timeout: .nanoseconds(timeout.inNanoseconds))
      failure = (200..<300).contains(response.status.code) ? nil : "the answer is \(response.status.code), not 2xx"
    } catch {
      failure = "no answer (\(String("\(error)".prefix(120))))"
    }
    try? await client.shutdown()
    return failure
  }

  /// Runs the program on a thread of its own.
  private func execute(_ command: [String], _ timeout: Duration) async -> String? {
    let nanoseconds = timeout.inNanoseconds
    return await withCheckedContinuation { continuation in
      let started = WorkThread.start { continuation.resume(returning: Self.run(command, nanoseconds)) }
      if !started { continuation.resume(returning: "no thread is left for it") }
    }
  }

  /// In a process group of its own, without input and with its output thrown away: it may hold secrets.
  private static func run(_ command: [String], _ nanoseconds: Int64) -> String? {
    guard let name = command.first else { return "the command is empty" }
    var arguments: [UnsafeMutablePointer<CChar>?] = command.map { strdup($0) } + [nil]
    defer { for argument in arguments { free(argument) } }
    var attributes = posix_spawnattr_t()
    posix_spawnattr_init(&attributes)
    defer { posix_spawnattr_destroy(&attributes) }
    var none = sigset_t()
    sigemptyset(&none)
    posix_spawnattr_setsigmask(&attributes, &none)
    var standard = sigset_t()
    sigfillset(&standard)
    posix_spawnattr_setsigdefault(&attributes, &standard)
    posix_spawnattr_setpgroup(&attributes, 0)
    posix_spawnattr_setflags(
      &attributes, Int16(POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGDEF))
    var files = posix_spawn_file_actions_t()
    posix_spawn_file_actions_init(&files)
    defer { posix_spawn_file_actions_destroy(&files) }
    posix_spawn_file_actions_addopen(&files, 0, "/dev/null", O_RDONLY, 0)
    posix_spawn_file_actions_addopen(&files, 1, "/dev/null", O_WRONLY, 0)
    posix_spawn_file_actions_adddup2(&files, 1, 2)
    var pid: pid_t = 0
    let error = posix_spawnp(&pid, name, &files, &attributes, &arguments, environ)
    guard error == 0 else { return "it cannot be started: \(String(cString: strerror(error)))" }
    var waited: Int64 = 0
    var status: CInt = 0
    while waitpid(pid, &status, WNOHANG) == 0 {
      if waited >= nanoseconds {
        kill(-pid, SIGKILL)
        waitpid(pid, &status, 0)
        return "it did not end within \(DurationText.format(.nanoseconds(nanoseconds))) and was killed"
      }
      var pause = timespec(tv_sec: 0, tv_nsec: 5_000_000)
      nanosleep(&pause, nil)
      waited += 5_000_000
    }
    if status & 0x7F != 0 { return "signal \(status & 0x7F) ended it" }
    return status == 0 ? nil : "it ended with \((status >> 8) & 0xFF)"
  }
}
