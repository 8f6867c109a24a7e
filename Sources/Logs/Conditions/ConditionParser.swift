import RegularExpressions

/// Reads conditions:
///
///     or     = and *("||" and)
///     and    = unary *("&&" unary)
///     unary  = "!" unary / "(" or ")" / test
///     test   = "has" field / field operator value
///
/// Operators are `== != < <= > >= =~ !~ contains in`; behind `in` stands `a..b` or `[a, b, …]`.
struct ConditionParser {
  enum Token: Equatable {
    case word(String)
    case field(String)
    case text(String)
    case number(Double)
    case mark(String)
    case end
  }

  private let characters: [Character]
  private var index = 0
  private var token = Token.end
  /// Where `token` begins.
  private var place = 0
  private var nodes: [LogCondition.Node] = []
  private var depth = 0

  init(_ text: String) throws(LogCondition.Invalid) {
    characters = Array(text)
    guard characters.count <= LogCondition.longest else {
      throw LogCondition.Invalid(
        message: "the condition is longer than \(LogCondition.longest) characters", wayOut: "split it in two",
        offset: LogCondition.longest)
    }
    try advance()
  }

  mutating func parse() throws(LogCondition.Invalid) -> [LogCondition.Node] {
    guard token != .end else { throw fault("the condition is empty", "write one, for example `level >= warn`") }
    _ = try either()
    guard token == .end else { throw fault("unexpected \(shown)", "join conditions with `&&` or `||`") }
    return nodes
  }

  private func fault(_ message: String, _ wayOut: String, at offset: Int? = nil) -> LogCondition.Invalid {
    LogCondition.Invalid(message: message, wayOut: wayOut, offset: offset ?? place)
  }

  private var shown: String {
    switch token {
    case .word(let word), .mark(let word): "`\(word)`"
    case .field(let name): "the field `\(name)`"
    case .text(let text): "\"\(text.prefix(40))\""
    case .number(let number): "`\(number)`"
    case .end: "end of the condition"
    }
  }

  // MARK: expressions

  private mutating func add(_ node: LogCondition.Node) throws(LogCondition.Invalid) -> Int {
    guard nodes.count < LogCondition.maximumNodes else {
      throw fault("the condition has more than \(LogCondition.maximumNodes) parts", "split it in two")
    }
    nodes.append(node)
    return nodes.count - 1
  }

  private mutating func either() throws(LogCondition.Invalid) -> Int {
    var left = try both()
    while token == .mark("||") {
      try advance()
      let right = try both()
      left = try add(.either(left, right))
    }
    return left
  }

  private mutating func both() throws(LogCondition.Invalid) -> Int {
    var left = try unary()
    while token == .mark("&&") {
      try advance()
      let right = try unary()
      left = try add(.both(left, right))
    }
    return left
  }

  private mutating func unary() throws(LogCondition.Invalid) -> Int {
    depth += 1
    defer { depth -= 1 }
    guard depth <= LogCondition.maximumDepth else {
      throw fault("the condition is nested deeper than \(LogCondition.maximumDepth)", "write it flatter")
    }
    if token == .mark("!") {
      try advance()
      let inner = try unary()
      return try add(.not(inner))
    }
    if token == .mark("(") {
      let opened = place
      try advance()
      let inner = try either()
      guard token == .mark(")") else { throw fault("this `(` is never closed", "add `)`", at: opened) }
      try advance()
      return inner
    }
    return try test()
  }

  private mutating func test() throws(LogCondition.Invalid) -> Int {
    if token == .word("has") {
      try advance()
      let subject = try subject()
      return try add(.test(subject, .exists))
    }
    let subject = try subject()
    let operation = token
    let at = place
    try advance()
    switch operation {
    case .mark("=="), .mark("!="):
      let node = try add(.test(subject, try equality(subject)))
      return operation == .mark("==") ? node : try add(.not(node))
    case .mark("=~"), .mark("!~"):
      let node = try add(.test(subject, try expression(subject, at)))
      return operation == .mark("=~") ? node : try add(.not(node))
    case .mark("<"), .mark("<="), .mark(">"), .mark(">="):
      guard case .mark(let sign) = operation else { break }
      return try add(.test(subject, try comparison(subject, sign)))
    case .word("in"): return try add(.test(subject, try membership(subject)))
    case .word("contains"):
      guard case .text(let text) = token, !isLevel(subject) else {
        throw fault(
          "`contains` needs a text in quotes, and a field other than `level`", "write `msg contains \"text\"`")
      }
      try advance()
      return try add(.test(subject, .contains(Array(text.utf8))))
    default: break
    }
    throw fault(
      operation == .end ? "the condition ends after a field" : "no operator stands here",
      "use one of == != < <= > >= =~ !~ in contains, or `has FIELD`", at: at)
  }

