package import RegularExpressions

/// What takes the place of each match: text, and `\0` to `\9` for the match and its groups, `\\` for a backslash
/// (the notation of RE2 and Envoy).
package struct Substitution: Sendable, Equatable {
  package struct Invalid: Error {
    package var reason: String
  }
  enum Piece: Sendable, Equatable {
    case text([UInt8])
    case group(Int)
  }

  /// As written.
  package let text: String
  let pieces: [Piece]

  /// `groups` is how many the expression has.
  package init(_ text: String, groups: Int) throws(Invalid) {
    var pieces: [Piece] = []
    var plain: [UInt8] = []
    var isEscape = false
    for octet in text.utf8 {
      guard isEscape else {
        if octet == 0x5C {
          isEscape = true
          continue
        }
        guard octet > 0x20, octet < 0x7F, octet != 0x3F, octet != 0x23 else {
          throw Invalid(reason: "it may hold no spaces, `?`, `#`, controls or letters beyond ASCII")
        }
        plain.append(octet)
        continue
      }
      isEscape = false
      if octet == 0x5C {
        plain.append(octet)
        continue
      }
      guard octet &- 0x30 < 10 else { throw Invalid(reason: "behind `\\` stands neither a digit nor `\\`") }
      let group = Int(octet) - 0x30
      guard group <= groups else {
        throw Invalid(reason: "there is no group \(group); the expression has \(groups == 0 ? "none" : "\(groups)")")
      }
      if !plain.isEmpty { pieces.append(.text(plain)) }
      plain = []
      pieces.append(.group(group))
    }
    if isEscape { throw Invalid(reason: "it ends with `\\`") }
    if !plain.isEmpty { pieces.append(.text(plain)) }
    self.text = text
    self.pieces = pieces
  }
}

/// `rewrite.regex`: every match in the path is substituted; the query stays.
package struct RegexRewrite: Sendable, Equatable {
  /// A path with more matches is not rewritten.
  package static let mostMatches = 32
  /// Nor is one that would become longer.
  package static let longest = 16 << 10

  package let expression: RegularExpression
  package let substitution: Substitution

  package init(_ expression: RegularExpression, _ substitution: Substitution) {
    self.expression = expression
    self.substitution = substitution
  }

  /// The new target, which begins with `/`. `target` is the path of `pathCount` octets with its query; nil = it would
  /// cost too much.
  package func apply(
    _ target: UnsafeRawBufferPointer, pathCount: Int, _ scratch: RouteScratch
  ) -> [UInt8]? {
    let path = UnsafeRawBufferPointer(rebasing: target[..<pathCount])
    var result: [UInt8] = []
    result.reserveCapacity(target.count + 64)
    var position = 0
    var search = 0
    var matches = 0
    while search <= path.count {
      guard matches <= Self.mostMatches else { return nil }
      switch expression.match(path, from: search, scratch.workspace) {
      case .exceeded: return nil
      case .missed: search = path.count + 1
      case .matched:
        guard let whole = scratch.workspace.group(0), whole.lowerBound >= position else { return nil }
        matches += 1
        result += path[position..<whole.lowerBound]
        for piece in substitution.pieces {
          switch piece {
          case .text(let text): result += text
          case .group(let index): if let range = scratch.workspace.group(index) { result += path[range] }
          }
        }
        position = whole.upperBound
        // An empty match is not found again at its place.
        search = whole.isEmpty ? whole.upperBound + 1 : whole.upperBound
        guard result.count <= Self.longest else { return nil }
      }
    }
    result += path[min(position, path.count)...]
    if result.first != 0x2F { result.insert(0x2F, at: 0) }
    return result + target[pathCount...]
  }
}

/// `rewrite.prefix`: what matched of the path gives way to other text; the query stays.
package struct PrefixRewrite: Sendable, Equatable {
  /// How many octets of the path matched.
  package let from: Int
  package let to: [UInt8]

  /// `path` is what the route matches by.
  package init(_ path: RouteConfiguration.Match.Path, to text: String) {
    from =
      switch path {
      case .any, .regex: 0
      case .exact(let path): path.utf8.count
      case .prefix(let path): path.utf8.count
      }
    to = Array(text.utf8)
  }

  /// What is left of the target behind `to`; `pathCount` as in `RegexRewrite.apply`.
  @inlinable
  package func rest(_ target: UnsafeRawBufferPointer, pathCount: Int) -> UnsafeRawBufferPointer {
    UnsafeRawBufferPointer(rebasing: target[min(from, pathCount)...])
  }
}
