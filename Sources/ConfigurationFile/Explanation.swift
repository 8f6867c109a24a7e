import Vocabulary

/// The effective configuration, each value with where it came from. Secrets are references or hidden.
package struct Explanation: Sendable {
  struct Leaf: Sendable {
    /// As YAML writes it in one line.
    var text: String
    /// `default`, `FILE:LINE:COL`, `command line`, `--state`.
    var origin: String
  }

  indirect enum Value: Sendable {
    case leaf(Leaf)
    case map([(key: String, value: Value)])
    case list([Value])
  }

  var root: Value

  /// YAML that may be loaded again, with origins as comments.
  func yaml() -> String {
    var lines: [String] = []
    Self.write(root, indent: 0, into: &lines)
    return lines.joined(separator: "\n") + "\n"
  }

  /// A list of `{ path, value, origin }`.
  func json() -> String {
    var rows: [String] = []
    Self.collect(root, "", &rows)
    return "[\n" + rows.joined(separator: ",\n") + "\n]\n"
  }

  private static func write(_ value: Value, indent: Int, into lines: inout [String]) {
    let margin = String(repeating: "  ", count: indent)
    switch value {
    case .leaf(let leaf): lines.append("\(margin)\(leaf.text)  # \(leaf.origin)")
    case .map(let entries):
      for (key, value) in entries {
        switch value {
        case .leaf(let leaf): lines.append("\(margin)\(PlainText.yaml(key)): \(leaf.text)  # \(leaf.origin)")
        case .map(let inner) where inner.isEmpty: lines.append("\(margin)\(PlainText.yaml(key)): {}")
        default:
          lines.append("\(margin)\(PlainText.yaml(key)):")
          write(value, indent: indent + 1, into: &lines)
        }
      }
    case .list(let values):
      for value in values {
        var inner: [String] = []
        write(value, indent: indent + 1, into: &inner)
        if inner.isEmpty { inner = ["\(margin)  {}"] }
        inner[0] = "\(margin)- " + inner[0].dropFirst(margin.count + 2)
        lines += inner
      }
    }
  }

  private static func collect(_ value: Value, _ path: String, _ rows: inout [String]) {
    switch value {
    case .leaf(let leaf):
      rows.append(
        "  {\"path\": \(PlainText.json(path)), \"value\": \(PlainText.json(leaf.text)), "
          + "\"origin\": \(PlainText.json(leaf.origin))}")
    case .map(let entries):
      for (key, value) in entries { collect(value, path.isEmpty ? key : "\(path).\(key)", &rows) }
    case .list(let values):
      for (index, value) in values.enumerated() { collect(value, "\(path)[\(index)]", &rows) }
    }
  }
}

extension LoadedConfiguration {
  /// The effective configuration with every default and where each value came from; secrets are shown as references.
  package func explain(json: Bool) -> String { json ? explanation.json() : explanation.yaml() }
}

/// Walks the key table and the checked tree together.
struct ExplanationBuilder {
  let report: ProblemReport
  let overrides: [String: Explanation.Leaf]
  let implied: [String: [String]]

  func build(_ tree: Node?) -> Explanation {
    Explanation(root: .map(record(tree, KeyTable.root, "")))
  }

  private func record(_ node: Node?, _ keys: [Key], _ path: String, impliedKind: String? = nil) -> [(
    key: String, value: Explanation.Value
  )] {
    var entries: [(key: String, value: Explanation.Value)] = []
    for key in keys where key.isSupported {
      let full = path.isEmpty ? key.name : "\(path).\(key.name)"
      if let leaf = overrides[full] {
        entries.append((key.name, .leaf(leaf)))
      } else if let child = node?[key.name] {
        entries.append((key.name, value(child, key.shape, full, isSensitive: key.isSensitive)))
      } else if let companion = key.companion, node?[companion] == nil {
        continue
      } else if let text = key.defaultText {
        entries.append((key.name, .leaf(Explanation.Leaf(text: text, origin: "default"))))
      } else if key.isAlways || key.name == impliedKind || implied[full]?.isEmpty == false {
        entries.append((key.name, value(nil, key.shape, full, isSensitive: false)))
      }
    }
    return entries
  }

