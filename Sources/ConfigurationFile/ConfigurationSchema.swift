/// The key table as JSON Schema, draft 2020-12: what this version accepts, for editors.
package enum ConfigurationSchema {
  package static func json() -> String {
    var root = object(KeyTable.root)
    root.insert(("$schema", .string("https://json-schema.org/draft/2020-12/schema")), at: 0)
    root.insert(("title", .string("Outrider configuration")), at: 1)
    var shared = SharedParts()
    shared.count(.object(root))
    let body = shared.replace(.object(root), isRoot: true)
    guard case .object(let entries) = body else { return "" }
    return JSONText.object(entries + [("$defs", .object(shared.definitions))]).pretty() + "\n"
  }

  private static func object(_ keys: [Key]) -> [(String, JSONText)] {
    let known = keys.filter(\.isSupported)
    var result: [(String, JSONText)] = [
      ("type", .array([.string("object"), .string("null")])),
      ("properties", .object(known.map { ($0.name, property($0)) })),
      ("additionalProperties", .bool(false)),
    ]
    let required = known.filter(\.isRequired).map { JSONText.string($0.name) }
    if !required.isEmpty { result.append(("required", .array(required))) }
    return result
  }

  private static func property(_ key: Key) -> JSONText {
    var text = key.summary
    if let value = key.defaultText { text += " Default: \(value)" }
    return .object([("description", .string(text))] + schema(key.shape))
  }

  private static func schema(_ shape: Shape) -> [(String, JSONText)] {
    switch shape {
    case .leaf(let leaf): return leafSchema(leaf)
    case .list(let element):
      return [("type", .array([.string("array"), .string("null")])), ("items", .object(schema(element)))]
    case .oneOrList(let element):
      return [
        (
          "anyOf",
          .array([
            .object(schema(element)), .object([("type", .string("array")), ("items", .object(schema(element)))]),
          ])
        )
      ]
    case .map(let element):
      return [
        ("type", .array([.string("object"), .string("null")])), ("additionalProperties", .object(schema(element))),
      ]
    case .record(let keys): return object(keys)
    case .variants(let common, let kinds): return variants(common, kinds)
    case .leafOr(let leaf, let other):
      return [("anyOf", .array([.object(leafSchema(leaf)), .object(schema(other))]))]
    }
  }

  private static func variants(_ common: [Key], _ kinds: [Key]) -> [(String, JSONText)] {
    let general = JSONText.object(object(kinds + common))
    let named = kinds.filter(\.isSupported).map { kind -> (String, JSONText) in
      guard case .record(let keys) = kind.shape else { return (kind.name, general) }
      return (kind.name, .object([("anyOf", .array([.object(object(keys + common)), general]))]))
    }
    return [
      ("type", .array([.string("object"), .string("null")])), ("properties", .object(named)),
      ("additionalProperties", general),
    ]
  }

  private static let variable = JSONText.object([("type", .string("string")), ("pattern", .string("\\$\\{"))])

  private static func pattern(_ text: String) -> JSONText {
    .object([("type", .string("string")), ("pattern", .string(text))])
  }

  private static func leafSchema(_ leaf: Leaf) -> [(String, JSONText)] {
    switch leaf {
    case .text, .secretText, .recordText, .path, .target, .headerName, .url, .address, .urlPath, .mode, .signal,
      .secretName, .pathOrSecret, .peerName:
      let types = ["string", "number", "boolean"].map { JSONText.string($0) }
      return [("type", leaf.isPlainText ? .array(types) : .array(Array(types.prefix(2))))]
    default: return [("anyOf", .array(alternatives(leaf) + [variable]))]
    }
  }

  private static func alternatives(_ leaf: Leaf) -> [JSONText] {
    switch leaf {
    case .duration: return [.object([("const", .int(0))]), pattern("^(0|[0-9]+(ms|s|m|h))$")]
    case .interval: return [pattern("^[0-9]+(ms|s|m|h)$")]
    case .size: return [.object([("type", .string("integer"))]), pattern("^[0-9]+(B|KiB|MiB|GiB)?$")]
    case .integer(let range):
      return [
        .object([
          ("type", .string("integer")), ("minimum", .int(range.lowerBound)), ("maximum", .int(range.upperBound)),
        ]),
        pattern("^[0-9]+$"),
      ]
    case .fraction:
      return [
        .object([("type", .string("number")), ("minimum", .int(0)), ("maximum", .int(1))]), pattern("^[0-9.]+%?$"),
      ]
    case .boolean:
      return [
        .object([("type", .string("boolean"))]), .object([("enum", .array([.string("true"), .string("false")]))]),
      ]
    case .choice(let words, _): return [.object([("enum", .array(words.flatMap(values)))])]
    case .word(let words, let other): return [.object([("enum", .array(words.flatMap(values)))])] + alternatives(other)
    default: return [.object([("type", .string("string"))])]
    }
  }

  /// `301` and `true` may be written with or without quotes.
  private static func values(_ word: String) -> [JSONText] {
    if let number = Int(word) { return [.string(word), .int(number)] }
    if word == "true" || word == "false" { return [.string(word), .bool(word == "true")] }
    return [.string(word)]
  }
}

