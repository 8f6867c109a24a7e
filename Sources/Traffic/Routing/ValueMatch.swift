package import RegularExpressions

/// What the value of a field or of a query parameter must be.
package struct ValueMatch: Sendable, Equatable {
  package enum Kind: Sendable, Equatable {
    case exact(String)
    case prefix(String)
    case suffix(String)
    case contains(String)
    /// Of the whole value.
    case regex(RegularExpression)
    /// Any value at all.
    case present
  }
  package var kind: Kind
  /// It must not be that; a value that is absent is not.
  package var isNegated: Bool

  package init(_ kind: Kind, isNegated: Bool = false) {
    self.kind = kind
    self.isNegated = isNegated
  }
}

/// What the values of that name must be: one of them, where there are several.
package struct NamedMatch: Sendable, Equatable {
  package var name: String
  package var value: ValueMatch

  package init(_ name: String, _ value: ValueMatch) {
    self.name = name
    self.value = value
  }
  /// Exactly that value.
  package init(_ name: String, _ text: String) { self.init(name, ValueMatch(.exact(text))) }
}

extension ValueMatch: CustomStringConvertible {
  /// As the configuration writes it.
  package var description: String {
    let text =
      switch kind {
      case .exact(let text): isNegated ? "exact `\(text)`" : "`\(text)`"
      case .prefix(let text): "prefix `\(text)`"
      case .suffix(let text): "suffix `\(text)`"
      case .contains(let text): "`\(text)` in it"
      case .regex(let expression): "regex `\(expression.pattern)`"
      case .present: "any value"
      }
    return isNegated ? "not \(text)" : text
  }
}

/// A `NamedMatch` as octets.
struct CompiledMatch: Sendable {
  private enum Kind: Sendable {
    case exact, prefix, suffix, contains, present
    case regex(RegularExpression)
  }

  /// Lower case where the names of fields are meant.
  let name: [UInt8]
  let isNegated: Bool
  private let kind: Kind
  private let text: [UInt8]

  init(_ match: NamedMatch, lowercasesName: Bool) {
    name = Array((lowercasesName ? match.name.lowercased() : match.name).utf8)
    isNegated = match.value.isNegated
    switch match.value.kind {
    case .exact(let text): (kind, self.text) = (.exact, Array(text.utf8))
    case .prefix(let text): (kind, self.text) = (.prefix, Array(text.utf8))
    case .suffix(let text): (kind, self.text) = (.suffix, Array(text.utf8))
    case .contains(let text): (kind, self.text) = (.contains, Array(text.utf8))
    case .regex(let expression): (kind, text) = (.regex(expression), [])
    case .present: (kind, text) = (.present, [])
    }
  }

  var hasLimits: Bool { if case .regex = kind { true } else { false } }

  /// Without regard to `isNegated`.
  func matches(_ value: UnsafeRawBufferPointer, _ scratch: RouteScratch) -> RegularExpression.Outcome {
    let isMatch: Bool
    switch kind {
    case .exact: isMatch = value.elementsEqual(text)
    case .prefix: isMatch = value.starts(with: text)
    case .suffix: isMatch = value.count >= text.count && value.suffix(text.count).elementsEqual(text)
    case .contains: isMatch = contains(value)
    case .present: isMatch = true
    case .regex(let expression): return expression.match(value, scratch.workspace)
    }
    return isMatch ? .matched : .missed
  }

  private func contains(_ value: UnsafeRawBufferPointer) -> Bool {
    guard let first = text.first else { return true }
    var start = 0
    while start + text.count <= value.count {
      if value[start] == first, value[start..<start + text.count].elementsEqual(text) { return true }
      start += 1
    }
    return false
  }
}
