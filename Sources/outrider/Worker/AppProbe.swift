import AsyncHTTPClient
import Glibc
import NIOCore
import NIOHTTP1
import NIOPosix
import Supervisor
import Threads
import Vocabulary

/// One probe of the app, made past the proxy path.
struct AppProbe: Sendable {
  let probe: AppConfiguration.Ready.Probe
  let address: String
  let port: Int?
  let timeout: Duration
  let client: HTTPClient
  let group: MultiThreadedEventLoopGroup

  /// Nil when the app is well, else why it is not, in one line.
  func failure() async -> String? {
    switch probe {
    case .http(let path): await httpFailure(path)
    case .tcp: await tcpFailure()
    case .exec(let command): await execFailure(command)
    case .descriptor: nil
    }
  }

  private var limit: TimeAmount { .nanoseconds(timeout.inNanoseconds) }

  private func httpFailure(_ path: String) async -> String? {
    guard let port else { return "app.ready.http needs app.port" }
    let url = "http://\(address.contains(":") ? "[\(address)]" : address):\(port)\(path)"
    do {
      let response = try await client.execute(HTTPClientRequest(url: url), timeout: limit)
      _ = try? await response.body.collect(upTo: 1 << 20)
      return (200..<400).contains(response.status.code) ? nil : "\(url) answers \(response.status.code)"
    } catch {
      return "\(url) does not answer (\(error))"
    }
  }

  private func tcpFailure() async -> String? {
    guard let port else { return "app.ready.tcp needs app.port" }
    do {
      let channel = try await ClientBootstrap(group: group).connectTimeout(limit).connect(host: address, port: port)
        .get()
      try? await channel.close()
      return nil
    } catch {
      return "\(address):\(port) does not accept connections"
    }
  }

  /// Runs the command on a thread of its own; it must end with 0 within the timeout.
  private func execFailure(_ command: [String]) async -> String? {
    guard let name = command.first else { return "app.ready.exec is empty" }
    let nanoseconds = timeout.inNanoseconds
    return await withCheckedContinuation { continuation in
      let started = WorkThread.start {
        continuation.resume(returning: Self.run(command, name: name, nanoseconds: nanoseconds))
      }
      if !started { continuation.resume(returning: "no thread for the probe \(name)") }
    }
  }

  private static func run(_ command: [String], name: String, nanoseconds: Int64) -> String? {
    var arguments: [UnsafeMutablePointer<CChar>?] = command.map { strdup($0) } + [nil]
    defer { for argument in arguments { free(argument) } }
    var attributes = posix_spawnattr_t()
    posix_spawnattr_init(&attributes)
    defer { posix_spawnattr_destroy(&attributes) }
    var none = sigset_t()
    sigemptyset(&none)
    posix_spawnattr_setsigmask(&attributes, &none)
    posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETSIGMASK))
    var pid: pid_t = 0
    let error = posix_spawnp(&pid, name, nil, &attributes, &arguments, environ)
    guard error == 0 else { return "the probe \(name) cannot start: \(String(cString: strerror(error)))" }
    var waited: Int64 = 0
    var status: CInt = 0
    while waitpid(pid, &status, WNOHANG) == 0 {
      if waited >= nanoseconds {
        kill(pid, SIGKILL)
        waitpid(pid, &status, 0)
        return "the probe \(name) did not end in time"
      }
      var pause = timespec(tv_sec: 0, tv_nsec: 5_000_000)
      nanosleep(&pause, nil)
      waited += 5_000_000
    }
    return status == 0 ? nil : "the probe \(name) failed"
  }
}
