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

  @Flag(name: .long, help: "Take over from a worker that lives.")
  var successor = false

  @Argument(parsing: .postTerminator) var command: [String] = []

  func run() throws {
    guard fcntl(channel, F_GETFD) >= 0 else {
      StandardError.write(
        "outrider: worker: descriptor \(channel) is no channel; start the sidecar with `outrider run`")
      throw ExitCode(64)
    }
    let input = options.input(command: command)
    // The program itself, where the supervisor started it from an open file.
    if fcntl(5, F_GETFD) >= 0 { _ = fcntl(5, F_SETFD, FD_CLOEXEC) }
    let (channel, memory, isSuccessor) = (channel, KeptMemory(descriptor: memory), successor)
    let code = try blocking {
      await WorkerProgram.run(channel: channel, memory: memory, input: input, isSuccessor: isSuccessor)
    }
    throw ExitCode(code)
  }
}
