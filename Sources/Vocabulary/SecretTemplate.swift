/// A named secret's field, as written `${secrets.NAME.FIELD}` or `${secrets.NAME.FIELD|filter|filter}`.
package struct SecretReference: Sendable, Hashable, CustomStringConvertible {
  package var name: String
  package var field: String
  /// In order of application: `base64d`, `json`, `urlencode`, `trim`, `upper`.
  package var filters: [String]

  package init(name: String, field: String, filters: [String] = []) {
    self.name = name
    self.field = field
    self.filters = filters
  }

  /// The reference as written; never the value.
  package var description: String {
    "${secrets.\(name).\(field)\(filters.map { "|" + $0 }.joined())}"
  }
}

/// Text that may refer to secrets. Printing it shows references, never values.
package struct SecretTemplate: Sendable, Hashable, CustomStringConvertible {
  package enum Part: Sendable, Hashable {
    case literal(String)
    case secret(SecretReference)
  }

  package var parts: [Part]

  package init(parts: [Part]) { self.parts = parts }
  package init(literal: String) { parts = literal.isEmpty ? [] : [.literal(literal)] }

  package var references: [SecretReference] {
    parts.compactMap { if case .secret(let reference) = $0 { reference } else { nil } }
  }

  /// The text when it refers to no secret, else nil.
  package var literal: String? {
    var text = ""
    for part in parts {
      guard case .literal(let piece) = part else { return nil }
      text += piece
    }
    return text
  }

  package var description: String {
    parts.map {
      if case .literal(let text) = $0 { text } else if case .secret(let r) = $0 { r.description } else { "" }
    }
    .joined()
  }
}