extension Leaf {
  fileprivate var isPlainText: Bool {
    switch self {
    case .text, .secretText, .recordText: true
    default: false
    }
  }
}

/// A JSON value that keeps the order of its keys.
indirect enum JSONText {
  case string(String)
  case int(Int)
  case number(Double)
  case bool(Bool)
  case array([JSONText])
  case object([(String, JSONText)])

  func pretty(_ indent: Int = 0) -> String {
    let margin = String(repeating: "  ", count: indent + 1)
    let end = String(repeating: "  ", count: indent)
    switch self {
    case .string(let text): return PlainText.json(text)
    case .int(let number): return "\(number)"
    case .number(let number): return "\(number)"
    case .bool(let flag): return flag ? "true" : "false"
    case .array(let values):
      let inner = values.map { $0.pretty(indent + 1) }
      if inner.joined().utf8.count < 80, !inner.contains(where: { $0.contains("\n") }) {
        return "[\(inner.joined(separator: ", "))]"
      }
      return "[\n" + inner.map { margin + $0 }.joined(separator: ",\n") + "\n\(end)]"
    case .object(let entries):
      if entries.isEmpty { return "{}" }
      let inner = entries.map { "\(margin)\(PlainText.json($0.0)): \($0.1.pretty(indent + 1))" }
      return "{\n" + inner.joined(separator: ",\n") + "\n\(end)}"
    }
  }
}

/// Moves large parts that occur more than once to `$defs`, which keeps the schema small.
private struct SharedParts {
  private var counts: [String: Int] = [:]
  private var names: [String: String] = [:]
  private(set) var definitions: [(String, JSONText)] = []

  mutating func count(_ value: JSONText) {
    switch value {
    case .object(let entries):
      if let text = Self.key(value) { counts[text, default: 0] += 1 }
      for entry in entries { count(entry.1) }
    case .array(let values): for value in values { count(value) }
    default: break
    }
  }

  mutating func replace(_ value: JSONText, isRoot: Bool = false) -> JSONText {
    switch value {
    case .array(let values): return .array(values.map { replace($0) })
    case .object(let entries):
      guard !isRoot, let text = Self.key(value), (counts[text] ?? 0) > 1 else {
        return .object(entries.map { ($0.0, replace($0.1)) })
      }
      if let name = names[text] { return Self.reference(name) }
      let inner = JSONText.object(entries.map { ($0.0, replace($0.1)) })
      let name = "part\(definitions.count + 1)"
      names[text] = name
      definitions.append((name, inner))
      return Self.reference(name)
    default: return value
    }
  }

  private static func reference(_ name: String) -> JSONText { .object([("$ref", .string("#/$defs/\(name)"))]) }

  /// nil = not a schema of its own, or too small to be worth a name.
  private static func key(_ value: JSONText) -> String? {
    guard case .object(let entries) = value, let first = entries.first?.0,
      ["type", "anyOf", "description"].contains(first)
    else { return nil }
    let text = value.pretty()
    return text.utf8.count > 300 ? text : nil
  }
}
