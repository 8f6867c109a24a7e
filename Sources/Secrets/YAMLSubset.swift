import Vocabulary

/// The subset of YAML 1.2 that a store may use: a mapping of one or two levels. Values are plain, 'single', "double" or
/// literal blocks (`|`, `|-`). Lists, flow collections, anchors, tags, folded blocks and tabs are errors.
struct YAMLSubset {
  private let lines: [String]
  private var number = 0

  init(lines: [String]) { self.lines = lines }

  static func key(_ text: String) -> String { isPlainKey(text) ? text : JSONNode.quote(text) }

  private static func isPlainKey(_ text: some StringProtocol) -> Bool {
    !text.isEmpty
      && text.utf8.allSatisfy {
        (0x30...0x39).contains($0) || (0x41...0x5A).contains($0) || (0x61...0x7A).contains($0) || $0 == 0x5F
          || $0 == 0x2D || $0 == 0x2E || $0 == 0x2F
      } && !text.hasPrefix("-")
  }

  mutating func read(into content: inout StoreContent) throws(StoreContentError) {
    var parent: String?
    var parentLine = 0
    var indent: Int?
    while number < lines.count {
      let line = lines[number]
      let word = line.drop { $0 == " " }
      let depth = line.utf8.count - word.utf8.count
      if word.isEmpty || word.hasPrefix("#") || (depth == 0 && (word == "---" || word == "{}")) {
        number += 1
        continue
      }
      guard !word.hasPrefix("\t") else { throw failure("a tab cannot indent YAML; use spaces") }
      guard !word.hasPrefix("- ") else { throw failure("a list is not allowed; write `name:` and fields below it") }
      let (key, rest) = try key(word)
      if depth == 0 {
        if let parent, indent == nil { throw StoreContentError(line: parentLine, reason: "`\(parent)` has no value") }
        indent = nil
        parent = nil
        guard content.fields(key) == nil else { throw failure("`\(key)` is there twice") }
        if QuotedScalar.isBlank(rest) {
          parent = key
          parentLine = number + 1
          number += 1
        } else {
          _ = content.insert(key, "value", try value(rest, of: key, depth: depth))
        }
      } else {
        guard let parent else { throw failure("`\(key)` is indented below nothing") }
        guard depth == indent ?? depth else { throw failure("`\(key)` is indented unlike the field before it") }
        indent = depth
        guard !QuotedScalar.isBlank(rest) else { throw failure("`\(parent)`.`\(key)` has no value") }
        let line = number + 1
        guard content.insert(parent, key, try value(rest, of: key, depth: depth)) else {
          throw StoreContentError(line: line, reason: "`\(parent)`.`\(key)` is there twice")
        }
      }
    }
    if let parent, indent == nil { throw StoreContentError(line: parentLine, reason: "`\(parent)` has no value") }
  }

  private func failure(_ reason: String) -> StoreContentError { StoreContentError(line: number + 1, reason: reason) }

  private func key(_ word: Substring) throws(StoreContentError) -> (String, Substring) {
    let name: String
    var rest: Substring
    if word.hasPrefix("\"") || word.hasPrefix("'") {
      guard let quoted = QuotedScalar.read(word) else { throw failure("a quoted key does not end") }
      (name, rest) = quoted
    } else {
      let end = word.firstIndex(of: ":") ?? word.endIndex
      guard Self.isPlainKey(word[..<end]) else {
        throw failure("`name:` expected, with a name of letters, digits, `_`, `-`, `.` and `/`, or quoted")
      }
      (name, rest) = (String(word[..<end]), word[end...])
    }
    guard rest.hasPrefix(":"), rest.dropFirst().isEmpty || rest.dropFirst().hasPrefix(" ") else {
      throw failure("`: ` expected after `\(name)`")
    }
    rest = rest.dropFirst()
    return (name, rest)
  }

  /// The scalar after a key; moves to the line after it.
  private mutating func value(_ text: Substring, of key: String, depth: Int) throws(StoreContentError) -> String {
    let word = text.drop { $0 == " " }
    switch word.first {
    case "\"", "'":
      guard let (value, after) = QuotedScalar.read(word), QuotedScalar.isBlank(after) else {
        throw failure("the quoted value of `\(key)` does not end on its line, or text follows it")
      }
      number += 1
      return value
    case "|":
      let header = QuotedScalar.plain(word)
      guard header == "|" || header == "|-" else { throw failure("`\(key)`: only `|` and `|-` blocks are allowed") }
      number += 1
      return try block(below: depth, of: key, keepsLastFeed: header == "|")
    case "&", "*", "!", "[", "{", ">", "%", "@", "`":
      throw failure("`\(key)`: a value that starts with `\(word.first ?? "?")` must be quoted")
    default:
      let value = QuotedScalar.plain(word)
      guard !value.contains(": "), !value.hasSuffix(":") else {
        throw failure("`\(key)`: a value with `: ` in it must be quoted")
      }
      number += 1
      return value
    }
  }

  private mutating func block(below depth: Int, of key: String, keepsLastFeed: Bool) throws(StoreContentError) -> String
  {
    var body: [Substring] = []
    var indent: Int?
    while number < lines.count {
      let line = lines[number]
      let spaces = line.prefix { $0 == " " }.count
      if spaces == line.count {
        body.append("")
        number += 1
        continue
      }
      let width = indent ?? spaces
      guard width > depth, spaces > depth else { break }
      guard spaces >= width else { throw failure("a line of the block of `\(key)` is indented too little") }
      indent = width
      body.append(line.dropFirst(width))
      number += 1
    }
    while body.last?.isEmpty == true { body.removeLast() }
    guard !body.isEmpty else { throw failure("the block of `\(key)` is empty") }
    return body.joined(separator: "\n") + (keepsLastFeed ? "\n" : "")
  }
}
