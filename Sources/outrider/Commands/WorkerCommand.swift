import ArgumentParser
import Glibc
import Supervisor

/// The supervisor's child that does the work; never started by hand.
struct WorkerCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "worker", abstract: "The replaceable half of a sidecar, started by `outrider run`.",
    shouldDisplay: false)
  @OptionGroup var options: CommonOptions

  @Option(name: .long, help: "The descriptor of the channel to the supervisor.")
  var channel: Int32 = 3

  @Option(name: .long, help: "The descriptor of the memory that the supervisor keeps for its workers.")
  var memory: Int32 = 4

  @Argument(parsing: .postTerminator) var command: [String] = []

  func run() throws {
    guard fcntl(channel, F_GETFD) >= 0 else {
      StandardError.write(
        "outrider: worker: descriptor \(channel) is no channel; start the sidecar with `outrider run`")
      throw ExitCode(64)
    }
    let input = options.input(command: command)
    let (channel, memory) = (channel, KeptMemory(descriptor: memory))
    let code = try blocking { await WorkerProgram.run(channel: channel, memory: memory, input: input) }
    throw ExitCode(code)
  }
}
