/// Reads a template with blocks. Strict; nesting is bounded.
struct BlockTemplateParser {
  typealias Problem = BlockTemplate.Problem
  typealias Node = BlockTemplate.Node

  /// Blocks and parentheses inside each other.
  static let depthLimit = 32

  private let bytes: [UInt8]
  private var index = 0
  private var depth = 0
  private(set) var sources: [BlockTemplate.Source] = []
  private(set) var references: [SecretReference] = []
  /// Names that are declared where we are.
  private var variables: [String] = []
  private var pendingTrim = false

  init(_ text: String) { bytes = Array(text.utf8) }

  mutating func parse(_ variable: (String) -> SecretTemplate.Variable) throws(Problem) -> [Node] {
    let (nodes, end) = try list(variable)
    if let end { throw problem(end.start, "`\(end.word)` without an `if`, `with` or `range`", "remove it") }
    return nodes
  }

  // MARK: - Places

  private func place(_ offset: Int) -> BlockTemplate.Place {
    let before = bytes[..<min(offset, bytes.count)]
    let start = (before.lastIndex(of: 0x0A) ?? -1) + 1
    return .init(
      line: 1 + before.count { $0 == 0x0A }, column: String(decoding: before[start...], as: UTF8.self).count + 1)
  }

  private func problem(_ offset: Int, _ message: String, _ wayOut: String) -> Problem {
    Problem(place: place(offset), message: message, wayOut: wayOut)
  }

  // MARK: - Text and blocks

  /// What ended a list: `end` or `else`.
  private struct Ending {
    var word: String
    var start: Int
  }

  private mutating func list(
    _ variable: (String) -> SecretTemplate.Variable
  ) throws(Problem) -> ([Node], Ending?) {
    guard depth < Self.depthLimit else {
      throw problem(index, "blocks nested deeper than \(Self.depthLimit)", "split the template")
    }
    depth += 1
    let outer = variables.count
    defer {
      depth -= 1
      variables.removeLast(variables.count - outer)
    }
    var nodes: [Node] = []
    while index < bytes.count {
      try text(&nodes, variable)
      if index >= bytes.count { break }
      let start = index
      index += 2
      if isSpacedDash(at: index) { index += 1 }
      skipSpace()
      if starts(with: "/*") {
        try comment(start)
        continue
      }
      if let word = peekWord(), word == "end" || word == "else" {
        index += word.utf8.count
        return (nodes, Ending(word: word, start: start))
      }
      nodes.append(try action(start, variable))
    }
    return (nodes, nil)
  }

  /// Literal text up to the next block, trimmed where dashes say so.
  private mutating func text(
    _ nodes: inout [Node], _ variable: (String) -> SecretTemplate.Variable
  ) throws(Problem) {
    var end = index
    while end < bytes.count, !(bytes[end] == 0x7B && end + 1 < bytes.count && bytes[end + 1] == 0x7B) { end += 1 }
    var (first, last) = (index, end)
    if pendingTrim { while first < last, Self.isSpace(bytes[first]) { first += 1 } }
    if end < bytes.count, isSpacedDash(at: end + 2) { while last > first, Self.isSpace(bytes[last - 1]) { last -= 1 } }
    pendingTrim = false
    index = end
    guard first < last else { return }
    let piece = String(decoding: bytes[first..<last], as: UTF8.self)
    do throws(SecretTemplate.Problem) {
      let template = try SecretTemplate.parse(piece, variable: variable)
      references += template.references
      nodes.append(.text(template))
    } catch {
      let before = piece.prefix(error.offset).utf8.count
      throw problem(first + before, error.message, error.wayOut)
    }
  }

  /// `{{- ` and nothing else trims: `{{-1}}` is a number.
  private func isSpacedDash(at offset: Int) -> Bool {
    offset + 1 < bytes.count && bytes[offset] == 0x2D && Self.isSpace(bytes[offset + 1])
  }

  private mutating func comment(_ start: Int) throws(Problem) {
    while index < bytes.count, !starts(with: "*/") { index += 1 }
    guard index < bytes.count else { throw problem(start, "a comment that does not end", "write `*/}}`") }
    index += 2
    try close(start)
  }

  private mutating func close(_ start: Int) throws(Problem) {
    skipSpace()
    if starts(with: "-}}"), index > 0, Self.isSpace(bytes[index - 1]) {
      pendingTrim = true
      index += 3
    } else if starts(with: "}}") {
      index += 2
    } else if index >= bytes.count {
      throw problem(start, "a block that does not end", "add `}}`")
    } else {
      throw problem(index, "`\(shownHere)` is not understood here", "see the subset in docs/secrets.md")
    }
  }

