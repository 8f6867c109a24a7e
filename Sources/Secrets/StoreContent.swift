import Vocabulary

/// The plaintext of an age store: secrets by name, each with fields. A secret given as one value has the field `value`.
///
/// Three spellings are read, told apart by the first line that is not a comment:
/// a JSON object, dotenv (`NAME=value`), or a YAML mapping of one or two levels with plain, quoted or literal-block
/// scalars. Everything is text: `yes` and `1.0` stay as written.
package struct StoreContent: Equatable, Sendable {
  package enum Format: Sendable, Equatable { case yaml, json, dotenv }

  package var format: Format
  /// Secrets and fields in the order of the file.
  package private(set) var secrets: [(name: String, fields: [(field: String, value: String)])] = []

  package init(format: Format = .yaml) { self.format = format }

  package init(parsing bytes: [UInt8]) throws(StoreContentError) {
    guard let text = String(validating: bytes, as: UTF8.self) else {
      throw StoreContentError(line: 1, reason: "the content is not UTF-8")
    }
    let lines = text.split(separator: "\n", omittingEmptySubsequences: false)
      .map { $0.utf8.last == 0x0D ? String($0.dropLast()) : String($0) }
    let first = lines.first { line in
      let word = line.drop { $0 == " " || $0 == "\t" }
      return !word.isEmpty && !word.hasPrefix("#") && word != "---"
    }
    format = .yaml
    guard let first else { return }
    let start = first.drop { $0 == " " }
    if start.hasPrefix("{"), start != "{}" {
      format = .json
      try readJSON(bytes)
    } else if DotenvLine.looksLike(first) {
      format = .dotenv
      try readDotenv(lines)
    } else {
      var reader = YAMLSubset(lines: lines)
      try reader.read(into: &self)
    }
  }

  package static func == (left: StoreContent, right: StoreContent) -> Bool {
    left.format == right.format && left.serialized == right.serialized
  }

  package var names: [String] { secrets.map(\.name) }

  package func fields(_ name: String) -> [(field: String, value: String)]? {
    secrets.first { $0.name == name }?.fields
  }

  /// Sets one field and keeps the others.
  package mutating func set(_ name: String, _ field: String, _ value: String) {
    let index =
      secrets.firstIndex { $0.name == name }
      ?? {
        secrets.append((name, []))
        return secrets.count - 1
      }()
    if let place = secrets[index].fields.firstIndex(where: { $0.field == field }) {
      secrets[index].fields[place].value = value
    } else {
      secrets[index].fields.append((field, value))
    }
  }

  /// Adds a field of a file being read; false when it is there already.
  mutating func insert(_ name: String, _ field: String, _ value: String) -> Bool {
    if fields(name)?.contains(where: { $0.field == field }) == true { return false }
    set(name, field, value)
    return true
  }

  /// The content in its own format; dotenv becomes YAML when it cannot hold what is in it.
  package var serialized: [UInt8] {
    let single = secrets.allSatisfy { $0.fields.count == 1 && $0.fields[0].field == "value" }
    switch format {
    case .json:
      let members = secrets.map { secret -> (key: String, value: JSONNode) in
        (secret.name, .object(secret.fields.map { ($0.field, .string($0.value)) }))
      }
      return Array((JSONNode.object(members).json + "\n").utf8)
    case .dotenv where single && secrets.allSatisfy({ DotenvLine.isName($0.name) }):
      return Array(secrets.map { "\($0.name)=\(JSONNode.quote($0.fields[0].value))\n" }.joined().utf8)
    case .dotenv, .yaml:
      var text = ""
      for secret in secrets {
        text += YAMLSubset.key(secret.name) + ":\n"
        for field in secret.fields { text += "  \(YAMLSubset.key(field.field)): \(JSONNode.quote(field.value))\n" }
      }
      return Array((text.isEmpty ? "{}\n" : text).utf8)
    }
  }

  private mutating func readJSON(_ bytes: [UInt8]) throws(StoreContentError) {
    let root: JSONNode
    do throws(JSONError) {
      root = try JSONParser.parse(bytes)
    } catch {
      throw StoreContentError(line: error.line, reason: error.reason)
    }
    guard case .object(let members) = root else { return }
    for (name, node) in members {
      switch node {
      case .string, .number, .bool: set(name, "value", node.text)
      case .object(let fields):
        for (field, value) in fields {
          switch value {
          case .string, .number, .bool: set(name, field, value.text)
          default: throw StoreContentError(line: 1, reason: "`\(name)`.`\(field)` must be a string, number or boolean")
          }
        }
      default: throw StoreContentError(line: 1, reason: "`\(name)` must be a scalar or an object of fields")
      }
    }
  }

  private mutating func readDotenv(_ lines: [String]) throws(StoreContentError) {
    for (number, line) in lines.enumerated() {
      let parsed: (String, String)?
      do throws(DotenvLine.Failure) {
        parsed = try DotenvLine.parse(line)
      } catch {
        throw StoreContentError(line: number + 1, reason: error.reason)
      }
      guard let (name, value) = parsed else { continue }
      guard insert(name, "value", value) else {
        throw StoreContentError(line: number + 1, reason: "`\(name)` is there twice")
      }
    }
  }
}

