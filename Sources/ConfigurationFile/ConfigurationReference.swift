/// The key table as Markdown, for docs/configuration.md.
package enum ConfigurationReference {
  package static func markdown() -> String {
    var sections: [String] = []
    write("(top level)", KeyTable.root, into: &sections)
    return sections.joined(separator: "\n")
  }

  private static func write(_ title: String, _ keys: [Key], into sections: inout [String]) {
    var text = "### \(title == "(top level)" ? title : "`\(title)`")\n\n"
    let known = keys.filter(\.isSupported)
    if known.isEmpty { text += "Takes no keys.\n" }
    if !known.isEmpty {
      text += "| Key | Value | Default | Meaning |\n| --- | --- | --- | --- |\n"
      for key in known {
        let value = key.isRequired ? "required" : key.defaultText.map { "`\($0)`" } ?? ""
        text += "| `\(key.name)` | \(key.shape.text) | \(value) | \(key.summary) |\n"
      }
    }
    let planned = keys.filter { !$0.isSupported }.map { "`\($0.name)`" }
    if !planned.isEmpty { text += "\nNot in this version: \(planned.joined(separator: ", ")).\n" }
    sections.append(text)
    let base = title == "(top level)" ? "" : title + "."
    for key in known { nested(base + key.name, key.shape, into: &sections) }
  }

  private static func nested(_ path: String, _ shape: Shape, into sections: inout [String]) {
    if path == "outbound" {
      sections.append("### `outbound`\n\nListeners as in `inbound`; `to` has no default.\n")
      return
    }
    switch shape {
    case .leaf: break
    case .record(let keys): if !isShown(path) { write(path, keys, into: &sections) }
    case .map(let element): nested(path + ".NAME", element, into: &sections)
    case .list(let element), .oneOrList(let element): nested(path + "[]", element, into: &sections)
    case .leafOr(_, let other): nested(path, other, into: &sections)
    case .variants(let common, let kinds): write(path + ".NAME", kinds + common, into: &sections)
    }
  }

  /// Records that are the same as one shown before.
  private static func isShown(_ path: String) -> Bool {
    path.hasSuffix(".opensearch") || path.contains("routes[].retries") || path.contains("routes[].authorize")
      || path.contains("routes[].fault") || path.contains("routes[].limits") || path.contains("rbac.deny")
      || path.contains("routes[].headers")
      || path.hasSuffix("headers.response") || path == "secrets.files[].on_change" || path.hasSuffix("vault.tls")
      || path.hasSuffix("match.query.NAME")
  }
}

extension Shape {
  /// What a key takes, in a table's cell.
  fileprivate var text: String {
    switch self {
    case .leaf(let leaf): leaf.text
    case .list(let element): "list of \(element.text)"
    case .oneOrList(let element): "\(element.text), or a list"
    case .map(let element): "map of name to \(element.text)"
    case .record: "map"
    case .variants: "map of name to map"
    case .leafOr(let leaf, .record(let keys)) where !keys.contains(where: \.isSupported): leaf.text
    case .leafOr(let leaf, let other): "\(leaf.text), or \(other.text)"
    }
  }
}

extension Leaf {
  fileprivate var text: String {
    switch self {
    case .text, .recordText: "text"
    case .secretText: "text with secrets"
    case .duration: "duration"
    case .interval: "duration over 0"
    case .size: "size"
    case .integer: "number"
    case .fraction: "0 to 1, or `10%`"
    case .boolean: "`true`, `false`"
    case .choice(let words, _): words.map { "`\($0)`" }.joined(separator: ", ")
    case .address: "address"
    case .path: "path"
    case .url: "URL"
    case .target: "target"
    case .signal: "signal"
    case .secretName: "`secrets.NAME`"
    case .pathOrSecret: "path or `secrets.NAME`"
    case .peerName: "name"
    case .mode: "octal"
    case .headerName: "field name"
    case .urlPath: "URL path"
    case .word(let words, let other): words.map { "`\($0)`" }.joined(separator: ", ") + ", " + other.text
    }
  }
}