  private mutating func action(
    _ start: Int, _ variable: (String) -> SecretTemplate.Variable
  ) throws(Problem) -> Node {
    guard let word = peekWord() else { return try simple(start) }
    switch word {
    case "if", "with":
      index += word.utf8.count
      return try branch(isWith: word == "with", start, variable)
    case "range":
      index += 5
      return try range(start, variable)
    case "define", "template", "block", "break", "continue":
      throw problem(index, "`\(word)` is not in the subset", "see the porting table in docs/secrets.md")
    default: return try simple(start)
    }
  }

  private mutating func simple(_ start: Int) throws(Problem) -> Node {
    let before = index
    if let name = variableName() {
      skipSpace()
      let isDeclared = starts(with: ":=")
      if isDeclared || (starts(with: "=") && !starts(with: "==")) {
        index += isDeclared ? 2 : 1
        let value = try pipeline(start)
        if !isDeclared, !variables.contains(name) {
          throw problem(before, "the variable `$\(name)` is not declared", "declare it with `:=`")
        }
        variables.append(name)
        try close(start)
        return .assign(name, value, isNew: isDeclared)
      }
      index = before
    }
    let value = try pipeline(start)
    try close(start)
    return .output(value)
  }

  private mutating func branch(
    isWith: Bool, _ start: Int, _ variable: (String) -> SecretTemplate.Variable
  ) throws(Problem) -> Node {
    let outer = variables.count
    defer { variables.removeLast(variables.count - outer) }
    skipSpace()
    let before = index
    var declared: String?
    if let name = variableName() {
      skipSpace()
      if starts(with: ":=") {
        index += 2
        declared = name
      } else {
        index = before
      }
    }
    let condition = try pipeline(start)
    try close(start)
    if let declared { variables.append(declared) }
    let (then, ending) = try list(variable)
    let otherwise = try rest(ending, start, isWith ? "with" : "if", variable)
    return .branch(
      .init(isWith: isWith, variable: declared, condition: condition, then: then, otherwise: otherwise))
  }

  private mutating func range(
    _ start: Int, _ variable: (String) -> SecretTemplate.Variable
  ) throws(Problem) -> Node {
    let outer = variables.count
    defer { variables.removeLast(variables.count - outer) }
    skipSpace()
    let before = index
    var names: [String] = []
    while let name = variableName(), names.count < 2 {
      names.append(name)
      skipSpace()
      guard starts(with: ",") else { break }
      index += 1
      skipSpace()
    }
    if !names.isEmpty {
      if starts(with: ":=") {
        index += 2
      } else {
        names = []
        index = before
      }
    }
    let value = try pipeline(start)
    try close(start)
    variables += names
    let (body, ending) = try list(variable)
    let otherwise = try rest(ending, start, "range", variable)
    return .range(
      .init(key: names.count == 2 ? names[0] : nil, value: names.last, list: value, body: body, otherwise: otherwise))
  }

  /// What follows `else`, up to and with `end`.
  private mutating func rest(
    _ ending: Ending?, _ start: Int, _ word: String, _ variable: (String) -> SecretTemplate.Variable
  ) throws(Problem) -> [Node] {
    guard let ending else { throw problem(start, "`\(word)` without an `end`", "add `{{ end }}`") }
    if ending.word == "end" {
      try close(ending.start)
      return []
    }
    skipSpace()
    if let next = peekWord(), next == "if" || next == "with", word != "range" {
      guard depth < Self.depthLimit else {
        throw problem(index, "more than \(Self.depthLimit) branches", "use fewer")
      }
      depth += 1
      defer { depth -= 1 }
      index += next.utf8.count
      return [try branch(isWith: next == "with", ending.start, variable)]
    }
    try close(ending.start)
    let (nodes, last) = try list(variable)
    guard let last else { throw problem(start, "`\(word)` without an `end`", "add `{{ end }}`") }
    guard last.word == "end" else { throw problem(last.start, "a second `else`", "remove it") }
    try close(last.start)
    return nodes
  }

  // MARK: - Pipelines

