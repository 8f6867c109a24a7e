import ArgumentParser
import ConfigurationFile
import Glibc
import NIOCore
import Supervisor
import Vocabulary

/// What `outrider wait` waits for; each is a path of the admin API.
enum ReadyPart: String, ExpressibleByArgument, CaseIterable {
  case live, outbound, sidecar, all

  var path: String {
    switch self {
    case .live: "/livez"
    case .all: "/readyz"
    case .outbound, .sidecar: "/readyz/\(rawValue)"
    }
  }
}

struct WaitCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "wait", abstract: "Wait until a sidecar is ready, then become a command.",
    discussion: """
      For the app's container beside a sidecar: `outrider wait --timeout 60s -- CMD` starts the app only when its \
      secrets and outbound listeners are there. CMD takes this process's place and keeps its process id.

      Exit codes: CMD's; 0 ready, without a CMD; 75 not ready in time; 64 wrong options; 126 CMD cannot be executed; \
      127 there is no CMD of that name; 130 and 143 after SIGINT and SIGTERM.
      """)
  /// How often it says what it waits for, and how often it asks.
  static let sayEvery = Duration.seconds(5)
  static let askEvery = UInt32(200_000)
  /// The longest wait for one answer.
  static let patience = Duration.seconds(2)

  @OptionGroup var options: CommonOptions

  @Option(help: "The longest wait, such as 60s; 0s waits without end.")
  var timeout = "60s"

  @Option(help: "The admin API: host:port or unix:/path (default: the control socket, else admin.listen).")
  var address: String?

  @Option(
    name: .customLong("for"), help: "What must be: sidecar or outbound ready, all (also its app), or live (it answers)."
  )
  var part: ReadyPart = .sidecar

  @Argument(parsing: .postTerminator, help: "The command to become, after --.")
  var command: [String] = []

  func validate() throws {
    if DurationText.parse(timeout) == nil {
      throw ValidationError("`--timeout \(timeout)` is not a duration; write one such as 500ms, 60s or 2m")
    }
    if let address, Address(address) == nil {
      throw ValidationError("`--address \(address)` is not an address; write 127.0.0.1:15000 or unix:/path")
    }
  }

  func run() throws {
    // The first process of a container would ignore them otherwise. The command starts with the default actions.
    signal(SIGTERM) { _exit(128 + $0) }
    signal(SIGINT) { _exit(128 + $0) }
    let limit = DurationText.parse(timeout) ?? .seconds(60)
    let addresses = try candidates()
    let begin = ContinuousClock.now
    var nextLine = begin + Self.sayEvery
    while let reason = obstacle(addresses, patience: limit > .zero ? begin + limit - .now : Self.patience) {
      let now = ContinuousClock.now
      if limit > .zero, now >= begin + limit {
        StandardError.write(
          "outrider wait: not ready after \(DurationText.format(limit)): \(reason); "
            + "is the sidecar started, and does it share this network or the directory of its socket?\n")
        throw ExitCode(75)
      }
      if now >= nextLine {
        StandardError.write("outrider wait: waiting for \(reason)\n")
        nextLine = now + Self.sayEvery
      }
      usleep(Self.askEvery)
    }
    if !command.isEmpty { try become() }
  }

  /// Where the sidecar may answer: what was named, else the control socket, then the port.
  private func candidates() throws -> [Address] {
    if let address = address.flatMap(Address.init) { return [address] }
    let socket = Address.unix(path: try options.controlSocket())
    if options.state != nil { return [socket] }
    return [socket] + (try options.load().value.admin.listen.map { [$0] } ?? [])
  }

  /// Nil when it is ready, else what it waits for.
  private func obstacle(_ addresses: [Address], patience: Duration) -> String? {
    let timeout = TimeAmount.nanoseconds(max(min(patience, Self.patience), .milliseconds(100)).inNanoseconds)
    var reasons: [String] = []
    for address in addresses {
      if case .unix(let path) = address, access(path, F_OK) != 0 {
        reasons.append("the sidecar's socket \(path)")
        continue
      }
      do {
        let answer = try ControlClient.send("GET", part.path, to: address, timeout: timeout)
        if answer.status == 200 { return nil }
        let text = answer.body.prefix { !$0.isNewline }
        return "the sidecar at \(address): " + (answer.status == 503 ? String(text) : "it answers \(answer.status)")
      } catch {
        reasons.append("the sidecar at \(address), which does not answer")
      }
    }
    return reasons.joined(separator: ", or ")
  }

  /// Takes the command's shape: default signal actions, an empty mask, the same process id.
  private func become() throws {
    signal(SIGPIPE, SIG_DFL)
    var none = sigset_t()
    sigemptyset(&none)
    sigprocmask(SIG_SETMASK, &none, nil)
    var arguments: [UnsafeMutablePointer<CChar>?] = command.map { strdup($0) }
    arguments.append(nil)
    execvp(command[0], arguments)
    let error = errno
    StandardError.write(
      "outrider wait: cannot start \(command[0]): \(String(cString: strerror(error))); give its full path\n")
    throw ExitCode(error == ENOENT ? 127 : 126)
  }
}
