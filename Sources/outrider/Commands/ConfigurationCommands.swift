import ArgumentParser
import ConfigurationFile

struct ValidateCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "validate", abstract: "Check a configuration; exit 0 when it is valid, 78 when it is not.")
  @OptionGroup var options: CommonOptions

  func run() throws {
    let loaded = try options.load()
    switch options.output {
    case .json: print("{\"valid\":true}")
    case .text:
      print(
        loaded.files.isEmpty
          ? "no configuration file: the defaults are valid" : "valid: \(loaded.files.joined(separator: ", "))")
    }
  }
}

struct SchemaCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "schema", abstract: "Print the JSON Schema of the configuration file.")

  func run() { print(ConfigurationSchema.json()) }
}