  private mutating func pipeline(_ start: Int) throws(Problem) -> BlockTemplate.Pipeline {
    var commands = [try command(start)]
    while true {
      skipSpace()
      guard starts(with: "|") else { break }
      index += 1
      commands.append(try command(start))
    }
    for (position, command) in commands.enumerated() { try check(command, isPiped: position > 0) }
    return .init(commands: commands)
  }

  private mutating func command(_ start: Int) throws(Problem) -> BlockTemplate.Command {
    skipSpace()
    let place = place(index)
    var words: [BlockTemplate.Operand] = []
    while true {
      skipSpace()
      guard index < bytes.count else { throw problem(start, "a block that does not end", "add `}}`") }
      if starts(with: "}}") || starts(with: "-}}") || bytes[index] == 0x7C || bytes[index] == 0x29 { break }
      words.append(try operand(start))
    }
    guard !words.isEmpty else { throw problem(index, "a value is missing", "write for example `.Data.data.password`") }
    return .init(words: words, place: place)
  }

  private mutating func operand(_ start: Int) throws(Problem) -> BlockTemplate.Operand {
    let from = index
    let place = place(index)
    switch bytes[index] {
    case UInt8(ascii: "."):
      let fields = try fields()
      if fields.isEmpty { index += 1 }
      return .init(base: .dot, fields: fields, place: place)
    case UInt8(ascii: "$"):
      let name = variableName() ?? ""
      guard name.isEmpty || variables.contains(name) else {
        throw problem(from, "the variable `$\(name)` is not declared", "declare it with `:=`")
      }
      return .init(base: .variable(name), fields: try fields(), place: place)
    case UInt8(ascii: "\""), UInt8(ascii: "`"): return .init(base: .string(try string()), place: place)
    case UInt8(ascii: "("):
      guard depth < Self.depthLimit else {
        throw problem(index, "parentheses nested deeper than \(Self.depthLimit)", "use a variable")
      }
      depth += 1
      defer { depth -= 1 }
      index += 1
      let inner = try pipeline(start)
      skipSpace()
      guard starts(with: ")") else { throw problem(from, "`(` is never closed", "add `)`") }
      index += 1
      return .init(base: .pipeline(inner), fields: try fields(), place: place)
    case 0x30...0x39, UInt8(ascii: "-"): return .init(base: .number(try number()), place: place)
    default:
      guard let word = peekWord() else {
        throw problem(index, "`\(shownHere)` is not understood here", "see the subset in docs/secrets.md")
      }
      index += word.utf8.count
      if word == "true" || word == "false" { return .init(base: .bool(word == "true"), place: place) }
      guard TemplateFunction(rawValue: word) != nil else {
        throw problem(
          from, "the function `\(word)` is not in the subset",
          "known are \(TemplateFunction.allCases.map(\.rawValue).joined(separator: ", "))")
      }
      return .init(base: .function(word), place: place)
    }
  }

  /// Counts of arguments, and `secret` with literal ones.
  private mutating func check(_ command: BlockTemplate.Command, isPiped: Bool) throws(Problem) {
    for word in command.words.dropFirst() {
      if case .function(let name) = word.base {
        throw Problem(
          place: word.place, message: "the function `\(name)` stands where a value is expected",
          wayOut: "put it in parentheses")
      }
    }
    guard case .function(let name) = command.words[0].base, let function = TemplateFunction(rawValue: name) else {
      if command.words.count > 1 || isPiped {
        throw Problem(
          place: command.place, message: "this is a value and takes no arguments", wayOut: "name a function first")
      }
      return
    }
    let count = command.words.count - 1 + (isPiped ? 1 : 0)
    guard function.arguments.contains(count) else {
      let bounds = function.arguments
      let wanted = bounds.lowerBound == bounds.upperBound ? "\(bounds.lowerBound)" : "at least \(bounds.lowerBound)"
      throw Problem(
        place: command.place, message: "`\(name)` takes \(wanted) arguments and has \(count)",
        wayOut: "see the functions in docs/secrets.md")
    }
    guard function == .secret || function == .pkiCert else { return }
    let literals = command.words.dropFirst().compactMap { word -> String? in
      if case .string(let text) = word.base { text } else { nil }
    }
    guard literals.count == count, let path = literals.first, !path.isEmpty else {
      throw Problem(
        place: command.place, message: "the path and arguments of `\(name)` must be literal texts",
        wayOut: "write `\(name) \"mount/path\"`: what is fetched has to be known before")
    }
    sources.append(
      .init(
        path: BlockTemplate.plainPath(path), arguments: Array(literals.dropFirst()),
        isCertificate: function == .pkiCert, place: command.place))
  }

