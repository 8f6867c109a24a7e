import ArgumentParser
import Supervisor

struct ReloadCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "reload",
    abstract: "Read the configuration again; the last good one stays when the new one is invalid.")
  @OptionGroup var options: CommonOptions

  func run() throws {
    let answer = try ControlClient.send("POST", "/reload", socket: options.controlSocket())
    if answer.status >= 400 {
      StandardError.write(answer.body)
      throw ExitCode(answer.status == 422 ? 78 : 1)
    }
    print(answer.body, terminator: "")
  }
}

struct QuitCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "quit", abstract: "Stop the sidecar and its app in order.")
  @OptionGroup var options: CommonOptions

  func run() throws {
    let answer = try ControlClient.send("POST", "/quit", socket: options.controlSocket())
    print(answer.body, terminator: "")
  }
}
