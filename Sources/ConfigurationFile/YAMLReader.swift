import CYAML

/// Reads one YAML document into nodes with marks. Bounds: 64 levels; no aliases; tags of the core schema only.
struct YAMLReader {
  static let maxDepth = 64

  private let report: ProblemReport
  private let file: Int
  private let parser: UnsafeMutablePointer<yaml_parser_t>

  private struct Stop: Error {}

  /// nil = empty file or problems, which are in the report.
  static func read(_ bytes: [UInt8], file: Int, report: ProblemReport) -> Node? {
    let parser = UnsafeMutablePointer<yaml_parser_t>.allocate(capacity: 1)
    defer { parser.deallocate() }
    guard yaml_parser_initialize(parser) == 1 else {
      report.error(Mark(file: file, line: 1, column: 1), "not enough memory to read this file")
      return nil
    }
    defer { yaml_parser_delete(parser) }
    return bytes.withUnsafeBufferPointer { buffer in
      yaml_parser_set_input_string(parser, buffer.baseAddress, buffer.count)
      let reader = YAMLReader(report: report, file: file, parser: parser)
      do throws(Stop) { return try reader.document() } catch { return nil }
    }
  }

  private func next() throws(Stop) -> yaml_event_t {
    var event = yaml_event_t()
    guard yaml_parser_parse(parser, &event) == 1 else {
      syntaxError()
      throw Stop()
    }
    return event
  }

  private func syntaxError() {
    let problem = parser.pointee.problem.map { String(cString: $0) } ?? "invalid YAML"
    let context = parser.pointee.context.map { " \(String(cString: $0))" } ?? ""
    let place = mark(parser.pointee.problem_mark)
    if parser.pointee.error == YAML_READER_ERROR {
      report.error(
        Mark(file: file, line: parser.pointee.mark.line + 1, column: parser.pointee.mark.column + 1),
        "invalid YAML: \(problem), \(parser.pointee.problem_offset) bytes into the file", "save the file as UTF-8 text")
      return
    }
    let line = report.files[file].lines.indices.contains(place.line - 1) ? report.files[file].lines[place.line - 1] : ""
    let wayOut =
      line.contains("${")
      ? "between brackets, quote values that hold `${…}`: `\"${NAME}\"`"
      : problem.contains("start any token")
        ? "indent with spaces, not tabs, and quote values that begin with `@`, `` ` `` or `%`"
        : "check the indentation, the brackets and the quotes here and on the line before"
    report.error(place, "invalid YAML: \(problem)\(context)", wayOut)
  }

  private func mark(_ mark: yaml_mark_t) -> Mark { Mark(file: file, line: mark.line + 1, column: mark.column + 1) }

  private func document() throws(Stop) -> Node? {
    var root: Node?
    while true {
      var event = try next()
      defer { yaml_event_delete(&event) }
      switch event.type {
      case YAML_STREAM_START_EVENT, YAML_DOCUMENT_END_EVENT: continue
      case YAML_STREAM_END_EVENT: return root
      case YAML_DOCUMENT_START_EVENT:
        if root != nil {
          report.error(
            mark(event.start_mark), "a second document begins here", "keep one document a file, and use `include`")
          throw Stop()
        }
        var first = try next()
        defer { yaml_event_delete(&first) }
        root = try node(&first, depth: 1)
      default:
        report.error(mark(event.start_mark), "invalid YAML: content outside of the document", "indent it")
        throw Stop()
      }
    }
  }

  private func node(_ event: inout yaml_event_t, depth: Int) throws(Stop) -> Node {
    let place = mark(event.start_mark)
    guard depth <= Self.maxDepth else {
      report.error(place, "nested more than \(Self.maxDepth) levels deep", "flatten this part of the file")
      throw Stop()
    }
    switch event.type {
    case YAML_SCALAR_EVENT:
      return Node(mark: place, content: .scalar(scalar(event, place)))
    case YAML_SEQUENCE_START_EVENT:
      checkTag(event.data.sequence_start.tag, ["seq"], place)
      return Node(mark: place, content: .sequence(try sequence(depth)))
    case YAML_MAPPING_START_EVENT:
      checkTag(event.data.mapping_start.tag, ["map"], place)
      return Node(mark: place, content: .mapping(try mapping(depth)))
    case YAML_ALIAS_EVENT:
      report.error(place, "aliases (`*name`) are not supported", "write the value out here, or use `${NAME}`")
      throw Stop()
    default:
      report.error(place, "invalid YAML: a value is missing", "write a value")
      throw Stop()
    }
  }

  private func scalar(_ event: yaml_event_t, _ place: Mark) -> Node.Scalar {
    let data = event.data.scalar
    let text =
      data.value.map { String(decoding: UnsafeBufferPointer(start: $0, count: data.length), as: UTF8.self) } ?? ""
    checkTag(data.tag, ["str", "int", "float", "bool", "null"], place)
    return Node.Scalar(raw: text, isQuoted: data.style != YAML_PLAIN_SCALAR_STYLE || data.tag != nil)
  }

  private func checkTag(_ tag: UnsafeMutablePointer<yaml_char_t>?, _ allowed: [String], _ place: Mark) {
    guard let tag else { return }
    let name = String(cString: UnsafeRawPointer(tag).assumingMemoryBound(to: CChar.self))
    guard name != "!", !allowed.contains(where: { "tag:yaml.org,2002:\($0)" == name }) else { return }
    report.error(place, "the tag `\(name)` is not supported", "remove it")
  }

  private func sequence(_ depth: Int) throws(Stop) -> [Node] {
    var nodes: [Node] = []
    while true {
      var event = try next()
      defer { yaml_event_delete(&event) }
      if event.type == YAML_SEQUENCE_END_EVENT { return nodes }
      nodes.append(try node(&event, depth: depth + 1))
    }
  }

  private func mapping(_ depth: Int) throws(Stop) -> [Node.Entry] {
    var entries: [Node.Entry] = []
    var seen: [String: Mark] = [:]
    while true {
      var event = try next()
      defer { yaml_event_delete(&event) }
      if event.type == YAML_MAPPING_END_EVENT { return entries }
      let place = mark(event.start_mark)
      guard event.type == YAML_SCALAR_EVENT else {
        report.error(place, "a key must be a single word", "quote it if it begins with `*`, `&`, `[` or `{`")
        throw Stop()
      }
      let key = scalar(event, place).raw
      var valueEvent = try next()
      defer { yaml_event_delete(&valueEvent) }
      let value = try node(&valueEvent, depth: depth + 1)
      if let first = seen[key] {
        report.error(place, "`\(key)` is written twice; first at \(report.place(first))", "keep one of them")
      } else if key == "<<" {
        report.error(place, "merge keys (`<<`) are not supported", "write the keys out")
      } else {
        seen[key] = place
        entries.append(Node.Entry(key: key, keyMark: place, value: value))
      }
    }
  }
}
