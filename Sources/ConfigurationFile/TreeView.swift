import Vocabulary

/// A checked tree, read by type. A value that did not fit was reported by the check and reads as absent.
struct TreeView {
  let node: Node?
  let path: String
  /// Where to point when the node is absent.
  let fallback: Mark?
  let report: ProblemReport

  init(_ node: Node?, path: String = "", fallback: Mark? = nil, report: ProblemReport) {
    self.node = node
    self.path = path
    self.fallback = node?.mark ?? fallback
    self.report = report
  }

  subscript(key: String) -> TreeView {
    let child = node?[key]
    let full = child?.isImplicit == true && child?.mapping != nil ? path : path.isEmpty ? key : "\(path).\(key)"
    return TreeView(child, path: full, fallback: fallback, report: report)
  }

  var exists: Bool { node != nil }
  var text: String? { node?.scalar?.text }
  var template: SecretTemplate? { node?.scalar?.template }
  var duration: Duration? { text.flatMap(DurationText.parse) }
  var size: Int? { text.flatMap(ByteCountText.parse) }
  var int: Int? { text.flatMap { Int($0) } }
  var fraction: Double? { text.flatMap { FractionText.parse($0) } }
  var bool: Bool? { text.map { $0 == "true" } }
  var address: Address? { text.flatMap { Address($0) } }
  var signal: Int32? { text.flatMap(SignalName.number) }
  func choice<T: RawRepresentable>(_ type: T.Type) -> T? where T.RawValue == String { text.flatMap { T(rawValue: $0) } }

  var isScalar: Bool { node?.scalar != nil }
  var elements: [TreeView] {
    (node?.sequence ?? []).enumerated().map { index, element in
      TreeView(element, path: node?.isImplicit == true ? path : "\(path)[\(index)]", report: report)
    }
  }
  var texts: [String] { elements.compactMap(\.text) }
  /// In the order of the file.
  var entries: [(key: String, mark: Mark, value: TreeView)] {
    (node?.mapping ?? []).map { ($0.key, $0.keyMark, TreeView($0.value, path: "\(path).\($0.key)", report: report)) }
  }

  /// A file's path, absolute: relative ones start at the directory of the file that names them.
  var filePath: String? {
    guard let text, let mark = node?.mark else { return nil }
    return FilePath.absolute(text, from: report.files[mark.file].directory)
  }

  func error(_ message: String, _ wayOut: String) { report.error(fallback, message, wayOut) }
}

extension Optional {
  /// Keeps the default when there is no value.
  func assign(to place: inout Wrapped) { if let self { place = self } }
  func assign(to place: inout Wrapped?) { if let self { place = self } }
}

/// Paths without symbolic links being followed.
enum FilePath {
  static func absolute(_ path: String, from directory: String) -> String {
    if path.hasPrefix("/") { return path }
    var path = Substring(path)
    while path.hasPrefix("./") { path = path.dropFirst(2) }
    if path.isEmpty || path == "." { return directory }
    return directory.hasSuffix("/") ? directory + path : "\(directory)/\(path)"
  }

  static func directory(of path: String) -> String {
    guard let slash = path.lastIndex(of: "/") else { return "." }
    return slash == path.startIndex ? "/" : String(path[..<slash])
  }

  static func name(of path: String) -> String { path.split(separator: "/").last.map(String.init) ?? path }
}
