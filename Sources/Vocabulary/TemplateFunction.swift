/// The functions of the template language. What is piped comes as the last argument.
enum TemplateFunction: String, CaseIterable {
  case secret, pkiCert, env, base64Decode, base64Encode, toJSON, indent, trimSpace, split, join, index
  case eq, ne, not, and, or

  /// How many arguments it takes.
  var arguments: ClosedRange<Int> {
    switch self {
    case .secret, .pkiCert: 1...16
    case .env, .base64Decode, .base64Encode, .toJSON, .trimSpace, .not: 1...1
    case .indent, .split, .join, .eq, .ne: 2...2
    case .index: 2...8
    case .and, .or: 1...16
    }
  }

  /// A field that is not there counts as false.
  var takesMissing: Bool { self == .not || self == .and || self == .or }

  /// Gives texts that nobody else holds.
  var makesText: Bool {
    switch self {
    case .secret, .pkiCert, .index, .and, .or, .not, .eq, .ne: false
    case .env, .base64Decode, .base64Encode, .toJSON, .trimSpace, .indent, .split, .join: true
    }
  }

  typealias Reason = BlockTemplate.Reason

  /// `arguments` are as many as `arguments` says.
  func apply(_ given: [TemplateValue], environment: (String) -> String?) throws(Reason) -> TemplateValue {
    switch self {
    case .secret, .pkiCert: throw Reason("not here")
    case .env: return .text(environment(String(decoding: try Self.octets(given[0]), as: UTF8.self)) ?? "")
    case .base64Decode:
      let text = Self.trimmed(try Self.octets(given[0]))
      defer { text.erase() }
      guard let bytes = Base64Text.decode(text, padded: true) ?? Base64Text.decode(text) else {
        throw Reason("the value is not base64")
      }
      return .string(bytes)
    case .base64Encode: return .string(Base64Text.encode(try Self.octets(given[0]), padded: true))
    case .toJSON:
      var text = ErasingText()
      try Self.json(given[0], into: &text)
      return .string(text.bytes)
    case .trimSpace: return .string(Self.trimmed(try Self.octets(given[0])))
    case .indent: return .string(try Self.indented(given[0], given[1]))
    case .split:
      let text = Self.trimmed(try Self.octets(given[1]))
      defer { text.erase() }
      return .list(text.isEmpty ? [] : Self.pieces(text, by: try Self.octets(given[0])))
    case .join:
      guard case .list(let items) = given[1] else { throw Reason("the last argument is no list") }
      let separator = try Self.octets(given[0])
      var text = ErasingText()
      for (index, item) in items.enumerated() {
        if index > 0 { text.append(separator) }
        text.append(try Self.octets(item))
      }
      return .string(text.bytes)
    case .index: return try Self.element(given)
    case .eq: return .bool(given[0] == given[1])
    case .ne: return .bool(given[0] != given[1])
    case .not: return .bool(!given[0].isTrue)
    case .and: return given.first { !$0.isTrue } ?? given[given.count - 1]
    case .or: return given.first { $0.isTrue } ?? given[given.count - 1]
    }
  }

  private static func octets(_ value: TemplateValue) throws(Reason) -> [UInt8] {
    switch value {
    case .string(let bytes): return bytes
    case .number(let number): return Array(String(number).utf8)
    case .bool(let flag): return Array((flag ? "true" : "false").utf8)
    case .list, .map, .missing: throw Reason("a text is expected")
    }
  }

  private static func trimmed(_ value: [UInt8]) -> [UInt8] {
    let isSpace = { (byte: UInt8) in byte == 0x20 || (0x09...0x0D).contains(byte) }
    let start = value.drop(while: isSpace)
    guard let end = start.lastIndex(where: { !isSpace($0) }) else { return [] }
    return start[...end].map { $0 }
  }

  /// As consul-template: every line that holds something.
  private static func indented(_ count: TemplateValue, _ text: TemplateValue) throws(Reason) -> [UInt8] {
    guard case .number(let count) = count, (0...256).contains(count) else {
      throw Reason("the first argument is a number from 0 to 256")
    }
    var result = ErasingText()
    var isStart = true
    for byte in try octets(text) {
      if isStart, byte != 0x0A { result.append(repeatElement(0x20, count: count)) }
      result.append(byte)
      isStart = byte == 0x0A
    }
    return result.bytes
  }

  /// As consul-template, of what was trimmed; an empty separator parts every character.
  private static func pieces(_ text: [UInt8], by separator: [UInt8]) -> [TemplateValue] {
    guard !separator.isEmpty else {
      var pieces: [TemplateValue] = []
      var octets = text.makeIterator()
      var decoder = UTF8()
      while true {
        switch decoder.decode(&octets) {
        case .emptyInput: return pieces
        case .scalarValue(let character): pieces.append(.string(UTF8.encode(character).map { Array($0) } ?? []))
        case .error: pieces.append(.text("\u{FFFD}"))
        }
      }
    }
    var pieces: [TemplateValue] = []
    var start = 0
    var at = 0
    while at + separator.count <= text.count {
      if text[at] == separator[0], text[at..<(at + separator.count)].elementsEqual(separator) {
        pieces.append(.string(Array(text[start..<at])))
        at += separator.count
        start = at
      } else {
        at += 1
      }
    }
    // A copy in any case: the text is erased.
    pieces.append(.string(text[start...].map { $0 }))
    return pieces
  }

  private static func element(_ given: [TemplateValue]) throws(Reason) -> TemplateValue {
    var value = given[0]
    for key in given.dropFirst() {
      switch (value, key) {
      case (.map, _):
        let name = String(decoding: try octets(key), as: UTF8.self)
        guard let found = value[name] else { return .missing("there is no field of the name that `index` is given") }
        value = found
      case (.list(let items), .number(let number)):
        guard items.indices.contains(number) else { return .missing("there is no element \(number)") }
        value = items[number]
      default: throw Reason("a list or a map is expected, and a key that fits it")
      }
    }
    return value
  }

  /// As Go's json.Marshal, which escapes `<`, `>` and `&`.
  private static func json(_ value: TemplateValue, into text: inout ErasingText) throws(Reason) {
    switch value {
    case .missing(let reason): throw Reason(reason)
    case .number(let number): text.append(String(number).utf8)
    case .bool(let flag): text.append((flag ? "true" : "false").utf8)
    case .string(let bytes): quote(bytes, into: &text)
    case .list(let items):
      text.append(UInt8(ascii: "["))
      for (index, item) in items.enumerated() {
        if index > 0 { text.append(UInt8(ascii: ",")) }
        try json(item, into: &text)
      }
      text.append(UInt8(ascii: "]"))
    case .map(let entries):
      text.append(UInt8(ascii: "{"))
      for (index, entry) in entries.enumerated() {
        if index > 0 { text.append(UInt8(ascii: ",")) }
        quote(Array(entry.key.utf8), into: &text)
        text.append(UInt8(ascii: ":"))
        try json(entry.value, into: &text)
      }
      text.append(UInt8(ascii: "}"))
    }
  }

  private static func quote(_ bytes: [UInt8], into text: inout ErasingText) {
    let isText = bytes.withUnsafeBytes { UTF8Octets.isText($0) }
    let quoted = JSONNode.quote(isText ? bytes : Array(String(decoding: bytes, as: UTF8.self).utf8), isHTMLSafe: true)
    text.append(quoted)
    quoted.erase()
  }
}
