import ArgumentParser
import FoundationEssentials
import Supervisor
import Vocabulary

struct BypassCommand: ParsableCommand {
  enum Wish: String, ExpressibleByArgument, CaseIterable { case on, off, show }

  static let configuration = CommandConfiguration(
    commandName: "bypass",
    abstract: "Let inbound connections pass the sidecar by, for a while, to see whose fault it is.",
    discussion: """
      While it is on, each new inbound connection goes to the app octet for octet: without TLS, authorization, limits, \
      retries and records. Open connections end with their next answer. It ends by itself.
      """)
  @OptionGroup var options: CommonOptions

  @Argument(help: "on, off or show.")
  var wish: Wish

  @Option(name: .customLong("for"), help: "With on: for how long, up to 24h.")
  var time = "10m"

  func validate() throws {
    if DurationText.parse(time) == nil {
      throw ValidationError("`--for \(time)` is not a duration; write one such as 30s or 10m")
    }
  }

  func run() throws {
    let socket = try options.controlSocket()
    if wish == .show { return try show(socket) }
    let query = wish == .on ? "for=\(ControlClient.escape(time))" : "off=1"
    let answer = try ControlClient.send("POST", "/bypass?\(query)", socket: socket)
    guard answer.status < 400 else {
      StandardError.write(answer.body)
      throw ExitCode(1)
    }
    print(answer.body, terminator: "")
  }

  private func show(_ socket: String) throws {
    let bypass = try WorkerStatus.read(socket).bypass
    switch options.output {
    case .text: print("bypass is \(bypass?.rendered ?? "off")")
    case .json:
      print(
        "{\"on\":\(bypass != nil),\"seconds_left\":\(bypass?.secondsLeft ?? 0),\"connections\":\(bypass?.connections ?? 0)}"
      )
    }
  }
}

extension WorkerStatus {
  /// Of the sidecar at that control socket.
  static func read(_ socket: String) throws -> WorkerStatus {
    let answer = try ControlClient.send("GET", "/status", socket: socket)
    let decoder = JSONDecoder()
    decoder.keyDecodingStrategy = .convertFromSnakeCase
    return try decoder.decode(WorkerStatus.self, from: Data(answer.body.utf8))
  }
}
