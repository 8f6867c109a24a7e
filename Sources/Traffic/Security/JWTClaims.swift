package import Vocabulary

/// Reading claims (RFC 7519 section 4).
package enum JWTClaims {
  /// The claim of that name; where there is none, names between dots lead into objects (`realm_access.roles`).
  package static func find(_ name: String, in claims: JSONNode) -> JSONNode? {
    if let found = claims[name] { return found }
    var node = claims
    for part in name.split(separator: ".") {
      guard let next = node[String(part)] else { return nil }
      node = next
    }
    return name.contains(".") ? node : nil
  }

  /// What of a claim can be compared: a scalar's text, those of a list, and the words of a `scope` (RFC 8693 section 4.2).
  package static func texts(_ node: JSONNode, of name: String) -> [String] {
    switch node {
    case .array(let items): items.flatMap { texts($0, of: "") }
    case .string(let text) where name == "scope" || name == "scp": text.split(separator: " ").map(String.init)
    case .string, .hidden, .number, .bool: [node.text]
    case .null, .object: []
    }
  }

  /// Seconds since 1970 of a NumericDate (RFC 7519 section 2), fractions cut off; nil for anything else.
  package static func date(_ node: JSONNode) -> Int64? {
    guard case .number(let text) = node, text.utf8.count <= 32, let number = Double(text), abs(number) < 1e15 else {
      return nil
    }
    return Int64(number.rounded(.down))
  }
}
