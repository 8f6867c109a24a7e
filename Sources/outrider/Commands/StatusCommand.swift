import ArgumentParser
import FoundationEssentials

struct StatusCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "status", abstract: "Show what a running sidecar and its app are doing.")
  @OptionGroup var options: CommonOptions

  func run() throws {
    let answer = try ControlClient.send("GET", "/status", socket: options.controlSocket())
    if options.output == .json {
      print(answer.body, terminator: "")
      return
    }
    let decoder = JSONDecoder()
    decoder.keyDecodingStrategy = .convertFromSnakeCase
    let status = try decoder.decode(WorkerStatus.self, from: Data(answer.body.utf8))
    print(status.rendered())
  }
}
