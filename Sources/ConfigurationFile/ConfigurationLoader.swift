import Supervisor
import Vocabulary

/// Everything that a load depends on; nothing else is asked of the process.
package struct ConfigurationInput: Sendable {
  /// nil = `outrider.yaml` in the working directory, when there is one.
  package var path: String?
  /// What followed `--`; empty = the file's command.
  package var command: [String]
  /// `--state`.
  package var state: String?
  package var environment: [String: String]
  /// Absolute.
  package var workingDirectory: String
  package var isRoot: Bool

  package init(
    path: String? = nil, command: [String] = [], state: String? = nil, environment: [String: String] = [:],
    workingDirectory: String, isRoot: Bool = false
  ) {
    self.path = path
    self.command = command
    self.state = state
    self.environment = environment
    self.workingDirectory = workingDirectory
    self.isRoot = isRoot
  }
}

/// A configuration that is valid, with where its values came from.
package struct LoadedConfiguration: Sendable {
  package var value: OutriderConfiguration
  /// Absolute paths of the files read, the main one first; empty = no file.
  package var files: [String]
  package var explanation: Explanation
  /// All that was read.
  package var image: ConfigurationImage
}

package enum ConfigurationLoader {
  /// Reads, checks and decodes; all problems are thrown at once. With an image, files are read from it instead of disk.
  package static func load(
    _ input: ConfigurationInput, from image: ConfigurationImage? = nil
  ) throws(ConfigurationProblems) -> LoadedConfiguration {
    let report = ProblemReport()
    let source = ConfigurationFiles(image)
    let files = FileSet(report: report, environment: input.environment, files: source)
    var tree: Node?
    if let path = mainFile(input, source) {
      tree = files.load(FilePath.absolute(path, from: input.workingDirectory), shownAs: path)
    }
    if let whole = tree {
      tree = TreeCheck(report: report, environment: input.environment).check(whole, .record(KeyTable.root), "")
    }
    let decoder = ConfigurationDecoder(
      input: input, report: report, root: TreeView(tree, report: report), files: source)
    let value = decoder.decode()
    guard report.isEmpty else {
      throw ConfigurationProblems(rendered: report.render(), count: report.count)
    }
    let explanation = ExplanationBuilder(report: report, overrides: decoder.overrides, implied: decoder.implied).build(
      tree)
    return LoadedConfiguration(
      value: value, files: files.paths + decoder.extraFiles, explanation: explanation, image: source.image)
  }

  private static func mainFile(_ input: ConfigurationInput, _ files: ConfigurationFiles) -> String? {
    if let path = input.path { return path }
    let standard = FilePath.absolute("outrider.yaml", from: input.workingDirectory)
    return files.exists(standard) ? "outrider.yaml" : nil
  }
}
