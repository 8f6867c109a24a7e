/// A JSON value (RFC 8259) with numbers as they were written, so that a secret's `1.0` stays `1.0`.
package indirect enum JSONNode: Equatable, Sendable {
  case null
  case bool(Bool)
  case number(String)
  case string(String)
  /// A text of a reply that holds secrets.
  case hidden(HiddenText)
  case array([JSONNode])
  case object([(key: String, value: JSONNode)])

  package subscript(_ key: String) -> JSONNode? {
    guard case .object(let members) = self else { return nil }
    return members.last { $0.key == key }?.value
  }

  package var string: String? {
    switch self {
    case .string(let text): text
    case .hidden(let hidden): hidden.text
    default: nil
    }
  }
  package var isText: Bool {
    switch self {
    case .string, .hidden: true
    default: false
    }
  }
  package var isNull: Bool { if case .null = self { true } else { false } }
  package var integer: Int64? { if case .number(let text) = self { Int64(text) } else { nil } }
  package var bool: Bool? { if case .bool(let flag) = self { flag } else { nil } }

  /// The text of a scalar, compact JSON of anything else.
  package var text: String {
    switch self {
    case .null: "null"
    case .bool(let flag): flag ? "true" : "false"
    case .number(let text), .string(let text): text
    case .hidden(let hidden): hidden.text
    case .array, .object: json
    }
  }

  /// Compact JSON, members in their order.
  package var json: String {
    switch self {
    case .null, .bool, .number: text
    case .string(let text): Self.quote(text)
    case .hidden(let hidden): Self.quote(hidden.text)
    case .array(let items): "[" + items.map(\.json).joined(separator: ",") + "]"
    case .object(let members):
      "{" + members.map { Self.quote($0.key) + ":" + $0.value.json }.joined(separator: ",") + "}"
    }
  }

  package static func quote(_ text: String) -> String {
    var quoted = "\""
    for scalar in text.unicodeScalars {
      switch scalar {
      case "\"": quoted += "\\\""
      case "\\": quoted += "\\\\"
      case "\n": quoted += "\\n"
      case "\r": quoted += "\\r"
      case "\t": quoted += "\\t"
      case _ where scalar.value < 0x20:
        let digits = String(scalar.value, radix: 16)
        quoted += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
      default: quoted.unicodeScalars.append(scalar)
      }
    }
    return quoted + "\""
  }

  /// The JSON string of valid UTF-8; nothing of it is left in other memory.
  package static func quote(_ bytes: [UInt8], isHTMLSafe: Bool = false) -> [UInt8] {
    var quoted = ErasingText(capacity: bytes.count * 6 + 2)
    quoted.append(0x22)
    for byte in bytes {
      switch byte {
      case 0x22, 0x5C:
        quoted.append(0x5C)
        quoted.append(byte)
      case 0x0A: quoted.append("\\n".utf8)
      case 0x0D: quoted.append("\\r".utf8)
      case 0x09: quoted.append("\\t".utf8)
      case _ where byte < 0x20 || isHTMLSafe && (byte == 0x3C || byte == 0x3E || byte == 0x26):
        let digits = String(byte, radix: 16)
        quoted.append("\\u00\(digits.utf8.count == 1 ? "0" : "")\(digits)".utf8)
      default: quoted.append(byte)
      }
    }
    quoted.append(0x22)
    return quoted.bytes
  }

  package static func == (left: JSONNode, right: JSONNode) -> Bool { left.json == right.json }
}

/// Where JSON breaks the grammar. Holds no text of the input.
package struct JSONError: Error, Equatable, CustomStringConvertible {
  /// From 1.
  package var line: Int
  package var reason: String
  package var description: String { "line \(line): \(reason)" }
}

