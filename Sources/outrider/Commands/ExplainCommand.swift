import ArgumentParser
import ConfigurationFile
import FoundationEssentials
import Supervisor

struct ExplainCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "explain",
    abstract: "Show the effective configuration and where each value came from, or what becomes of a request.",
    subcommands: [ExplainConfigurationCommand.self, ExplainRequestCommand.self, ExplainRouteCommand.self],
    defaultSubcommand: ExplainConfigurationCommand.self)
}

struct ExplainConfigurationCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "configuration", abstract: "Show the effective configuration and where each value came from.")
  @OptionGroup var options: CommonOptions

  func run() throws {
    print(try options.load().explain(json: options.output == .json))
  }
}

struct ExplainRequestCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "request",
    abstract: "Tell the story of a request of the last minutes; without an id, the newest that failed.")
  @OptionGroup var options: CommonOptions

  @Argument(help: "The request's id: X-Request-Id, or request_id of its access record.")
  var id: String?

  func run() throws {
    let path = "/requests" + (id.map { "?id=" + ControlClient.escape($0) } ?? "")
    let answer = try ControlClient.send("GET", path, socket: options.controlSocket())
    guard answer.status == 200 else {
      StandardError.write("outrider: \(answer.body)")
      throw ExitCode(1)
    }
    let decoder = JSONDecoder()
    decoder.keyDecodingStrategy = .convertFromSnakeCase
    let stories = try decoder.decode(RequestStories.self, from: Data(answer.body.utf8)).requests
    if stories.isEmpty, let id {
      StandardError.write(
        "outrider: nothing is known of the request \(id): it is longer ago than `telemetry.stories.keep`, was made room "
          + "for, or went well and was not in the sample (errors, slow and retried requests always are)")
      throw ExitCode(1)
    }
    if options.output == .json {
      print(answer.body, terminator: "")
    } else if id == nil {
      print(stories.isEmpty ? "no request has failed lately" : stories.map { $0.line() }.joined(separator: "\n"))
    } else {
      print(stories.map { $0.told() }.joined(separator: "\n\n"))
    }
  }
}
