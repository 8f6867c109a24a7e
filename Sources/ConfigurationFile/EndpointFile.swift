package import Traffic

/// A file of endpoints, as the `file` of a cluster names it: a list, or a map that holds it as `endpoints`.
package enum EndpointFile {
  /// More are an error.
  static let maxEndpoints = 10_000

  /// Reads content strictly: one mistake, and none of it is used. An empty list is a list; an empty file is a mistake.
  package static func decode(
    _ content: [UInt8], path: String
  ) -> Result<[EndpointConfiguration], EndpointFileProblem> {
    let report = ProblemReport()
    let file = report.add(file: SourceFile(name: path, directory: FilePath.directory(of: path), lines: []))
    report.setLines(
      String(decoding: content, as: UTF8.self).split(omittingEmptySubsequences: false) { $0 == "\n" || $0 == "\r\n" },
      of: file)
    let endpoints = decode(YAMLReader.read(content, file: file, report: report), report)
    if let endpoints, report.isEmpty { return .success(endpoints) }
    if report.isEmpty { report.error(Mark(file: file, line: 1, column: 1), "the file is empty", "write `[]` for none") }
    return .failure(EndpointFileProblem(report.render()))
  }

  private static func decode(_ root: Node?, _ report: ProblemReport) -> [EndpointConfiguration]? {
    guard let root, !root.isNull else { return nil }
    // The environment of the sidecar is not part of what somebody else writes.
    let check = TreeCheck(report: report, environment: [:])
    let list: TreeView
    if root.sequence != nil {
      list = TreeView(check.check(root, KeyTable.endpoints, "endpoints"), path: "endpoints", report: report)
    } else {
      list = TreeView(check.check(root, .record(KeyTable.endpointFile), ""), report: report)["endpoints"]
    }
    if let count = list.node?.sequence?.count, count > maxEndpoints {
      list.error("\(count) endpoints in one file", "name at most \(maxEndpoints)")
      return nil
    }
    return EndpointDecoding.endpoints(list)
  }
}