  // MARK: - Words

  private static func isSpace(_ byte: UInt8) -> Bool { byte == 0x20 || (0x09...0x0D).contains(byte) }

  private static func isNameByte(_ byte: UInt8) -> Bool {
    (0x30...0x39).contains(byte) || (0x41...0x5A).contains(byte) || (0x61...0x7A).contains(byte) || byte == 0x5F
  }

  private mutating func skipSpace() { while index < bytes.count, Self.isSpace(bytes[index]) { index += 1 } }

  private func starts(with text: StaticString) -> Bool {
    text.withUTF8Buffer { bytes[min(index, bytes.count)...].starts(with: $0) }
  }

  private func peekWord() -> String? {
    guard index < bytes.count, !(0x30...0x39).contains(bytes[index]) else { return nil }
    let word = bytes[index...].prefix(while: Self.isNameByte)
    return word.isEmpty ? nil : String(decoding: word, as: UTF8.self)
  }

  /// `$name`; the empty name is the data at the start.
  private mutating func variableName() -> String? {
    guard index < bytes.count, bytes[index] == UInt8(ascii: "$") else { return nil }
    let word = bytes[(index + 1)...].prefix(while: Self.isNameByte)
    index += 1 + word.count
    return String(decoding: word, as: UTF8.self)
  }

  /// `.a.b`; nothing when no name follows the point.
  private mutating func fields() throws(Problem) -> [String] {
    var names: [String] = []
    while index + 1 < bytes.count, bytes[index] == UInt8(ascii: "."), Self.isNameByte(bytes[index + 1]) {
      let word = bytes[(index + 1)...].prefix(while: Self.isNameByte)
      index += 1 + word.count
      names.append(String(decoding: word, as: UTF8.self))
      if index < bytes.count, bytes[index] == UInt8(ascii: "-"), index + 1 < bytes.count,
        Self.isNameByte(bytes[index + 1])
      {
        throw problem(index, "a field's name cannot hold `-` here", "write `index .Data.data \"the-name\"`")
      }
    }
    return names
  }

  private mutating func number() throws(Problem) -> Int {
    let from = index
    if bytes[index] == UInt8(ascii: "-") { index += 1 }
    let digits = bytes[index...].prefix { (0x30...0x39).contains($0) }
    index += digits.count
    guard let number = Int(String(decoding: bytes[from..<index], as: UTF8.self)) else {
      throw problem(from, "not a whole number", "write for example `4`")
    }
    return number
  }

  private mutating func string() throws(Problem) -> String {
    let from = index
    let quote = bytes[index]
    index += 1
    var text: [UInt8] = []
    while index < bytes.count, bytes[index] != quote {
      var byte = bytes[index]
      if quote == UInt8(ascii: "\""), byte == 0x0A { break }
      if quote == UInt8(ascii: "\""), byte == UInt8(ascii: "\\") {
        index += 1
        switch index < bytes.count ? bytes[index] : 0 {
        case UInt8(ascii: "n"): byte = 0x0A
        case UInt8(ascii: "r"): byte = 0x0D
        case UInt8(ascii: "t"): byte = 0x09
        case UInt8(ascii: "\\"): byte = 0x5C
        case UInt8(ascii: "\""): byte = 0x22
        default: throw problem(index, "an unknown escape", "use \\n, \\r, \\t, \\\\ or \\\"")
        }
      }
      text.append(byte)
      index += 1
    }
    guard index < bytes.count, bytes[index] == quote else {
      throw problem(from, "a text that does not end", "close the quote")
    }
    index += 1
    return String(decoding: text, as: UTF8.self)
  }

  /// What stands here, for messages: never more than a word.
  private var shownHere: String {
    let word = bytes[index...].prefix(while: Self.isNameByte)
    let shown = word.isEmpty ? bytes[index...].prefix(1) : word.prefix(24)
    let text = String(decoding: shown, as: UTF8.self)
    return text.unicodeScalars.allSatisfy { $0.value >= 0x20 && $0.value != 0xFFFD && $0.value != 0x7F } ? text : "?"
  }
}

extension BlockTemplate {
  /// A path without slashes at its ends.
  package static func plainPath(_ path: String) -> String {
    var path = Substring(path)
    while path.hasPrefix("/") { path = path.dropFirst() }
    while path.hasSuffix("/") { path = path.dropLast() }
    return String(path)
  }
}
