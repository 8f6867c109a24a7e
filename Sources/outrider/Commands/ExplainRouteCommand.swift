import ArgumentParser
import ConfigurationFile
import Traffic

/// `outrider explain route GET http://127.0.0.1:8080/api/x?v=2 -H 'X-Canary: yes'`
struct ExplainRouteCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "route",
    abstract: "Tell from the configuration alone which rule takes a request, and why no other does.")
  @OptionGroup var options: CommonOptions

  @Argument(help: "The request's method.")
  var method: String

  @Argument(help: "http://host:port/path?query, or a path.")
  var url: String

  @Option(name: [.customShort("H"), .long], help: "A field of the request, `Name: value`; may be repeated.")
  var header: [String] = []

  @Option(help: "The listener, for example inbound.web (default: the one on the URL's port, or the only one).")
  var listener: String?

  func run() throws {
    let fields = try header.map { line in
      guard let colon = line.firstIndex(of: ":"), colon > line.startIndex else {
        throw ValidationError("`\(line)` is not a field; write `Name: value`")
      }
      let value = line[line.index(after: colon)...].drop { $0 == " " || $0 == "\t" }
      return AskedRequest.Field(String(line[..<colon]), String(value))
    }
    let traffic = try options.load().value.traffic
    let report: RouteReport
    do throws(RouteReport.Problem) {
      report = try RouteReport(traffic, method: method.uppercased(), url: url, fields: fields, listener: listener)
    } catch {
      throw ValidationError(error.message)
    }
    print(options.output == .json ? report.json() : report.text(), terminator: "")
  }
}