  private mutating func subject() throws(LogCondition.Invalid) -> LogCondition.Subject {
    let name: String
    switch token {
    case .word(let word): name = word
    case .field(let field): name = field
    default:
      throw fault("a field's name is wanted, not \(shown)", "write FIELD OPERATOR VALUE, for example `status >= 500`")
    }
    let isPlain = if case .word = token { true } else { false }
    if isPlain, ["true", "false", "null", "in", "contains"].contains(name) {
      throw fault("a field's name is wanted, not `\(name)`", "write it in backticks when a field has this name")
    }
    try advance()
    guard isPlain else { return .field(FieldPath(name)) }
    switch name {
    case "level": return .level
    case "message", "msg": return .message
    default: return .field(FieldPath(name))
    }
  }

  private func isLevel(_ subject: LogCondition.Subject) -> Bool { if case .level = subject { true } else { false } }

  /// Fields that always hold text.
  private func isText(_ subject: LogCondition.Subject) -> Bool {
    switch subject {
    case .message: true
    case .field(let path): ["source", "stream"].contains(path.name)
    case .level: false
    }
  }

  // MARK: values

  private mutating func level() throws(LogCondition.Invalid) -> LogLevel {
    let name: String
    switch token {
    case .word(let word): name = word
    case .text(let text): name = text
    default:
      throw fault("`level` is compared with a level, not \(shown)", "use trace, debug, info, warn, error or fatal")
    }
    guard let level = LogLevel(name) else {
      throw fault("`\(name)` is no level", "use trace, debug, info, warn, error or fatal")
    }
    try advance()
    return level
  }

  private mutating func literal(_ subject: LogCondition.Subject) throws(LogCondition.Invalid) -> LogCondition.Literal {
    let literal: LogCondition.Literal
    switch token {
    case .text(let text): literal = .text(Array(text.utf8))
    case .number(let number) where !isText(subject): literal = .number(number)
    case .number: throw fault("this field holds text, not a number", "write the value in quotes")
    case .word("true"), .word("false"): literal = .truth(token == .word("true"))
    case .word("null"): literal = .null
    case .word(let word): throw fault("`\(word)` is no value", "write text in quotes: \"\(word)\"")
    default: throw fault("a value is wanted, not \(shown)", "write a number, a text in quotes, true, false or null")
    }
    try advance()
    return literal
  }

  private mutating func equality(
    _ subject: LogCondition.Subject
  ) throws(LogCondition.Invalid) -> LogCondition.Question {
    if isLevel(subject) {
      let level = try level()
      return .level(from: level, to: level)
    }
    return .equals(try literal(subject))
  }

  private mutating func expression(
    _ subject: LogCondition.Subject, _ at: Int
  ) throws(LogCondition.Invalid) -> LogCondition.Question {
    guard !isLevel(subject) else { throw fault("`level` is no text", "compare it: `level >= warn`", at: at) }
    guard case .text(let pattern) = token else {
      throw fault("an expression in quotes is wanted, not \(shown)", "write `msg =~ \"timeout|refused\"`")
    }
    let expression: RegularExpression
    do throws(RegularExpression.Invalid) {
      expression = try RegularExpression(pattern)
    } catch {
      throw fault("the expression is invalid: \(error.reason)", "see `man pcre2pattern`")
    }
    try advance()
    return .matches(expression)
  }

  private mutating func comparison(
    _ subject: LogCondition.Subject, _ sign: String
  ) throws(LogCondition.Invalid) -> LogCondition.Question {
    if isLevel(subject) {
      let raw = Int(try level().rawValue)
      let (low, high) =
        switch sign {
        case "<": (1, raw - 1)
        case "<=": (1, raw)
        case ">": (raw + 1, 6)
        default: (raw, 6)
        }
      // An empty range stays empty: no level lies from fatal to trace.
      guard low <= high, let from = LogLevel(rawValue: UInt8(low)), let to = LogLevel(rawValue: UInt8(high)) else {
        return .level(from: .fatal, to: .trace)
      }
      return .level(from: from, to: to)
    }
    guard case .number(let number) = token, !isText(subject) else {
      throw fault("`\(sign)` compares a number, not \(shown)", "write a number, or use == for text")
    }
    try advance()
    return switch sign {
    case "<": .number(from: -.infinity, to: number, openFrom: false, openTo: true)
    case "<=": .number(from: -.infinity, to: number, openFrom: false, openTo: false)
    case ">": .number(from: number, to: .infinity, openFrom: true, openTo: false)
    default: .number(from: number, to: .infinity, openFrom: false, openTo: false)
    }
  }

