import Vocabulary

/// Compares a tree with the key table: reports what does not fit, expands the environment, and gives back the tree in
/// its normal form (kinds under their key, unknown parts removed), so that decoding need not ask again.
struct TreeCheck {
  let report: ProblemReport
  let environment: [String: String]

  func check(_ node: Node, _ shape: Shape, _ path: String) -> Node? {
    switch shape {
    case .leaf(let leaf): return scalar(node, leaf, path)
    case .list(let element): return list(node, element, path)
    case .oneOrList(let element):
      if node.sequence != nil { return list(node, element, path) }
      return check(node, element, path).map { Node(mark: node.mark, content: .sequence([$0]), isImplicit: true) }
    case .map(let element):
      return entries(node, path) { entry in check(entry.value, element, child(path, entry.key)) }
    case .record(let keys): return record(node, keys, path)
    case .variants(let common, let kinds):
      return entries(node, path) { entry in
        if let kind = kinds.first(where: { $0.name == entry.key }), !kind.isSupported, isDirect(entry, kinds) {
          reportPlanned(entry, child(path, entry.key))
          return nil
        }
        return check(normalized(entry, common, kinds), .record(common + kinds), child(path, entry.key))
      }
    case .leafOr(let leaf, let other):
      return node.scalar != nil ? scalar(node, leaf, path) : check(node, other, path)
    }
  }

  private func child(_ path: String, _ key: String) -> String { path.isEmpty ? key : "\(path).\(key)" }

  private func name(_ path: String) -> String { path.isEmpty ? "the file" : "`\(path)`" }

  // MARK: single values

  private func scalar(_ node: Node, _ leaf: Leaf, _ path: String) -> Node? {
    guard var scalar = node.scalar else {
      report.error(node.mark, "\(name(path)) takes a single value, not \(node.kind)", "write \(leaf.example)")
      return nil
    }
    if scalar.isNull {
      report.error(node.mark, "\(name(path)) has no value", "write \(leaf.example), or remove the key")
      return nil
    }
    do throws(SecretTemplate.Problem) {
      scalar.template = try expand(&scalar, leaf)
    } catch {
      let shift =
        scalar.isQuoted || scalar.raw.contains("\n") ? (scalar.raw.contains("\n") ? 0 : error.offset + 1) : error.offset
      var mark = node.mark
      mark.column += shift
      report.error(mark, "\(name(path)): \(error.message)", error.wayOut)
      return nil
    }
    guard let text = scalar.text else {
      if leaf.takesSecrets { return Node(mark: node.mark, content: .scalar(scalar)) }
      let first = scalar.template.references.first?.description ?? ""
      report.error(
        node.mark, "\(name(path)) cannot hold a secret (`\(first)`)",
        "secrets may stand in app.env, inject, secrets.files, and the credentials of sinks and stores")
      return nil
    }
    if let refusal = leaf.refusal(text, shown: scalar.raw) {
      report.error(node.mark, "\(name(path)): \(refusal.message)", refusal.wayOut)
      return nil
    }
    return Node(mark: node.mark, content: .scalar(scalar))
  }

  private func expand(_ scalar: inout Node.Scalar, _ leaf: Leaf) throws(SecretTemplate.Problem) -> SecretTemplate {
    guard scalar.raw.contains("${") else { return SecretTemplate(literal: scalar.raw) }
    var used: [String] = []
    let isRecordText = if case .recordText = leaf { true } else { false }
    let template = try SecretTemplate.parse(scalar.raw) { name in
      if isRecordText, name.contains(where: \.isLowercase) { return .verbatim }
      guard let value = environment[name] else { return .unset }
      used.append(name)
      return .value(value)
    }
    scalar.variables = used
    return template
  }

  // MARK: lists and maps

  private func list(_ node: Node, _ element: Shape, _ path: String) -> Node? {
    if node.isNull { return Node(mark: node.mark, content: .sequence([])) }
    guard let nodes = node.sequence else {
      report.error(node.mark, "\(name(path)) is a list, not \(node.kind)", listHelp(node, path))
      return nil
    }
    let checked = nodes.enumerated().compactMap { check($1, element, "\(path)[\($0)]") }
    return Node(mark: node.mark, content: .sequence(checked))
  }

  private func listHelp(_ node: Node, _ path: String) -> String {
    let key = path.split(separator: ".").last.map(String.init) ?? path
    guard let scalar = node.scalar else { return "write `\(key): [a, b]`" }
    let words = scalar.raw.split(whereSeparator: { $0 == " " || $0 == "\n" }).prefix(20).map {
      PlainText.yaml(String($0))
    }
    return "write it as a list: `\(key): [\(words.joined(separator: ", "))]`"
  }

