import Vocabulary

/// Values as block-style YAML, in whole lines.
enum BlockText {
  static func entry(_ key: String, _ value: JSONNode, indent: Int) -> [String] {
    let start = spaces(indent) + scalar(.string(key)) + ":"
    if let short = short(value) { return [start + " " + short + "\n"] }
    switch value {
    case .object(let members):
      return [start + "\n"] + members.flatMap { entry($0.key, $0.value, indent: indent + 2) }
    case .array(let items): return [start + "\n"] + items.flatMap { item($0, indent: indent + 2) }
    default: return [start + " " + scalar(value) + "\n"]
    }
  }

  static func item(_ value: JSONNode, indent: Int) -> [String] {
    let start = spaces(indent) + "- "
    guard case .object(let members) = value, let first = members.first else { return [start + value.json + "\n"] }
    var lines = entry(first.key, first.value, indent: indent + 2)
    lines[0] = start + lines[0].dropFirst(indent + 2)
    return lines + members.dropFirst().flatMap { entry($0.key, $0.value, indent: indent + 2) }
  }

  /// Scalars, and lists and maps of no more than scalars that fit into a line.
  private static func short(_ value: JSONNode) -> String? {
    switch value {
    case .object(let members) where members.isEmpty: return "{}"
    case .array(let items):
      let words = items.map { item in isScalar(item) ? scalar(item) : nil }
      guard words.allSatisfy({ $0 != nil }) else { return nil }
      let line = "[" + words.compactMap { $0 }.joined(separator: ", ") + "]"
      return line.utf8.count <= 100 ? line : nil
    case .object: return nil
    default: return scalar(value)
    }
  }

  private static func isScalar(_ value: JSONNode) -> Bool {
    switch value {
    case .object, .array: false
    default: true
    }
  }

  /// Plain where nobody could read it as anything but a string: a letter, `/` or `--` first, and only harmless letters.
  private static func scalar(_ value: JSONNode) -> String {
    guard case .string(let text) = value else { return value.json }
    let reserved = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"]
    let isHarmless = text.utf8.allSatisfy { byte in
      switch byte {
      case 48...57, 65...90, 97...122, 45, 46, 47, 95: true
      default: false
      }
    }
    let begins = text.utf8.first.map { (65...90).contains($0) || (97...122).contains($0) || $0 == 47 } ?? false
    guard isHarmless, begins || text.hasPrefix("--") && text.utf8.count > 3, !reserved.contains(text.lowercased())
    else {
      return JSONNode.quote(text)
    }
    return text
  }

  private static func spaces(_ count: Int) -> String { String(repeating: " ", count: count) }
}
