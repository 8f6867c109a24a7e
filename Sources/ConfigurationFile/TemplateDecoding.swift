import Secrets
import Vocabulary

/// Templates with `{{ … }}` blocks: read, and their calls of `secret` and `pkiCert` bound to values.
extension ConfigurationDecoder {
  /// Nil when it is wrong, which was reported: at its place in the template's own `file`, an index into the files read, or
  /// in the text of a key.
  func blocks(_ text: String, at view: TreeView, file: Int? = nil) -> SecretBlocks? {
    let template: BlockTemplate
    do throws(BlockTemplate.Problem) {
      template = try BlockTemplate(parsing: text) { name in input.environment[name].map { .value($0) } ?? .unset }
    } catch {
      report(error, text, at: view, file)
      return nil
    }
    for reference in template.references where !secretNames.contains(reference.name) && !acceptsAnySecret {
      reportUndeclared(reference.name, at: view)
    }
    var names: [String: String] = [:]
    for source in template.sources {
      guard let name = secretName(of: source) else {
        let problem = BlockTemplate.Problem(
          place: source.place, message: "no secret is read from `\(PlainText.shown(source.path))`",
          wayOut: "declare it in `secrets.values`, for example `kv: \(PlainText.shown(Self.plainKV(source.path)))`")
        report(problem, text, at: view, file)
        continue
      }
      names[source.key] = name
    }
    return names.count == Set(template.sources.map(\.key)).count ? SecretBlocks(template: template, names: names) : nil
  }

  private func report(_ problem: BlockTemplate.Problem, _ text: String, at view: TreeView, _ file: Int?) {
    let place = problem.place
    if let file {
      report.error(
        Mark(file: file, line: place.line, column: place.column), "`\(view.path)`: \(problem.message)", problem.wayOut)
    } else if let mark = mark(place, text, view) {
      report.error(mark, "`\(view.path)`: \(problem.message)", problem.wayOut)
    } else {
      view.error(
        "`\(view.path)`: line \(place.line), column \(place.column) of the text: \(problem.message)", problem.wayOut)
    }
  }

  /// Where a place of a key's text stands in the file; nil when its line is not there as it is, for example for escapes.
  private func mark(_ place: BlockTemplate.Place, _ text: String, _ view: TreeView) -> Mark? {
    let pieces = Self.lines(text)
    guard let start = view.node?.mark, pieces.indices.contains(place.line - 1) else { return nil }
    let wanted = Array(pieces[place.line - 1])
    let lines = report.files[start.file].lines
    // A block scalar starts on the line below its mark, any other on the line of it.
    for number in [start.line + place.line - 1, start.line + place.line] where lines.indices.contains(number - 1) {
      let line = Array(lines[number - 1])
      guard !wanted.isEmpty, line.count >= wanted.count else { continue }
      for column in 0...line.count - wanted.count where line[column..<(column + wanted.count)].elementsEqual(wanted) {
        return Mark(file: start.file, line: number, column: column + place.column)
      }
    }
    return nil
  }

  static func lines(_ text: String) -> [Substring] {
    text.split(omittingEmptySubsequences: false) { $0 == "\n" || $0 == "\r\n" }
  }

  /// The value that reads what the call asks for, by path or by name. With a vault store alone, one that nobody declared is
  /// read as well.
  private func secretName(of source: BlockTemplate.Source) -> String? {
    let path = Self.plainKV(source.path)
    let commonName = source.value(of: "common_name")
    for value in valuesInPlay + impliedValues {
      switch value.source {
      case .kv(let known): if known == path || known == source.path { return value.name }
      case .pki(let request):
        if request.path == source.path, commonName == nil || commonName == request.commonName { return value.name }
      case .lease(let known), .staticRole(let known): if known == source.path { return value.name }
      case .key: break
      }
    }
    if secretNames.contains(source.path) { return source.path }
    if acceptsAnySecret, !source.path.contains("/") { return source.path }
    guard storesInPlay.count == 1, case .vault = storesInPlay[0].kind, source.path.contains("/") else { return nil }
    var kind = SecretValueConfiguration.Source.kv(path: path)
    let pieces = source.path.split(separator: "/")
    if pieces.count > 2, pieces[pieces.count - 2] == "creds" { kind = .lease(path: source.path) }
    if pieces.count > 2, pieces[pieces.count - 2] == "static-creds" { kind = .staticRole(path: source.path) }
    var name = path
    if let commonName {
      var request = CertificateRequest(path: source.path, commonName: commonName)
      request.altNames = source.value(of: "alt_names")?.split(separator: ",").map(String.init) ?? []
      request.ipSANs = source.value(of: "ip_sans")?.split(separator: ",").map(String.init) ?? []
      request.uriSANs = source.value(of: "uri_sans")?.split(separator: ",").map(String.init) ?? []
      request.ttl = source.value(of: "ttl").flatMap(DurationText.parse)
      kind = .pki(request)
      name += " \(commonName)"
    } else if source.isCertificate {
      return nil
    }
    impliedValues.append(SecretValueConfiguration(name: name, store: storesInPlay[0].name, source: kind))
    return name
  }

  /// `MOUNT/data/PATH` of KV v2 without `data`, which we ask the server about.
  static func plainKV(_ path: String) -> String {
    var parts = path.split(separator: "/")
    if parts.count > 2, parts[1] == "data" { parts.remove(at: 1) }
    return parts.joined(separator: "/")
  }
}
