extension SecretTemplate {
  /// Why a text is not a template: what is wrong and the way out. Offsets count characters from the text's start.
  package struct Problem: Error, Sendable, Equatable {
    package var offset: Int
    package var message: String
    package var wayOut: String
  }

  /// What `${NAME}` stands for.
  package enum Variable: Sendable, Equatable {
    case value(String)
    /// The text stays as written, braces included.
    case verbatim
    /// An error unless the text gives a default: `${NAME:-default}`.
    case unset
  }

  /// The filters that `${secrets.NAME.FIELD|filter}` may name.
  package static let filters = ["base64d", "json", "urlencode", "trim", "upper"]

  /// Parses text that may hold `${secrets.NAME.FIELD|filter}`, `${NAME}` and `${NAME:-default}`.
  ///
  /// `$${` is a literal `${`. What a variable stands for is never parsed again, so that a value from the environment
  /// cannot name a secret. FIELD may hold dots (`tls.crt`); NAME may not.
  package static func parse(
    _ text: String, variable: (String) -> Variable = { _ in .unset }
  ) throws(Problem) -> SecretTemplate {
    var parts: [Part] = []
    var literal = ""
    let characters = Array(text)
    var index = 0
    while index < characters.count {
      guard characters[index] == "$", index + 1 < characters.count else {
        literal.append(characters[index])
        index += 1
        continue
      }
      if characters[index + 1] == "$", index + 2 < characters.count, characters[index + 2] == "{" {
        literal += "${"
        index += 3
        continue
      }
      guard characters[index + 1] == "{" else {
        literal.append("$")
        index += 1
        continue
      }
      guard let end = characters[index...].firstIndex(of: "}") else {
        throw Problem(
          offset: index, message: "`${` is never closed", wayOut: "add `}`, or write `$${` for a literal `${`")
      }
      let inner = String(characters[(index + 2)..<end])
      if inner.hasPrefix("secrets.") {
        let reference = try reference(inner, at: index)
        if !literal.isEmpty { parts.append(.literal(literal)) }
        literal = ""
        parts.append(.secret(reference))
      } else {
        literal += try expand(inner, at: index, variable)
      }
      index = end + 1
    }
    if !literal.isEmpty { parts.append(.literal(literal)) }
    return SecretTemplate(parts: parts)
  }

  private static func expand(
    _ inner: String, at offset: Int, _ variable: (String) -> Variable
  ) throws(Problem) -> String {
    let name = inner.prefix { $0 == "_" || ($0.isASCII && ($0.isLetter || $0.isNumber)) }
    let rest = inner.dropFirst(name.count)
    switch variable(rest.isEmpty ? String(name) : rest.hasPrefix(":-") ? String(name) : inner) {
    case .verbatim: return "${\(inner)}"
    case .value(let value):
      if !(value.isEmpty && rest.hasPrefix(":-")) { return value }
    case .unset: break
    }
    guard let first = name.first, !first.isNumber, rest.isEmpty || rest.hasPrefix(":-") else {
      throw Problem(
        offset: offset, message: "`${\(inner)}` is neither an environment variable nor a secret",
        wayOut: "write `${NAME}`, `${NAME:-default}` or `${secrets.NAME.FIELD}`, or `$${` for a literal `${`")
    }
    guard rest.hasPrefix(":-") else {
      throw Problem(
        offset: offset, message: "the environment variable `\(name)` is not set",
        wayOut: "set it, or give a default: `${\(name):-default}`")
    }
    return String(rest.dropFirst(2))
  }

  private static func reference(_ inner: String, at offset: Int) throws(Problem) -> SecretReference {
    let pieces = inner.dropFirst("secrets.".count).split(separator: "|", omittingEmptySubsequences: false)
    let target = pieces[0].split(separator: ".", maxSplits: 1, omittingEmptySubsequences: false)
    let name = trimmed(target[0])
    guard target.count == 2, isWord(name), isWord(trimmed(target[1]), dots: true) else {
      throw Problem(
        offset: offset, message: "`${\(inner)}` does not name a secret's field",
        wayOut: "write `${secrets.NAME.FIELD}`, for example `${secrets.\(isWord(name) ? name : "db").password}`")
    }
    let names = pieces.dropFirst().map(trimmed)
    for filter in names where !filters.contains(filter) {
      throw Problem(
        offset: offset, message: "`\(filter)` is not a filter", wayOut: "filters are \(filters.joined(separator: ", "))"
      )
    }
    return SecretReference(name: name, field: trimmed(target[1]), filters: names)
  }

  private static func trimmed(_ text: Substring) -> String {
    var text = text
    while text.first == " " { text.removeFirst() }
    while text.last == " " { text.removeLast() }
    return String(text)
  }

  private static func isWord(_ text: String, dots: Bool = false) -> Bool {
    !text.isEmpty
      && text.allSatisfy {
        $0 == "_" || $0 == "-" || (dots && $0 == ".") || ($0.isASCII && ($0.isLetter || $0.isNumber))
      }
  }
}
