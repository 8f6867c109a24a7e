import ArgumentParser

struct StatusCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "status", abstract: "Show what a running sidecar and its app are doing.")
  @OptionGroup var options: CommonOptions

  func run() throws {
    let socket = try options.controlSocket()
    switch options.output {
    case .json: print(try ControlClient.send("GET", "/status", socket: socket).body, terminator: "")
    case .text: print(try WorkerStatus.read(socket).rendered())
    }
  }
}
