/// Logs as OTLP/HTTP has them in protobuf (opentelemetry-proto 1.x, `collector/logs/v1` and `logs/v1`).
package struct OTLPLogsFormat: SinkFormat {
  /// Values within each other; what lies deeper is sent as its JSON text.
  static let maximumDepth = 16

  private let service: String?
  private let host: String

  /// `host` is the machine's name.
  package init(_ options: LogSinkConfiguration.OTLPOutput, host: String) {
    service = options.service
    self.host = host
  }

  package func encode(_ batch: SinkBatch, _ chosen: [Int]) -> [UInt8] {
    let arena = ByteArena(capacity: chosen.reduce(256) { $0 + batch.items[$1].record.count + 64 })
    for source in batch.sources.indices {
      let positions = chosen.filter { batch.items[$0].source == source }
      if positions.isEmpty { continue }
      arena.append(field: 1) {
        arena.append(field: 1) {
          Self.attribute(1, "service.name", service ?? batch.sources[source], into: arena)
          Self.attribute(1, "host.name", host, into: arena)
        }
        arena.append(field: 2) {
          arena.append(field: 1) { arena.append(field: 1, text: "outrider") }
          for position in positions {
            arena.append(field: 2) { Self.record(batch.content(position), batch.items[position].mark, into: arena) }
          }
        }
      }
    }
    return Array(arena.bytes)
  }

  private static func attribute(_ field: Int, _ name: String, _ value: String, into arena: ByteArena) {
    arena.append(field: field) {
      arena.append(field: 1, text: name)
      arena.append(field: 2) { arena.append(field: 1, text: value) }
    }
  }

  private static func record(_ record: Bytes, _ mark: RecordMark, into arena: ByteArena) {
    arena.append(field: 1, fixed64: UInt64(max(0, mark.time)))
    if mark.level != .unknown {
      arena.append(field: 2, varint: severity(mark.level))
      arena.append(field: 3, text: mark.level.name.description)
    }
    var observed = mark.time
    var body: Range<Int>?
    var trace: [UInt8]?
    var span: [UInt8]?
    let inside = JSONScanner.object(record) { key, value in
      let name = record.part(key)
      let value = record.part(value)
      if body == nil, name.equals("message") || name.equals("msg") {
        body = key
        arena.append(field: 5) { any(value, depth: 0, into: arena) }
      } else if name.equals("@timestamp") || name.equals("level") {
        return
      } else if name.equals("observed_timestamp"), let time = JSONText.string(value).flatMap(time) {
        observed = time
      } else if name.equals("trace_id"), let id = identifier(value, octets: 16) {
        trace = id
      } else if name.equals("span_id"), let id = identifier(value, octets: 8) {
        span = id
      } else {
        member(6, name, value, depth: 0, into: arena)
      }
    }
    if inside == nil || body == nil {
      arena.append(field: 5) { arena.append(field: 1, bytes: record) }
    }
    trace?.withUnsafeBytes { arena.append(field: 9, bytes: $0) }
    span?.withUnsafeBytes { arena.append(field: 10, bytes: $0) }
    arena.append(field: 11, fixed64: UInt64(max(0, observed)))
  }

  /// The first of the four numbers that the log data model has for a level.
  static func severity(_ level: LogLevel) -> UInt64 { UInt64(level.rawValue - 1) * 4 + 1 }

  static func time(_ text: String) -> Int64? {
    var text = text
    return text.withUTF8 { LogTime.parse(Bytes($0)) }
  }

  static func identifier(_ value: Bytes, octets: Int) -> [UInt8]? {
    guard value.count == octets * 2 + 2, value[0] == 0x22 else { return nil }
    var result: [UInt8] = []
    for index in 0..<octets {
      guard let high = JSONText.hexDigit(value[1 + 2 * index]), let low = JSONText.hexDigit(value[2 + 2 * index]) else {
        return nil
      }
      result.append(UInt8(high << 4 | low))
    }
    return result.contains { $0 != 0 } ? result : nil
  }

  private static func string(_ field: Int, _ inner: Bytes, into arena: ByteArena) {
    if inner.firstOffset(of: 0x5C) == nil { return arena.append(field: field, bytes: inner) }
    let plain = ByteArena(capacity: inner.count)
    JSONText.unescape(inner, into: plain)
    arena.append(field: field, bytes: plain.bytes)
  }

  /// `KeyValue { key = 1, value = 2 }`
  private static func member(_ field: Int, _ name: Bytes, _ value: Bytes, depth: Int, into arena: ByteArena) {
    arena.append(field: field) {
      string(1, name, into: arena)
      arena.append(field: 2) { any(value, depth: depth, into: arena) }
    }
  }

  /// `AnyValue { string = 1, bool = 2, int = 3, double = 4, array = 5, kvlist = 6 }`; null is the empty one.
  private static func any(_ value: Bytes, depth: Int, into arena: ByteArena) {
    switch value.first {
    case 0x22: string(1, value.part(1..<value.count - 1), into: arena)
    case 0x74: arena.append(field: 2, varint: 1)
    case 0x66: arena.append(field: 2, varint: 0)
    case 0x6E: return
    case 0x5B where depth < maximumDepth:
      arena.append(field: 5) {
        _ = JSONScanner.array(value) { element in
          arena.append(field: 1) { any(value.part(element), depth: depth + 1, into: arena) }
        }
      }
    case 0x7B where depth < maximumDepth:
      arena.append(field: 6) {
        _ = JSONScanner.object(value) { key, inner in
          member(1, value.part(key), value.part(inner), depth: depth + 1, into: arena)
        }
      }
    case 0x5B, 0x7B: arena.append(field: 1, bytes: value)
    default:
      let text = value.text
      if let number = Int64(text) { return arena.append(field: 3, varint: UInt64(bitPattern: number)) }
      // A number that a double cannot hold keeps its digits as text.
      guard let number = Double(text), number.isFinite else { return arena.append(field: 1, bytes: value) }
      arena.append(field: 4, fixed64: number.bitPattern)
    }
  }

  /// The codes that may be tried again are those of the OTLP specification, "Failures"; a credential or an address that
  /// may heal is waited for as well.
  package func judge(_ answer: SinkAnswer, items: Int) -> SinkJudgement { Self.judge(answer, items: items) }

  static func judge(_ answer: SinkAnswer, items: Int) -> SinkJudgement {
    guard case .reply(let status, let after, let body) = answer else { return SinkStatus.judge(answer) }
    let shown = SinkStatus.shown(status, body)
    switch status {
    case 200..<300:
      guard let partial = body.withUnsafeBytes({ OTLPPartialSuccess($0) }) else {
        return .again("the answer is none of an OTLP receiver; is the url right?")
      }
      if partial.rejected <= 0 { return .stored }
      // Which ones it does not say: all of the request are kept in the dead letter, and none is sent twice.
      return .refused("the receiver rejected \(partial.rejected) of \(items) records: \(partial.message)")
    case 400, 413: return .split(shown)
    case 401, 403, 404, 407, 408, 429, 502, 503, 504: return .again(shown, after: after)
    case 300..<400: return .again(shown)
    default: return .refused(shown)
    }
  }
}

/// `ExportLogsServiceResponse { partial_success = 1 { rejected_log_records = 1, error_message = 2 } }`
package struct OTLPPartialSuccess: Sendable, Equatable {
  package var rejected: Int64 = 0
  package var message = ""

  /// Nil when the bytes are no such message. Receivers that answer in JSON have the empty object for success.
  package init?(_ body: Bytes) {
    if body.equals("{}") || body.equals("{\"partialSuccess\":{}}") { return }
    var outer = ProtobufReader(body)
    while let (field, value) = outer.next() {
      guard field == 1, case .bytes(let inner) = value else { continue }
      var reader = ProtobufReader(inner)
      while let (field, value) = reader.next() {
        if field == 1, case .number(let number) = value { rejected = Int64(bitPattern: number) }
        if field == 2, case .bytes(let text) = value { message = String(text.text.prefix(300)) }
      }
      if reader.isBroken { return nil }
    }
    if outer.isBroken { return nil }
  }
}
