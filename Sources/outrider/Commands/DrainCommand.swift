import ArgumentParser
import Glibc
import Supervisor
import Vocabulary

struct DrainCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "drain", abstract: "Take listeners out of service: every answer ends its connection.",
    discussion: """
      A drained listener still serves whoever comes, with `Connection: close` (HTTP/2: GOAWAY); idle connections end
      after five seconds. `/readyz` fails once every inbound listener is drained.
      """)
  @OptionGroup var options: CommonOptions

  @Argument(help: "all, inbound, outbound, or one listener as inbound.NAME or outbound.NAME.")
  var target = "all"

  @Option(help: "Return once no connection is left; exit 1 when some are left after this time, such as 30s.")
  var wait: String?

  @Flag(help: "Take them back into service.")
  var undo = false

  func validate() throws {
    if let wait, DurationText.parse(wait) == nil {
      throw ValidationError("`--wait \(wait)` is not a duration; write one such as 500ms, 30s or 2m")
    }
  }

  func run() throws {
    let socket = try options.controlSocket()
    let query = "target=\(ControlClient.escape(target))\(undo ? "&undo=1" : "")"
    let answer = try ControlClient.send("POST", "/drain?\(query)", socket: socket)
    if answer.status >= 400 {
      StandardError.write(answer.body)
      throw ExitCode(1)
    }
    print(answer.body, terminator: "")
    if !undo, let wait, let limit = DurationText.parse(wait) { try waitUntilEmpty(socket, limit) }
  }

  private func waitUntilEmpty(_ socket: String, _ limit: Duration) throws {
    let deadline = ContinuousClock.now + limit
    while true {
      let status = try WorkerStatus.read(socket)
      let left = status.listeners.filter { listener in
        let isMeant = ["all", listener.direction, "\(listener.direction).\(listener.name)"].contains(target)
        return isMeant && listener.connections > 0
      }
      if left.isEmpty { return }
      if ContinuousClock.now >= deadline {
        let names = left.map { "\($0.direction).\($0.name) (\($0.connections))" }.joined(separator: ", ")
        StandardError.write("connections are left after \(DurationText.format(limit)): \(names)\n")
        throw ExitCode(1)
      }
      usleep(200_000)
    }
  }
}
