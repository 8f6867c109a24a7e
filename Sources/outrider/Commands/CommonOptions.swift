import ArgumentParser
import ConfigurationFile
import Glibc
import Supervisor

enum OutputFormat: String, ExpressibleByArgument, CaseIterable { case text, json }

/// What every command takes.
struct CommonOptions: ParsableArguments {
  @Option(name: .long, help: "Configuration file (default: outrider.yaml in the working directory, if there is one).")
  var config: String?

  @Option(name: .long, help: "State directory: spool, store, checkpoints and the control socket.")
  var state: String?

  @Option(name: .long, help: "How to print data: text or json.")
  var output: OutputFormat = .text

  /// What the loader needs, taken from this process.
  func input(command: [String] = []) -> ConfigurationInput {
    ConfigurationInput(
      path: config, command: command, state: state, environment: ProcessFacts.environment,
      workingDirectory: ProcessFacts.workingDirectory, isRoot: geteuid() == 0)
  }

  /// Loads the configuration, or prints every problem and ends with 78.
  func load(command: [String] = []) throws -> LoadedConfiguration {
    do {
      return try ConfigurationLoader.load(input(command: command))
    } catch {
      StandardError.write(error.rendered)
      throw ExitCode(78)
    }
  }

  /// The state directory of a running or former sidecar: `--state`, the configuration's, or the newest of the user's.
  func stateDirectory() throws -> String {
    if let state { return state }
    let loaded = try load()
    let directory = loaded.value.stateDirectory
    if access(directory, F_OK) == 0 || geteuid() == 0 { return directory }
    return ProcessFacts.newestDirectory(beside: directory) ?? directory
  }

  /// The control socket of the sidecar that uses the state directory.
  func controlSocket() throws -> String {
    if state == nil, config != nil, let socket = try load().value.admin.socket { return socket }
    return try stateDirectory() + "/outrider.sock"
  }
}

/// Facts of this process that commands share.
enum ProcessFacts {
  static var environment: [String: String] {
    var result: [String: String] = [:]
    var entry = environ
    while let pointer = entry.pointee {
      let text = String(cString: pointer)
      if let equals = text.firstIndex(of: "=") {
        result[String(text[..<equals])] = String(text[text.index(after: equals)...])
      }
      entry += 1
    }
    return result
  }

  static var workingDirectory: String {
    guard let pointer = getcwd(nil, 0) else { return "/" }
    defer { free(pointer) }
    return String(cString: pointer)
  }

  /// The most recently changed directory in the parent of `path`.
  static func newestDirectory(beside path: String) -> String? {
    guard let slash = path.lastIndex(of: "/") else { return nil }
    let parent = String(path[..<slash])
    guard let directory = opendir(parent) else { return nil }
    defer { closedir(directory) }
    var newest: (path: String, seconds: Int)?
    while let entry = readdir(directory) {
      let name = withUnsafeBytes(of: &entry.pointee.d_name) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
      if name.hasPrefix(".") { continue }
      var info = stat()
      guard stat(parent + "/" + name, &info) == 0, info.st_mode & S_IFMT == S_IFDIR else { continue }
      if newest == nil || info.st_mtim.tv_sec > newest!.seconds {
        newest = (parent + "/" + name, info.st_mtim.tv_sec)
      }
    }
    return newest?.path
  }
}
