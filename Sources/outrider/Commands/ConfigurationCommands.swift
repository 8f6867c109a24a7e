import ArgumentParser
import ConfigurationFile
import Logs

struct ValidateCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "validate", abstract: "Check a configuration; exit 0 when it is valid, 78 when it is not.")
  @OptionGroup var options: CommonOptions

  @Flag(name: .long, help: "Run the tests of the transforms, `logs.tests`, too; exit 1 when one fails.")
  var test = false

  func run() throws {
    let loaded = try options.load()
    if test { return try runTests(loaded.value.logs) }
    switch options.output {
    case .json: print("{\"valid\":true}")
    case .text:
      print(
        loaded.files.isEmpty
          ? "no configuration file: the defaults are valid" : "valid: \(loaded.files.joined(separator: ", "))")
    }
  }
}

extension ValidateCommand {
  private func runTests(_ logs: LogsConfiguration) throws {
    var failed = 0
    for test in logs.tests {
      let failures = LogTrial.failures(of: test, logs)
      if !failures.isEmpty { failed += 1 }
      switch options.output {
      case .json:
        let list = failures.map { String(decoding: JSONText.quoted($0), as: UTF8.self) }.joined(separator: ",")
        let name = String(decoding: JSONText.quoted(test.name), as: UTF8.self)
        print("{\"test\":\(name),\"passed\":\(failures.isEmpty),\"failures\":[\(list)]}")
      case .text:
        print("\(failures.isEmpty ? "ok     " : "FAILED ") \(test.name)")
        for failure in failures { print("        \(failure)") }
      }
    }
    if options.output == .text {
      print(
        logs.tests.isEmpty
          ? "no tests: write them in `logs.tests`" : "\(logs.tests.count) tests, \(failed) failed")
    }
    if failed > 0 { throw ExitCode(1) }
  }
}

struct SchemaCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "schema", abstract: "Print the JSON Schema of the configuration file.")

  func run() { print(ConfigurationSchema.json()) }
}
