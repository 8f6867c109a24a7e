import ArgumentParser
import FoundationEssentials
import Glibc
import Supervisor
import Synchronization

struct TapCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "tap", abstract: "Watch requests live as they finish, whatever the access log records.")
  @OptionGroup var options: CommonOptions

  @Option(name: .long, help: "Only these statuses: 5xx, 404 or 200-299.")
  var status: String?

  @Option(name: .long, help: "Only requests of this route.")
  var route: String?

  @Option(name: .long, help: "Only requests of this listener.")
  var listener: String?

  @Option(name: .long, help: "Only requests that went to this cluster.")
  var cluster: String?

  @Option(name: .long, help: "Only failures that this one is to blame for: app, sidecar, upstream, client, config.")
  var blame: String?

  @Option(name: .long, help: "Only requests that took at least this long, as 200ms.")
  var slow: String?

  @Option(name: .long, help: "Only requests of this method.")
  var method: String?

  @Option(name: .long, help: "Only requests whose path begins so.")
  var path: String?

  @Option(name: .long, help: "End after this many requests.")
  var limit: Int?

  func run() throws {
    let items: [(String, String?)] = [
      ("status", status), ("route", route), ("listener", listener), ("cluster", cluster), ("blame", blame),
      ("slow", slow), ("method", method), ("path", path), ("limit", limit.map(String.init)),
    ]
    let query = items.compactMap { name, value in value.map { "\(name)=\(ControlClient.escape($0))" } }
    let asJSON = options.output == .json
    let colour = !asJSON && isatty(STDOUT_FILENO) == 1 && getenv("NO_COLOR") == nil
    let answer = try ControlClient.lines(
      "/tap" + (query.isEmpty ? "" : "?" + query.joined(separator: "&")), socket: options.controlSocket()
    ) { line in
      if line.isEmpty { return true }
      let output = LineOutput()
      _ = asJSON ? output.write(String(decoding: line, as: UTF8.self)) : output.write(RequestLine.text(line, colour))
      return output.flush()
    }
    if let answer {
      StandardError.write("outrider: \(answer.body)")
      throw ExitCode(answer.status == 400 ? 64 : 1)
    }
  }
}

/// An access record as one line for a person.
struct RequestLine: Decodable {
  var time: String?
  var method: String?
  var path: String?
  var status: Int?
  var flags: String?
  var blame: String?
  var listener: String?
  var route: String?
  var cluster: String?
  var endpoint: String?
  var tries: Int?
  var totalMs: Double?
  var requestId: String?
  var lost: Int?

  static func text(_ json: [UInt8], _ colour: Bool) -> String {
    let decoder = JSONDecoder()
    decoder.keyDecodingStrategy = .convertFromSnakeCase
    guard let record = try? decoder.decode(RequestLine.self, from: Data(json)) else {
      return String(decoding: json, as: UTF8.self)
    }
    return record.text(colour)
  }

  func text(_ colour: Bool) -> String {
    if let lost { return "-- \(lost) requests were not shown: they came faster than this reader takes them" }
    let status = status ?? 0
    var parts = [String(time?.dropFirst(11) ?? "")]
    let paint = !colour ? "" : status >= 500 || status == 0 ? "\u{1B}[31m" : status >= 400 ? "\u{1B}[33m" : ""
    parts.append(paint.isEmpty ? "\(status)" : "\(paint)\(status)\u{1B}[0m")
    parts.append("\(method ?? "-") \(path ?? "-")")
    parts.append("\(totalMs ?? 0)ms")
    parts.append("\(listener ?? "-")/\(route ?? "-")" + (cluster.map { " > \($0)" } ?? ""))
    if let endpoint { parts.append(endpoint) }
    if let flags, !flags.isEmpty { parts.append(flags) }
    if let blame { parts.append("blame: \(blame)") }
    if let tries, tries > 1 { parts.append("\(tries) tries") }
    parts.append(requestId ?? "")
    return parts.joined(separator: "  ")
  }
}
