import CYAML
package import Vocabulary

/// The text of a YAML stream with its documents, each node with its place, so that a change touches nothing else.
///
/// Bounds: 4 MiB, 1000 documents, 64 levels. Anchors and aliases may be there; a place behind an alias cannot be changed.
package struct Manifest: Sendable {
  static let maxSize = 4 << 20
  static let maxDocuments = 1000
  static let maxDepth = 64

  struct Node: Sendable {
    struct Entry: Sendable {
      var key: String
      var start: Int
      var value: Node
    }
    enum Content: Sendable {
      case scalar(String, isPlain: Bool)
      case sequence([Node], isFlow: Bool)
      case mapping([Entry], isFlow: Bool)
      case alias(String)
    }
    /// Offsets in Unicode scalars; `end` is behind the last character that is not white space.
    var start: Int
    var end: Int
    var content: Content
  }

  let text: [Unicode.Scalar]
  private(set) var roots: [Node] = []

  package init(_ text: String) throws(InjectionError) {
    guard text.utf8.count <= Self.maxSize else {
      throw InjectionError("the file is larger than \(Self.maxSize >> 20) MiB; split it")
    }
    self.text = Array(text.unicodeScalars)
    roots = try ManifestReader.documents(Array(text.utf8), self.text)
  }

  package var string: String {
    var result = String.UnicodeScalarView()
    result.append(contentsOf: text)
    return String(result)
  }

  /// The documents as values; plain scalars are null, booleans and numbers where JSON has them.
  package var documents: [JSONNode] { roots.map(\.json) }
}

extension Manifest.Node {
  var json: JSONNode {
    switch content {
    case .scalar(let text, let isPlain): isPlain ? Self.plain(text) : .string(text)
    case .sequence(let items, _): .array(items.map(\.json))
    case .mapping(let entries, _): .object(entries.map { ($0.key, $0.value.json) })
    case .alias(let name): .object([("*", .string(name))])
    }
  }

  private static func plain(_ text: String) -> JSONNode {
    switch text {
    case "", "~", "null", "Null", "NULL": return .null
    case "true", "True", "TRUE": return .bool(true)
    case "false", "False", "FALSE": return .bool(false)
    default:
      if let number = try? JSONParser.parse(Array(text.utf8)), case .number = number { return number }
      return .string(text)
    }
  }

  var isNull: Bool { json == .null }
}

/// Events of libyaml into nodes.
private struct ManifestReader: ~Copyable {
  private let parser: UnsafeMutablePointer<yaml_parser_t>
  private let text: [Unicode.Scalar]

  static func documents(_ bytes: [UInt8], _ text: [Unicode.Scalar]) throws(InjectionError) -> [Manifest.Node] {
    let parser = UnsafeMutablePointer<yaml_parser_t>.allocate(capacity: 1)
    defer { parser.deallocate() }
    guard yaml_parser_initialize(parser) == 1 else { throw InjectionError("not enough memory to read the file") }
    defer { yaml_parser_delete(parser) }
    guard !bytes.starts(with: [0xEF, 0xBB, 0xBF]) else {
      throw InjectionError("the file begins with a byte order mark; save it as plain UTF-8")
    }
    let result: Result<[Manifest.Node], InjectionError> = bytes.withUnsafeBufferPointer { buffer in
      yaml_parser_set_encoding(parser, YAML_UTF8_ENCODING)
      yaml_parser_set_input_string(parser, buffer.baseAddress, buffer.count)
      let reader = ManifestReader(parser: parser, text: text)
      do throws(InjectionError) { return .success(try reader.stream()) } catch { return .failure(error) }
    }
    return try result.get()
  }

  private func next() throws(InjectionError) -> yaml_event_t {
    var event = yaml_event_t()
    guard yaml_parser_parse(parser, &event) == 1 else {
      let problem = parser.pointee.problem.map { String(cString: $0) } ?? "invalid YAML"
      let place = parser.pointee.problem_mark
      throw InjectionError(
        "line \(place.line + 1), column \(place.column + 1): \(problem); a template must be rendered first")
    }
    return event
  }

