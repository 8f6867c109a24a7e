import Vocabulary

/// Logs as OTLP/HTTP has them in JSON (opentelemetry-proto, "JSON Protobuf Encoding"): identifiers in hexadecimal, numbers
/// of 64 bits as strings. Values of records are JSON already and are spliced.
package struct OTLPJSONFormat: SinkFormat {
  private let service: String?
  private let host: String

  /// `host` is the machine's name.
  package init(_ options: LogSinkConfiguration.OTLPOutput, host: String) {
    service = options.service
    self.host = host
  }

  package func encode(_ batch: SinkBatch, _ chosen: [Int]) -> [UInt8] {
    let arena = ByteArena(capacity: chosen.reduce(256) { $0 + batch.items[$1].record.count + 256 })
    arena.append("{\"resourceLogs\":[")
    var isFirst = true
    for source in batch.sources.indices {
      let positions = chosen.filter { batch.items[$0].source == source }
      if positions.isEmpty { continue }
      arena.append(isFirst ? "{\"resource\":{\"attributes\":[" : ",{\"resource\":{\"attributes\":[")
      isFirst = false
      Self.attribute("\"service.name\"", JSONText.quoted(service ?? batch.sources[source]), into: arena)
      arena.append(0x2C as UInt8)
      Self.attribute("\"host.name\"", JSONText.quoted(host), into: arena)
      arena.append("]},\"scopeLogs\":[{\"scope\":{\"name\":\"outrider\"},\"logRecords\":[")
      for (order, position) in positions.enumerated() {
        if order > 0 { arena.append(0x2C as UInt8) }
        Self.record(batch.content(position), batch.items[position].mark, into: arena)
      }
      arena.append("]}]}")
    }
    arena.append("]}")
    return Array(arena.bytes)
  }

  private static func attribute(_ name: StaticString, _ value: [UInt8], into arena: ByteArena) {
    arena.append("{\"key\":")
    arena.append(name)
    arena.append(",\"value\":{\"stringValue\":")
    arena.append(value)
    arena.append("}}")
  }

  private static func record(_ record: Bytes, _ mark: RecordMark, into arena: ByteArena) {
    arena.append("{\"timeUnixNano\":\"")
    arena.append(decimal: max(0, mark.time))
    arena.append(0x22 as UInt8)
    if mark.level != .unknown {
      arena.append(",\"severityNumber\":")
      arena.append(decimal: Int64(OTLPLogsFormat.severity(mark.level)))
      arena.append(",\"severityText\":\"")
      arena.append(text: mark.level.name.description)
      arena.append(0x22 as UInt8)
    }
    var observed = mark.time
    var body: Range<Int>?
    var attributes: [(Range<Int>, Range<Int>)] = []
    let inside = JSONScanner.object(record) { key, value in
      let name = record.part(key)
      let content = record.part(value)
      if body == nil, name.equals("message") || name.equals("msg") {
        body = value
      } else if name.equals("@timestamp") || name.equals("level") {
        return
      } else if name.equals("observed_timestamp"), let time = JSONText.string(content).flatMap(OTLPLogsFormat.time) {
        observed = time
      } else if name.equals("trace_id"), OTLPLogsFormat.identifier(content, octets: 16) != nil {
        arena.append(",\"traceId\":")
        arena.append(content)
      } else if name.equals("span_id"), OTLPLogsFormat.identifier(content, octets: 8) != nil {
        arena.append(",\"spanId\":")
        arena.append(content)
      } else {
        attributes.append((key, value))
      }
    }
    arena.append(",\"observedTimeUnixNano\":\"")
    arena.append(decimal: max(0, observed))
    arena.append("\",\"body\":")
    if inside != nil, let body {
      any(record.part(body), depth: 0, into: arena)
    } else {
      text(record, into: arena)
    }
    arena.append(",\"attributes\":")
    members(record, attributes, depth: 0, into: arena)
    arena.append(0x7D as UInt8)
  }

  private static func text(_ bytes: Bytes, into arena: ByteArena) {
    arena.append("{\"stringValue\":\"")
    JSONText.escape(bytes, into: arena)
    arena.append("\"}")
  }

  /// An array of `KeyValue`; keys stand without their quotes in `json`, escaped as they are.
  private static func members(
    _ json: Bytes, _ members: [(Range<Int>, Range<Int>)], depth: Int, into arena: ByteArena
  ) {
    arena.append(0x5B as UInt8)
    for (order, (key, value)) in members.enumerated() {
      arena.append(order == 0 ? "{\"key\":\"" : ",{\"key\":\"")
      arena.append(json.part(key))
      arena.append("\",\"value\":")
      any(json.part(value), depth: depth, into: arena)
      arena.append(0x7D as UInt8)
    }
    arena.append(0x5D as UInt8)
  }

  private static func any(_ value: Bytes, depth: Int, into arena: ByteArena) {
    func wrapped(_ name: StaticString) {
      arena.append(name)
      arena.append(value)
      arena.append(0x7D as UInt8)
    }
    switch value.first {
    case 0x22: wrapped("{\"stringValue\":")
    case 0x74, 0x66: wrapped("{\"boolValue\":")
    case 0x6E: arena.append("{}")
    case 0x5B where depth < OTLPLogsFormat.maximumDepth:
      arena.append("{\"arrayValue\":{\"values\":[")
      var isFirst = true
      _ = JSONScanner.array(value) { element in
        if !isFirst { arena.append(0x2C as UInt8) }
        isFirst = false
        any(value.part(element), depth: depth + 1, into: arena)
      }
      arena.append("]}}")
    case 0x7B where depth < OTLPLogsFormat.maximumDepth:
      var inner: [(Range<Int>, Range<Int>)] = []
      _ = JSONScanner.object(value) { key, content in inner.append((key, content)) }
      arena.append("{\"kvlistValue\":{\"values\":")
      members(value, inner, depth: depth + 1, into: arena)
      arena.append("}}")
    case 0x5B, 0x7B: text(value, into: arena)
    default:
      let digits = value.text
      if Int64(digits) != nil {
        arena.append("{\"intValue\":\"")
        arena.append(value)
        arena.append("\"}")
      } else if let number = Double(digits), number.isFinite {
        wrapped("{\"doubleValue\":")
      } else {
        // A number that a double cannot hold keeps its digits as text.
        text(value, into: arena)
      }
    }
  }

  package func judge(_ answer: SinkAnswer, items: Int) -> SinkJudgement {
    guard case .reply(let status, _, let body) = answer, (200..<300).contains(status), !body.isEmpty else {
      return OTLPLogsFormat.judge(answer, items: items)
    }
    let partial = PartialSuccessText.partialSuccess(body)
    guard let partial else { return .again("the answer is none of an OTLP receiver; is the url right?") }
    if partial.rejected <= 0 { return .stored }
    return .refused("the receiver rejected \(partial.rejected) of \(items) records: \(partial.message)")
  }
}

/// `{"partialSuccess":{"rejectedLogRecords":"3","errorMessage":"…"}}`
private enum PartialSuccessText {
  static func partialSuccess(_ body: [UInt8]) -> (rejected: Int64, message: String)? {
    body.withUnsafeBytes { body -> (Int64, String)? in
      guard body.count <= 64 << 10, UTF8Text.isValid(body) else { return nil }
      var rejected: Int64 = 0
      var message = ""
      let whole = JSONScanner.object(body) { key, value in
        guard body.part(key).equals("partialSuccess") else { return }
        let inner = body.part(value)
        _ = JSONScanner.object(inner) { key, value in
          let value = inner.part(value)
          if inner.part(key).equals("rejectedLogRecords") {
            rejected = Int64(JSONText.string(value) ?? value.text) ?? 0
          }
          if inner.part(key).equals("errorMessage") { message = String((JSONText.string(value) ?? "").prefix(300)) }
        }
      }
      return whole == nil ? nil : (rejected, message)
    }
  }
}