/// A strict RFC 8259 parser: one value, UTF-8, at most 64 levels deep, no duplicate keys.
package struct JSONParser {
  private let bytes: [UInt8]
  private var index = 0
  private var depth = 0

  private let hides: Bool

  private init(_ bytes: [UInt8], hides: Bool) {
    self.bytes = bytes
    self.hides = hides
  }

  /// With `hides` texts become `hidden`, and nothing of them is left in other memory than theirs and `bytes`; keys are not
  /// hidden, and numbers neither.
  package static func parse(_ bytes: [UInt8], hides: Bool = false) throws(JSONError) -> JSONNode {
    var parser = JSONParser(bytes, hides: hides)
    parser.skipSpace()
    let node = try parser.value()
    parser.skipSpace()
    guard parser.index == bytes.count else { throw parser.failure("text after the value") }
    return node
  }

  private func failure(_ reason: String) -> JSONError {
    JSONError(line: 1 + bytes[..<min(index, bytes.count)].count { $0 == 0x0A }, reason: reason)
  }

  private var next: UInt8? { index < bytes.count ? bytes[index] : nil }

  private mutating func skipSpace() {
    while let byte = next, byte == 0x20 || byte == 0x0A || byte == 0x0D || byte == 0x09 { index += 1 }
  }

  private mutating func value() throws(JSONError) -> JSONNode {
    switch next {
    case UInt8(ascii: "{"): return try nested { parser throws(JSONError) in try parser.object() }
    case UInt8(ascii: "["): return try nested { parser throws(JSONError) in try parser.array() }
    case UInt8(ascii: "\""):
      guard hides else { return .string(try string()) }
      var text = ErasingText(capacity: lengthOfString)
      defer { text.bytes.erase() }
      try string(&text)
      guard text.bytes.withUnsafeBytes({ UTF8Octets.isText($0) }) else { throw failure("a string is not UTF-8") }
      return .hidden(HiddenText(text.bytes))
    case UInt8(ascii: "t"): return try word("true", .bool(true))
    case UInt8(ascii: "f"): return try word("false", .bool(false))
    case UInt8(ascii: "n"): return try word("null", .null)
    case UInt8(ascii: "-"), .some(0x30...0x39): return try number()
    case nil: throw failure("it ends where a value is expected")
    default: throw failure("a character that starts no value")
    }
  }

  private mutating func nested(
    _ body: (inout JSONParser) throws(JSONError) -> JSONNode
  ) throws(JSONError) -> JSONNode {
    guard depth < 64 else { throw failure("nested deeper than 64 levels") }
    depth += 1
    index += 1
    skipSpace()
    let node = try body(&self)
    depth -= 1
    return node
  }

  private mutating func word(_ text: String, _ node: JSONNode) throws(JSONError) -> JSONNode {
    guard bytes[index...].starts(with: text.utf8) else { throw failure("a character that starts no value") }
    index += text.utf8.count
    return node
  }

  private mutating func object() throws(JSONError) -> JSONNode {
    var members: [(key: String, value: JSONNode)] = []
    if take(UInt8(ascii: "}")) { return .object([]) }
    while true {
      guard next == UInt8(ascii: "\"") else { throw failure("an object's key must be a string") }
      let key = try string()
      guard !members.contains(where: { $0.key == key }) else { throw failure("a key is there twice") }
      skipSpace()
      guard take(UInt8(ascii: ":")) else { throw failure("`:` expected after a key") }
      skipSpace()
      members.append((key, try value()))
      skipSpace()
      if take(UInt8(ascii: "}")) { return .object(members) }
      guard take(UInt8(ascii: ",")) else { throw failure("`,` or `}` expected") }
      skipSpace()
    }
  }

  private mutating func array() throws(JSONError) -> JSONNode {
    var items: [JSONNode] = []
    if take(UInt8(ascii: "]")) { return .array([]) }
    while true {
      items.append(try value())
      skipSpace()
      if take(UInt8(ascii: "]")) { return .array(items) }
      guard take(UInt8(ascii: ",")) else { throw failure("`,` or `]` expected") }
      skipSpace()
    }
  }

  private mutating func take(_ byte: UInt8) -> Bool {
    guard next == byte else { return false }
    index += 1
    return true
  }

  private mutating func number() throws(JSONError) -> JSONNode {
    let start = index
    _ = take(UInt8(ascii: "-"))
    if !take(0x30) { try digits() }
    if take(UInt8(ascii: ".")) { try digits() }
    if take(UInt8(ascii: "e")) || take(UInt8(ascii: "E")) {
      if !take(UInt8(ascii: "+")) { _ = take(UInt8(ascii: "-")) }
      try digits()
    }
    return .number(String(decoding: bytes[start..<index], as: UTF8.self))
  }

  private mutating func digits() throws(JSONError) {
    let start = index
    while let byte = next, (0x30...0x39).contains(byte) { index += 1 }
    guard index > start else { throw failure("a digit expected in a number") }
  }

  private mutating func string() throws(JSONError) -> String {
    var text = ErasingText()
    try string(&text)
    guard let valid = String(validating: text.bytes, as: UTF8.self) else { throw failure("a string is not UTF-8") }
    return valid
  }

  /// No less than the octets of the string that starts here.
  private var lengthOfString: Int {
    var end = index + 1
    while end < bytes.count, bytes[end] != UInt8(ascii: "\"") { end += bytes[end] == 0x5C ? 2 : 1 }
    return end - index
  }

  private mutating func string(_ text: inout ErasingText) throws(JSONError) {
    index += 1
    while let byte = next {
      index += 1
      switch byte {
      case UInt8(ascii: "\""): return
      case UInt8(ascii: "\\"): try escape(&text)
      case 0..<0x20: throw failure("a control character in a string")
      default: text.append(byte)
      }
    }
    throw failure("a string does not end")
  }

  private mutating func escape(_ text: inout ErasingText) throws(JSONError) {
    guard let byte = next else { throw failure("a string does not end") }
    index += 1
    switch byte {
    case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): text.append(byte)
    case UInt8(ascii: "b"): text.append(0x08)
    case UInt8(ascii: "f"): text.append(0x0C)
    case UInt8(ascii: "n"): text.append(0x0A)
    case UInt8(ascii: "r"): text.append(0x0D)
    case UInt8(ascii: "t"): text.append(0x09)
    case UInt8(ascii: "u"):
      var code = try hexadecimal()
      if (0xD800..<0xDC00).contains(code), bytes[index...].starts(with: [0x5C, 0x75]) {
        index += 2
        let low = try hexadecimal()
        guard (0xDC00..<0xE000).contains(low) else { throw failure("half of a surrogate pair") }
        code = 0x10000 + (code - 0xD800) << 10 + (low - 0xDC00)
      }
      guard let scalar = Unicode.Scalar(code) else { throw failure("half of a surrogate pair") }
      text.append(Array(String(Character(scalar)).utf8))
    default: throw failure("an unknown escape in a string")
    }
  }

  private mutating func hexadecimal() throws(JSONError) -> UInt32 {
    guard index + 4 <= bytes.count,
      bytes[index..<(index + 4)].allSatisfy({ Character(Unicode.Scalar($0)).isHexDigit }),
      let code = UInt32(String(decoding: bytes[index..<(index + 4)], as: UTF8.self), radix: 16)
    else { throw failure("four hexadecimal digits expected after \\u") }
    index += 4
    return code
  }
}
