import ArgumentParser
import Glibc
import NIOCore
import Supervisor
import Vocabulary

struct UpgradeCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "upgrade", abstract: "Replace the running sidecar by another binary; the app and its traffic go on.",
    discussion: """
      The new binary must know the same handover version and accept the configuration in use. Until it serves, nothing
      changes; when it fails, or dies within 30 seconds afterwards, the former binary goes on. Exit codes: 0 it serves,
      1 it does not and the former one goes on, 2 nothing was tried.
      """)
  @OptionGroup var options: CommonOptions

  @Option(help: "The program to upgrade to (default: the one that runs this command).")
  var binary: String?

  @Option(help: "The longest time until it serves, for example 30s.")
  var timeout = "30s"

  func validate() throws {
    guard let limit = DurationText.parse(timeout), (Duration.milliseconds(100)...(.seconds(600))).contains(limit) else {
      throw ValidationError("`--timeout \(timeout)` is not a duration from 100ms to 10m; write one such as 30s")
    }
  }

  func run() throws {
    let limit = DurationText.parse(timeout) ?? .seconds(30)
    let path = try program()
    let query = "binary=\(ControlClient.escape(path))&timeout=\(limit.inMilliseconds)"
    // The way back takes its time as well.
    let answer = try ControlClient.send(
      "POST", "/upgrade?\(query)", socket: options.controlSocket(),
      timeout: .milliseconds(limit.inMilliseconds + 60_000))
    let text = answer.body.last == "\n" ? String(answer.body.dropLast()) : answer.body
    let outcome = answer.status == 200 ? "succeeded" : answer.status == 502 ? "failed" : "refused"
    if options.output == .json {
      let members: [(key: String, value: JSONNode)] = [
        ("outcome", .string(outcome)), ("binary", .string(path)), ("message", .string(text)),
      ]
      print(JSONNode.object(members).json)
    } else if answer.status == 200 {
      print(text)
    } else {
      StandardError.write(text)
    }
    if answer.status != 200 { throw ExitCode(answer.status == 502 ? 1 : 2) }
  }

  /// A whole path: the sidecar may have another working directory.
  private func program() throws -> String {
    guard let found = realpath(binary ?? "/proc/self/exe", nil) else {
      let text = String(cString: strerror(errno))
      throw ValidationError("\(binary ?? "this program"): \(text); name the new program with --binary")
    }
    defer { free(found) }
    return String(cString: found)
  }
}
