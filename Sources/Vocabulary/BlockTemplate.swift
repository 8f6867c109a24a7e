/// A template with `{{ … }}` blocks in the form that Vault Agent users know: a subset of Go's text/template with the
/// functions of consul-template that are really in use. Literal text may hold `${secrets.NAME.FIELD}` besides.
///
/// What is outside the subset is an error with line and column when the template is read, never at render.
package struct BlockTemplate: Sendable, Equatable {
  /// From 1; columns in characters.
  package struct Place: Sendable, Hashable {
    package var line: Int
    package var column: Int
  }

  /// What is wrong, where, and the way out.
  package struct Problem: Error, Sendable, Equatable, CustomStringConvertible {
    package var place: Place
    package var message: String
    package var wayOut: String
    package init(place: Place, message: String, wayOut: String) {
      self.place = place
      self.message = message
      self.wayOut = wayOut
    }

    package var description: String { "line \(place.line), column \(place.column): \(message); \(wayOut)" }
  }

  /// A call of `secret` or `pkiCert` with what it asks for, all literal.
  package struct Source: Sendable, Hashable {
    /// As written, without slashes at its ends.
    package var path: String
    /// `key=value` arguments.
    package var arguments: [String]
    package var isCertificate: Bool
    package var place: Place

    /// The same for calls that ask for the same.
    package var key: String { ([path] + arguments.sorted()).joined(separator: "\n") }

    package func value(of key: String) -> String? {
      arguments.first { $0.hasPrefix(key + "=") }.map { String($0.dropFirst(key.count + 1)) }
    }
  }

  indirect enum Node: Sendable, Equatable {
    case text(SecretTemplate)
    case output(Pipeline)
    /// `isNew`: with `:=`.
    case assign(String, Pipeline, isNew: Bool)
    /// `if` and `with`, which sets the dot.
    case branch(Branch)
    case range(Range)
  }

  struct Branch: Sendable, Equatable {
    var isWith: Bool
    var variable: String?
    var condition: Pipeline
    var then: [Node]
    var otherwise: [Node]
  }

  struct Range: Sendable, Equatable {
    var key: String?
    var value: String?
    var list: Pipeline
    var body: [Node]
    var otherwise: [Node]
  }

  struct Pipeline: Sendable, Equatable {
    var commands: [Command]
  }

  struct Command: Sendable, Equatable {
    var words: [Operand]
    var place: Place
  }

  struct Operand: Sendable, Equatable {
    indirect enum Base: Sendable, Equatable {
      case dot
      case variable(String)
      case string(String)
      case number(Int)
      case bool(Bool)
      case function(String)
      case pipeline(Pipeline)
    }
    var base: Base
    var fields: [String] = []
    var place: Place
  }

  let nodes: [Node]
  /// Every `secret` and `pkiCert` call, in order.
  package let sources: [Source]
  /// Every `${secrets.NAME.FIELD}`.
  package let references: [SecretReference]

  /// Whether the text holds blocks at all.
  package static func isNeeded(for text: String) -> Bool { text.contains("{{") }

  /// `variable` is what `${NAME}` stands for in literal text.
  package init(
    parsing text: String, variable: (String) -> SecretTemplate.Variable = { _ in .unset }
  ) throws(Problem) {
    var parser = BlockTemplateParser(text)
    nodes = try parser.parse(variable)
    sources = parser.sources
    references = parser.references
  }
}

/// What a template computes with.
package indirect enum TemplateValue: Sendable, Equatable {
  /// A field that is not there: false in conditions, an error anywhere else.
  case missing(String)
  case string([UInt8])
  case number(Int)
  case bool(Bool)
  case list([TemplateValue])
  /// Sorted by key.
  case map([Entry])

  package struct Entry: Sendable, Equatable {
    package var key: String
    package var value: TemplateValue
    package init(_ key: String, _ value: TemplateValue) {
      self.key = key
      self.value = value
    }
  }

  package static func text(_ text: String) -> TemplateValue { .string(Array(text.utf8)) }

  /// Zeroes every text in it, for every holder.
  package func erase() {
    switch self {
    case .string(let bytes): bytes.erase()
    case .list(let items): for item in items { item.erase() }
    case .map(let entries): for entry in entries { entry.value.erase() }
    case .missing, .number, .bool: break
    }
  }

  /// Text/template's idea: empty is false.
  var isTrue: Bool {
    switch self {
    case .missing: false
    case .string(let bytes): !bytes.isEmpty
    case .number(let number): number != 0
    case .bool(let flag): flag
    case .list(let items): !items.isEmpty
    case .map(let entries): !entries.isEmpty
    }
  }

  subscript(_ key: String) -> TemplateValue? {
    guard case .map(let entries) = self else { return nil }
    return entries.first { $0.key == key }?.value
  }
}