/// Where a store's plaintext cannot be read. Names a key at most, never a value.
package struct StoreContentError: Error, Equatable, CustomStringConvertible {
  /// From 1.
  package var line: Int
  package var reason: String
  package var description: String { "line \(line) of the decrypted content: \(reason)" }
}

/// One line of a dotenv file: `NAME=value`, `export NAME=value`, values plain, 'single' or "double" quoted.
enum DotenvLine {
  struct Failure: Error { var reason: String }

  static func isName(_ text: some StringProtocol) -> Bool {
    guard let first = text.utf8.first, !(0x30...0x39).contains(first) else { return false }
    return text.utf8.allSatisfy {
      (0x30...0x39).contains($0) || (0x41...0x5A).contains($0) || (0x61...0x7A).contains($0) || $0 == 0x5F
    }
  }

  static func looksLike(_ line: String) -> Bool {
    var word = line.drop { $0 == " " }
    if word.hasPrefix("export ") { word = word.dropFirst(7) }
    guard let equals = word.firstIndex(of: "=") else { return false }
    return isName(word[..<equals])
  }

  static func parse(_ line: String) throws(Failure) -> (String, String)? {
    var word = line.drop { $0 == " " || $0 == "\t" }
    if word.isEmpty || word.hasPrefix("#") { return nil }
    if word.hasPrefix("export ") { word = word.dropFirst(7) }
    guard let equals = word.firstIndex(of: "="), isName(word[..<equals]) else {
      throw Failure(reason: "not `NAME=value`")
    }
    let name = String(word[..<equals])
    let rest = word[word.index(after: equals)...].drop { $0 == " " || $0 == "\t" }
    if rest.hasPrefix("\"") || rest.hasPrefix("'") {
      guard let (value, after) = QuotedScalar.read(rest), QuotedScalar.isBlank(after) else {
        throw Failure(reason: "the quoted value of `\(name)` does not end, or text follows it")
      }
      return (name, value)
    }
    return (name, QuotedScalar.plain(rest))
  }
}

/// Quoted and plain scalars, shared by dotenv and YAML.
enum QuotedScalar {
  /// The value and what follows the closing quote.
  static func read(_ text: Substring) -> (String, Substring)? {
    text.hasPrefix("'") ? single(text.dropFirst()) : double(text.dropFirst())
  }

  /// Nothing, or a comment after a space.
  static func isBlank(_ text: Substring) -> Bool {
    let word = text.drop { $0 == " " || $0 == "\t" }
    return word.isEmpty || (word.hasPrefix("#") && word.startIndex != text.startIndex)
  }

  /// Without a comment (` #…`) and the spaces at the end.
  static func plain(_ text: Substring) -> String {
    var value = text
    if value.hasPrefix("#") { return "" }
    var previous: Character = "x"
    for index in text.indices {
      if text[index] == "#", previous == " " || previous == "\t" {
        value = text[..<index]
        break
      }
      previous = text[index]
    }
    while let last = value.last, last == " " || last == "\t" { value = value.dropLast() }
    return String(value)
  }

  private static func single(_ text: Substring) -> (String, Substring)? {
    var value = ""
    var rest = text
    while let character = rest.popFirst() {
      if character != "'" {
        value.append(character)
      } else if rest.first == "'" {
        value.append("'")
        rest = rest.dropFirst()
      } else {
        return (value, rest)
      }
    }
    return nil
  }

  private static func double(_ text: Substring) -> (String, Substring)? {
    var value = ""
    var rest = text.unicodeScalars
    while let scalar = rest.popFirst() {
      if scalar == "\"" { return (value, Substring(rest)) }
      guard scalar == "\\" else {
        value.unicodeScalars.append(scalar)
        continue
      }
      guard let escape = rest.popFirst() else { return nil }
      switch escape {
      case "n": value += "\n"
      case "r": value += "\r"
      case "t": value += "\t"
      case "0": value += "\0"
      case "\\", "\"", "/", "$": value.unicodeScalars.append(escape)
      case "x", "u", "U":
        let length = escape == "x" ? 2 : escape == "u" ? 4 : 8
        let digits = String(String.UnicodeScalarView(rest.prefix(length)))
        guard digits.count == length, digits.allSatisfy(\.isHexDigit), let code = UInt32(digits, radix: 16),
          let decoded = Unicode.Scalar(code)
        else { return nil }
        value.unicodeScalars.append(decoded)
        rest = rest.dropFirst(length)
      default: return nil
      }
    }
    return nil
  }
}