  private mutating func membership(
    _ subject: LogCondition.Subject
  ) throws(LogCondition.Invalid) -> LogCondition.Question {
    if token == .mark("[") { return try list(subject) }
    if isLevel(subject) {
      let from = try level()
      try range()
      return .level(from: from, to: try level())
    }
    guard case .number(let from) = token, !isText(subject) else {
      throw fault("a range or a list is wanted, not \(shown)", "write `in 500..599` or `in [\"a\", \"b\"]`")
    }
    try advance()
    try range()
    guard case .number(let to) = token else { throw fault("the range has no end", "write `in 500..599`") }
    guard from <= to else { throw fault("the range ends before it begins", "write the smaller number first") }
    try advance()
    return .number(from: from, to: to, openFrom: false, openTo: false)
  }

  private mutating func range() throws(LogCondition.Invalid) {
    guard token == .mark("..") else { throw fault("`..` is wanted, not \(shown)", "write `in 500..599`") }
    try advance()
  }

  private mutating func list(_ subject: LogCondition.Subject) throws(LogCondition.Invalid) -> LogCondition.Question {
    let opened = place
    var literals: [LogCondition.Literal] = []
    var levels: [LogLevel] = []
    repeat {
      try advance()
      if isLevel(subject) { levels.append(try level()) } else { literals.append(try literal(subject)) }
    } while token == .mark(",")
    guard token == .mark("]") else { throw fault("this list is never closed", "add `]`", at: opened) }
    try advance()
    return isLevel(subject) ? .levels(levels) : .among(literals)
  }

  // MARK: tokens

  private mutating func advance() throws(LogCondition.Invalid) {
    while index < characters.count, characters[index].isWhitespace { index += 1 }
    place = index
    guard index < characters.count else {
      token = .end
      return
    }
    let first = characters[index]
    if first == "\"" || first == "'" || first == "`" { return try quoted(first) }
    if first.isASCII, first.isNumber || (first == "-" && next.map { $0.isASCII && $0.isNumber } == true) {
      return try number()
    }
    if Self.begins(first) {
      var name = ""
      while index < characters.count, Self.begins(characters[index]) || "0123456789-.".contains(characters[index]) {
        // `info..error` is two names.
        if characters[index] == ".", next == "." { break }
        name.append(characters[index])
        index += 1
      }
      token = .word(name)
      return
    }
    let pair = String(characters[index..<min(index + 2, characters.count)])
    if ["&&", "||", "==", "!=", "<=", ">=", "=~", "!~", ".."].contains(pair) {
      index += 2
      token = .mark(pair)
    } else if "!<>()[],".contains(first) {
      index += 1
      token = .mark(String(first))
    } else {
      let near = ["&": "&&", "|": "||", "=": "=="][String(first)].map { "did you mean `\($0)`?" }
      throw fault("unexpected `\(first)`", near ?? "write text in quotes")
    }
  }

  private var next: Character? { index + 1 < characters.count ? characters[index + 1] : nil }

  private static func begins(_ character: Character) -> Bool {
    character.isASCII && (character.isLetter || character == "_" || character == "@")
  }

  /// `"text"` with `\"`, `\\`, `\n` and `\t` (any other backslash stays, for expressions), `'text'` as it stands, and
  /// `` `field` ``.
  private mutating func quoted(_ quote: Character) throws(LogCondition.Invalid) {
    var text = ""
    index += 1
    while index < characters.count, characters[index] != quote {
      if quote == "\"", characters[index] == "\\", let next {
        switch next {
        case "\"", "\\": text.append(next)
        case "n": text.append("\n")
        case "t": text.append("\t")
        default:
          text.append("\\")
          text.append(next)
        }
        index += 2
      } else {
        text.append(characters[index])
        index += 1
      }
    }
    guard index < characters.count else { throw fault("this quote is never closed", "add `\(quote)`") }
    index += 1
    token = quote == "`" ? .field(text) : .text(text)
    if quote == "`", text.isEmpty { throw fault("the field's name is empty", "write a name in the backticks") }
  }

  private mutating func number() throws(LogCondition.Invalid) {
    var text = String(characters[index])
    index += 1
    while index < characters.count {
      let character = characters[index]
      // `500..599` is two numbers.
      if character == ".", next == "." { break }
      guard character.isASCII, character.isLetter || character.isNumber || character == "." || character == "_" else {
        break
      }
      text.append(character)
      index += 1
    }
    guard text.utf8.count <= 64, text.allSatisfy({ $0.isNumber || "-.eE".contains($0) }), let value = Double(text),
      value.isFinite
    else { throw fault("`\(text.prefix(40))` is no number", "write digits, for example 500 or 0.25") }
    token = .number(value)
  }
}