  private func entries(_ node: Node, _ path: String, _ value: (Node.Entry) -> Node?) -> Node? {
    if node.isNull { return Node(mark: node.mark, content: .mapping([])) }
    guard let entries = node.mapping else {
      report.error(node.mark, "\(name(path)) is a map, not \(node.kind)", "write `NAME: …` below it, indented")
      return nil
    }
    var checked: [Node.Entry] = []
    for entry in entries {
      if entry.key.isEmpty || entry.key.utf8.contains(where: { $0 < 0x20 || $0 == 0x7F }) {
        report.error(
          entry.keyMark, "a name in \(name(path)) is empty or holds control characters", "give it a plain name")
      } else if let value = value(entry) {
        checked.append(Node.Entry(key: entry.key, keyMark: entry.keyMark, value: value))
      }
    }
    return Node(mark: node.mark, content: .mapping(checked))
  }

  private func record(_ node: Node, _ keys: [Key], _ path: String) -> Node? {
    if node.isNull { return record(Node(mark: node.mark, content: .mapping([])), keys, path) }
    guard let entries = node.mapping else {
      let known = keys.filter(\.isSupported).map(\.name).prefix(8).joined(separator: ", ")
      report.error(node.mark, "\(name(path)) is a map, not \(node.kind)", "write `KEY: VALUE`; keys are \(known)")
      return nil
    }
    var checked: [Node.Entry] = []
    for entry in entries {
      let full = entry.value.isImplicit ? path : child(path, entry.key)
      guard let key = keys.first(where: { $0.name == entry.key }) else {
        unknown(entry, keys, path)
        continue
      }
      guard key.isSupported else {
        reportPlanned(entry, full)
        continue
      }
      if case .leaf = key.shape {} else if entry.value.isNull, !key.isVariant, !key.isStrict { continue }
      if let value = check(entry.value, key.shape, full) {
        checked.append(Node.Entry(key: entry.key, keyMark: entry.keyMark, value: value))
      }
    }
    for key in keys where key.isRequired && !entries.contains(where: { $0.key == key.name }) {
      report.error(node.mark, "\(name(path)) needs `\(key.name)`", "add `\(key.name): …`. \(key.summary)")
    }
    return Node(mark: node.mark, content: .mapping(checked), isImplicit: node.isImplicit)
  }

  private func reportPlanned(_ entry: Node.Entry, _ path: String) {
    report.error(entry.keyMark, "`\(path)` is part of the contract but not in this version", "remove it")
  }

  private func unknown(_ entry: Node.Entry, _ keys: [Key], _ path: String) {
    let near = Suggestion.nearest(to: entry.key, among: keys.map(\.name)).map { "did you mean `\($0)`? " } ?? ""
    let known = keys.filter(\.isSupported).map(\.name).joined(separator: ", ")
    let place = path.isEmpty ? "" : " in `\(path)`"
    let list = known.isEmpty ? "it takes no keys" : "known keys: \(known)"
    report.error(entry.keyMark, "unknown key `\(PlainText.shown(entry.key))`\(place)", near + list)
  }

  /// A store or sink that is named as its kind may hold the kind's keys directly.
  private func normalized(_ entry: Node.Entry, _ common: [Key], _ kinds: [Key]) -> Node {
    guard let kind = kinds.first(where: { $0.name == entry.key }), kind.isSupported else { return entry.value }
    let entries = entry.value.isNull ? [] : entry.value.mapping
    guard let entries, isDirect(entry, kinds) else { return entry.value }
    let isCommon: (Node.Entry) -> Bool = { inner in common.contains { $0.name == inner.key } }
    let own = Node(mark: entry.value.mark, content: .mapping(entries.filter { !isCommon($0) }), isImplicit: true)
    let moved = Node.Entry(key: kind.name, keyMark: entry.keyMark, value: own)
    return Node(mark: entry.value.mark, content: .mapping([moved] + entries.filter(isCommon)))
  }

  /// No kind's key stands in it.
  private func isDirect(_ entry: Node.Entry, _ kinds: [Key]) -> Bool {
    !(entry.value.mapping ?? []).contains { inner in
      kinds.contains { $0.name == inner.key } && inner.value.scalar.map(\.isNull) != false
    }
  }
}

extension Key {
  /// An empty map that still says something: `env:` as a store, `console:` as a sink.
  var isVariant: Bool {
    KeyTable.storeKinds.contains { $0.name == name } || KeyTable.sinkKinds.contains { $0.name == name }
  }
}
