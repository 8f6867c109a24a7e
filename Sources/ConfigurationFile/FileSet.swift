import Glibc
import Vocabulary

/// The main file, what it includes, and `outrider.d/*.yaml` beside it, merged into one tree.
final class FileSet {
  static let maxBytes = 4 << 20
  static let maxFiles = 256

  private let report: ProblemReport
  private(set) var paths: [String] = []

  private let environment: [String: String]
  private let files: ConfigurationFiles

  init(report: ProblemReport, environment: [String: String], files: ConfigurationFiles) {
    self.report = report
    self.environment = environment
    self.files = files
  }

  /// nil = the file is empty or cannot be read; the report has the reason.
  func load(_ path: String, shownAs name: String) -> Node? {
    guard var tree = read(path, name, includedFrom: nil) ?? emptyTree(path) else { return nil }
    let directory = FilePath.directory(of: path) + "/outrider.d"
    for entry in files.yamlFiles(in: directory) {
      let shown =
        FilePath.directory(of: name) == "."
        ? "outrider.d/\(entry)" : FilePath.directory(of: name) + "/outrider.d/\(entry)"
      if let other = read("\(directory)/\(entry)", shown, includedFrom: nil) { tree = merge(tree, other, "") }
    }
    return tree
  }

  private func emptyTree(_ path: String) -> Node? {
    guard paths.contains(path) else { return nil }
    return Node(mark: Mark(file: 0, line: 1, column: 1), content: .mapping([]))
  }

  private func read(_ path: String, _ name: String, includedFrom mark: Mark?) -> Node? {
    guard !paths.contains(path) else {
      report.error(mark, "`\(name)` is included twice", "include each file once")
      return nil
    }
    guard paths.count < Self.maxFiles else {
      report.error(mark, "more than \(Self.maxFiles) files", "put them together")
      return nil
    }
    let bytes: [UInt8]
    switch files.bytes(of: path, limit: Self.maxBytes) {
    case .success(let content): bytes = content
    case .failure(let failure):
      report.error(mark, "cannot read \(name): \(failure.reason)", failure.wayOut)
      return nil
    }
    paths.append(path)
    let file = report.add(file: SourceFile(name: name, directory: FilePath.directory(of: path), lines: []))
    report.setLines(
      String(decoding: bytes, as: UTF8.self).split(omittingEmptySubsequences: false) { $0 == "\n" || $0 == "\r\n" },
      of: file)
    guard let root = YAMLReader.read(bytes, file: file, report: report), !root.isNull else { return nil }
    guard let entries = root.mapping else {
      report.error(root.mark, "the file holds \(root.kind), not a map", "begin with a key such as `app:`")
      return nil
    }
    return includes(of: Node(mark: root.mark, content: .mapping(entries)), path, name)
  }

  private func includes(of tree: Node, _ path: String, _ name: String) -> Node {
    guard let include = tree["include"] else { return tree }
    var merged = Node(mark: tree.mark, content: .mapping((tree.mapping ?? []).filter { $0.key != "include" }))
    for node in include.sequence ?? [include] {
      guard let text = includedPath(node), !text.isEmpty else {
        report.error(node.mark, "`include` takes files' paths, not \(node.kind)", "write `include: [other.yaml]`")
        continue
      }
      let target = FilePath.absolute(text, from: FilePath.directory(of: path))
      let shown =
        FilePath.directory(of: name) == "." ? text : FilePath.absolute(text, from: FilePath.directory(of: name))
      if let other = read(target, shown, includedFrom: node.mark) { merged = merge(merged, other, "") }
    }
    return merged
  }

  /// nil = not a single value; problems of `${…}` are reported, and leave the text as written.
  private func includedPath(_ node: Node) -> String? {
    guard let scalar = node.scalar, !scalar.isNull else { return nil }
    do throws(SecretTemplate.Problem) {
      let template = try SecretTemplate.parse(scalar.raw) { environment[$0].map { .value($0) } ?? .unset }
      if let text = template.literal { return text }
      report.error(node.mark, "`include` cannot hold a secret", "write a file's path")
    } catch {
      report.error(node.mark, "`include`: \(error.message)", error.wayOut)
    }
    return scalar.raw
  }

  /// Maps merge, lists of maps join; anything else said twice is an error that names both places.
  private func merge(_ left: Node, _ right: Node, _ path: String) -> Node {
    if left.isNull { return right }
    if right.isNull { return left }
    if let a = left.mapping, let b = right.mapping {
      var entries = a
      for entry in b {
        if let index = entries.firstIndex(where: { $0.key == entry.key }) {
          entries[index].value = merge(
            entries[index].value, entry.value, path.isEmpty ? entry.key : "\(path).\(entry.key)")
        } else {
          entries.append(entry)
        }
      }
      return Node(mark: left.mark, content: .mapping(entries))
    }
    if let a = left.sequence, let b = right.sequence, (a + b).allSatisfy({ $0.mapping != nil }) {
      return Node(mark: left.mark, content: .sequence(a + b))
    }
    report.error(right.mark, "`\(path)` is already set at \(report.place(left.mark))", "keep one of them")
    return left
  }

  // MARK: files

  struct Failure: Error {
    var reason: String
    var wayOut: String
  }

  static func exists(_ path: String) -> Bool { access(path, F_OK) == 0 }

  static func bytes(of path: String, limit: Int) -> Result<[UInt8], Failure> {
    let descriptor = open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else {
      let wayOut = errno == ENOENT ? "create it, or name another" : "check its permissions"
      return .failure(Failure(reason: String(cString: strerror(errno)), wayOut: wayOut))
    }
    defer { close(descriptor) }
    var content: [UInt8] = []
    var chunk = [UInt8](repeating: 0, count: 64 << 10)
    while true {
      let count = Glibc.read(descriptor, &chunk, chunk.count)
      if count < 0 {
        if errno == EINTR { continue }
        return .failure(Failure(reason: String(cString: strerror(errno)), wayOut: "name a regular file"))
      }
      if count == 0 { return .success(content) }
      content += chunk[..<count]
      if content.count > limit {
        return .failure(Failure(reason: "it is larger than \(limit >> 20) MiB", wayOut: "split it, and use `include`"))
      }
    }
  }

  static func yamlFiles(in directory: String) -> [String] {
    guard let stream = opendir(directory) else { return [] }
    defer { closedir(stream) }
    var names: [String] = []
    while let entry = readdir(stream) {
      let name = withUnsafeBytes(of: &entry.pointee.d_name) { bytes in
        String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
      }
      if name.hasSuffix(".yaml"), !name.hasPrefix(".") { names.append(name) }
    }
    return names.sorted()
  }
}