  private func stream() throws(InjectionError) -> [Manifest.Node] {
    var roots: [Manifest.Node] = []
    while true {
      var event = try next()
      defer { yaml_event_delete(&event) }
      switch event.type {
      case YAML_STREAM_END_EVENT: return roots
      case YAML_STREAM_START_EVENT, YAML_DOCUMENT_START_EVENT, YAML_DOCUMENT_END_EVENT: continue
      default:
        guard roots.count < Manifest.maxDocuments else {
          throw InjectionError("more than \(Manifest.maxDocuments) documents; split the file")
        }
        roots.append(try node(&event, 1))
      }
    }
  }

  private func node(_ event: inout yaml_event_t, _ depth: Int) throws(InjectionError) -> Manifest.Node {
    let start = Int(event.start_mark.index)
    guard depth <= Manifest.maxDepth else {
      throw InjectionError("line \(event.start_mark.line + 1): nested more than \(Manifest.maxDepth) levels deep")
    }
    switch event.type {
    case YAML_SCALAR_EVENT:
      let data = event.data.scalar
      let value = Self.string(data.value, data.length)
      let isPlain = data.style == YAML_PLAIN_SCALAR_STYLE && data.tag == nil
      return .init(start: start, end: trimmed(event, start), content: .scalar(value, isPlain: isPlain))
    case YAML_ALIAS_EVENT:
      let name = event.data.alias.anchor.map {
        String(cString: UnsafeRawPointer($0).assumingMemoryBound(to: CChar.self))
      }
      return .init(start: start, end: trimmed(event, start), content: .alias(name ?? ""))
    case YAML_SEQUENCE_START_EVENT:
      return try sequence(start, event.data.sequence_start.style == YAML_FLOW_SEQUENCE_STYLE, depth)
    case YAML_MAPPING_START_EVENT:
      return try mapping(start, event.data.mapping_start.style == YAML_FLOW_MAPPING_STYLE, depth)
    default: throw InjectionError("line \(event.start_mark.line + 1): a value is missing")
    }
  }

  private func sequence(_ start: Int, _ isFlow: Bool, _ depth: Int) throws(InjectionError) -> Manifest.Node {
    var items: [Manifest.Node] = []
    while true {
      var event = try next()
      defer { yaml_event_delete(&event) }
      if event.type == YAML_SEQUENCE_END_EVENT {
        let end = isFlow ? trimmed(event, start) : items.last?.end ?? start
        return .init(start: start, end: end, content: .sequence(items, isFlow: isFlow))
      }
      items.append(try node(&event, depth + 1))
    }
  }

  private func mapping(_ start: Int, _ isFlow: Bool, _ depth: Int) throws(InjectionError) -> Manifest.Node {
    var entries: [Manifest.Node.Entry] = []
    var keys: Set<String> = []
    while true {
      var event = try next()
      defer { yaml_event_delete(&event) }
      if event.type == YAML_MAPPING_END_EVENT {
        let end = isFlow ? trimmed(event, start) : entries.last?.value.end ?? start
        return .init(start: start, end: end, content: .mapping(entries, isFlow: isFlow))
      }
      guard event.type == YAML_SCALAR_EVENT else {
        throw InjectionError(
          "line \(event.start_mark.line + 1): a key must be a single word; a template must be rendered first")
      }
      let key = Self.string(event.data.scalar.value, event.data.scalar.length)
      // Merge keys may repeat; what they bring cannot be seen here.
      guard keys.insert(key).inserted || key == "<<" else {
        throw InjectionError("line \(event.start_mark.line + 1): `\(key)` is written twice; keep one of them")
      }
      var value = try next()
      defer { yaml_event_delete(&value) }
      entries.append(.init(key: key, start: Int(event.start_mark.index), value: try node(&value, depth + 1)))
    }
  }

  /// Where the event ends, without the white space behind it that libyaml counts in.
  private func trimmed(_ event: yaml_event_t, _ start: Int) -> Int {
    var end = min(Int(event.end_mark.index), text.count)
    while end > start, text[end - 1].properties.isWhitespace { end -= 1 }
    return end
  }

  private static func string(_ bytes: UnsafeMutablePointer<yaml_char_t>?, _ count: Int) -> String {
    bytes.map { String(decoding: UnsafeBufferPointer(start: $0, count: count), as: UTF8.self) } ?? ""
  }
}
