import Vocabulary

/// Where in which file; line and column count from 1, columns in characters.
package struct Mark: Sendable, Hashable {
  /// An index into the files read.
  package var file: Int
  package var line: Int
  package var column: Int
}

/// A node of a configuration file, with its place.
struct Node: Sendable {
  enum Content: Sendable {
    case scalar(Scalar)
    case sequence([Node])
    case mapping([Entry])
  }

  struct Scalar: Sendable {
    /// As written, without quotes.
    var raw: String
    /// Quoted, block or tagged `!!str`: never null.
    var isQuoted: Bool
    /// After environment expansion; secrets are still references. Set by the check against the key table.
    var template: SecretTemplate
    /// Names of environment variables that gave a part of the text.
    var variables: [String] = []

    init(raw: String, isQuoted: Bool) {
      self.raw = raw
      self.isQuoted = isQuoted
      template = SecretTemplate(literal: raw)
    }

    var isNull: Bool { !isQuoted && ["", "~", "null", "Null", "NULL"].contains(raw) }
    /// The text after expansion; nil when it refers to secrets.
    var text: String? { template.literal }
  }

  struct Entry: Sendable {
    var key: String
    var keyMark: Mark
    var value: Node
  }

  var mark: Mark
  var content: Content
  /// A list of one that was written without brackets, or a kind's keys written directly under the kind's name: messages
  /// speak of it by its parent's path.
  var isImplicit = false

  var scalar: Scalar? { if case .scalar(let scalar) = content { scalar } else { nil } }
  var sequence: [Node]? { if case .sequence(let nodes) = content { nodes } else { nil } }
  var mapping: [Entry]? { if case .mapping(let entries) = content { entries } else { nil } }
  var isNull: Bool { scalar?.isNull ?? false }

  subscript(key: String) -> Node? { mapping?.first { $0.key == key }?.value }

  /// What it is, for messages.
  var kind: String {
    switch content {
    case .scalar(let scalar): scalar.isNull ? "nothing" : "a single value"
    case .sequence: "a list"
    case .mapping: "a map"
    }
  }
}
