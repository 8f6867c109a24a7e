import ArgumentParser
import Glibc
import Supervisor
import Vocabulary

struct RunCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "run",
    abstract: "Run an app with its traffic, logs and secrets taken care of.",
    discussion: "outrider run -- python3 app.py needs no configuration file. Without a command (and no app.command in "
      + "the file) only the sidecar runs, beside an app in another container.")
  @OptionGroup var options: CommonOptions

  @Flag(help: "Fetch the secrets, write `secrets.files` and exit: an init container.")
  var once = false

  @Option(help: "With --once: the longest time for it, for example 30s.")
  var timeout = "60s"

  @Option(
    help: ArgumentHelp(
      "The program that is started as the worker (default: this binary), for example one that counts instructions.",
      visibility: .hidden))
  var workerBinary = "/proc/self/exe"

  @Option(
    help:
      "Whether the app gets the terminal instead of the logs: yes, no, or auto (a shell or interpreter without a script)."
  )
  var terminal = Terminal.Wish.auto

  @Argument(parsing: .postTerminator, help: "The app's command, after --.")
  var command: [String] = []

  func run() throws {
    if once {
      guard let limit = DurationText.parse(timeout), limit > .zero else {
        throw ValidationError("--timeout \(timeout) is no duration; write for example 30s")
      }
      throw ExitCode(try SecretsOnce.run(options, limit: limit))
    }
    var worker = [workerBinary, "worker"]
    if let config = options.config { worker += ["--config", config] }
    if let state = options.state { worker += ["--state", state] }
    if !command.isEmpty { worker += ["--"] + command }
    let code = SupervisorProgram.run(workerCommand: worker, terminal: terminal, version: ProductVersion.text)
    throw ExitCode(code)
  }
}

extension Terminal.Wish: ExpressibleByArgument {}
