import Glibc

@testable import ConfigurationFile

/// A directory of configuration files, removed at the end.
final class Workspace {
  let path: String

  init() {
    var template = Array("/tmp/outrider-configuration-XXXXXX".utf8CString)
    path = mkdtemp(&template).map { String(cString: $0) } ?? "/nonexistent"
  }

  private var written: [String] = []

  deinit {
    for name in written.reversed() { remove("\(path)/\(name)") }
    remove(path)
  }

  func directory(_ name: String) {
    mkdir("\(path)/\(name)", 0o755)
    written.append(name)
  }

  func write(_ name: String, _ text: String) { write(name, Array(text.utf8)) }

  func write(_ name: String, _ bytes: [UInt8]) {
    guard let file = fopen("\(path)/\(name)", "w") else { return }
    fwrite(bytes, 1, bytes.count, file)
    fclose(file)
    written.append(name)
  }

  func input(_ environment: [String: String] = [:], command: [String] = [], state: String? = "/state")
    -> ConfigurationInput
  {
    ConfigurationInput(command: command, state: state, environment: environment, workingDirectory: path)
  }

  /// Loads `text` as outrider.yaml.
  static func load(_ text: String, _ environment: [String: String] = [:]) throws -> LoadedConfiguration {
    let workspace = Workspace()
    workspace.write("outrider.yaml", text)
    return try ConfigurationLoader.load(workspace.input(environment))
  }

  static func value(_ text: String, _ environment: [String: String] = [:]) throws -> OutriderConfiguration {
    try load(text, environment).value
  }

  /// What is printed when `text` is refused; empty when it is accepted.
  static func problems(_ text: String, _ environment: [String: String] = [:]) -> String {
    do {
      _ = try load(text, environment)
      return ""
    } catch { return (error as? ConfigurationProblems)?.rendered ?? "\(error)" }
  }
}