  private func value(_ node: Node?, _ shape: Shape, _ path: String, isSensitive: Bool) -> Explanation.Value {
    switch shape {
    case .leaf(let kind):
      // What the environment put beside secrets may be one.
      if kind.takesSecrets, !isSensitive, let node, let scalar = node.scalar, !scalar.variables.isEmpty {
        return .leaf(Explanation.Leaf(text: PlainText.yaml(scalar.raw), origin: origin(node)))
      }
      return .leaf(leaf(node, isSensitive))
    case .leafOr(_, let other):
      return node?.scalar != nil ? .leaf(leaf(node, isSensitive)) : value(node, other, path, isSensitive: isSensitive)
    case .list(let element), .oneOrList(let element):
      return list(node, element, path, isSensitive)
    case .record(let keys): return .map(record(node, keys, path))
    case .map(let element):
      let own = (node?.mapping ?? []).map {
        ($0.key, value($0.value, element, "\(path).\($0.key)", isSensitive: isSensitive))
      }
      let added = (implied[path] ?? []).map { ($0, value(nil, element, "\(path).\($0)", isSensitive: false)) }
      return .map(added + own)
    case .variants(let common, let kinds):
      let keys = kinds + common
      let own = (node?.mapping ?? []).map {
        ($0.key, Explanation.Value.map(record($0.value, keys, "\(path).\($0.key)")))
      }
      let added = (implied[path] ?? []).map { name in
        (name, Explanation.Value.map(record(nil, keys, "\(path).\(name)", impliedKind: name)))
      }
      return .map(added + own)
    }
  }

  /// Lists of single values stand in one line.
  private func list(_ node: Node?, _ element: Shape, _ path: String, _ isSensitive: Bool) -> Explanation.Value {
    let nodes = node?.sequence ?? []
    if nodes.allSatisfy({ $0.scalar != nil }) {
      let texts = nodes.map { leaf($0, isSensitive).text }
      return .leaf(Explanation.Leaf(text: "[\(texts.joined(separator: ", "))]", origin: origin(nodes.first ?? node)))
    }
    return .list(nodes.enumerated().map { value($1, element, "\(path)[\($0)]", isSensitive: isSensitive) })
  }

  private func leaf(_ node: Node?, _ isSensitive: Bool) -> Explanation.Leaf {
    guard let node, let scalar = node.scalar else { return Explanation.Leaf(text: "~", origin: "default") }
    var shown: String
    if isSensitive, scalar.template.references.isEmpty, scalar.variables.isEmpty {
      shown = "(hidden)"
    } else if isSensitive {
      shown = scalar.variables.isEmpty && scalar.raw == scalar.template.description ? scalar.raw : references(scalar)
    } else if scalar.text == nil {
      shown = scalar.raw
    } else {
      shown = scalar.variables.isEmpty ? scalar.raw : scalar.text ?? scalar.raw
      if !scalar.variables.isEmpty {
        shown = shown.split(separator: "${", omittingEmptySubsequences: false).joined(separator: "$${")
      }
    }
    return Explanation.Leaf(text: PlainText.yaml(shown), origin: origin(node))
  }

  /// What was written, with everything but references hidden.
  private func references(_ scalar: Node.Scalar) -> String {
    let variables = scalar.variables.map { "${\($0)}" }
    let names = scalar.template.references.map(\.description) + variables
    return names.count == 1 && scalar.raw == names[0] ? scalar.raw : "(hidden) " + names.joined(separator: " ")
  }

  private func origin(_ node: Node?) -> String {
    guard let node else { return "default" }
    let variables = node.scalar?.variables ?? (node.sequence ?? []).flatMap { $0.scalar?.variables ?? [] }
    let suffix = variables.isEmpty ? "" : ", environment \(variables.joined(separator: ", "))"
    return report.place(node.mark) + suffix
  }
}
