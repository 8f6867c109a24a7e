import Vocabulary

/// Log records of OTLP (opentelemetry-proto 1.3, `ExportLogsServiceRequest`), as protobuf and as JSON, written as one JSON
/// object a line: `@timestamp`, `level`, `message` (a text body) or `body`, `trace_id`, `span_id`, `attributes`,
/// `resource`, `scope`, `event_name`, each when it is there.
package enum OTLPLogs {
  /// Lists and maps within each other in a value.
  static let maximumDepth = 32

  private struct Record {
    var time: UInt64 = 0
    var observed: UInt64 = 0
    var severity = 0
    var severityText = ""
    var body = ""
    var bodyIsText = false
    var attributes: [String] = []
    var trace = ""
    var span = ""
    var event = ""
  }

  private struct Scope {
    var resource: [String] = []
    var name = ""
  }

  private static func write(_ record: Record, _ scope: Scope, into arena: ByteArena) {
    var members: [String] = []
    let time = record.time > 0 ? record.time : record.observed
    if time > 0, time < 9_000_000_000_000_000_000 {
      members.append("\"@timestamp\":\"\(LogTime.format(Int64(time)))\"")
    }
    if let level = level(record.severity) { members.append("\"level\":\"\(level)\"") }
    if !record.severityText.isEmpty { members.append("\"severity_text\":" + JSONNode.quote(record.severityText)) }
    if !record.body.isEmpty { members.append((record.bodyIsText ? "\"message\":" : "\"body\":") + record.body) }
    for (name, text) in [
      ("trace_id", record.trace), ("span_id", record.span), ("event_name", record.event), ("scope", scope.name),
    ]
    where !text.isEmpty { members.append("\"\(name)\":" + JSONNode.quote(text)) }
    if !record.attributes.isEmpty {
      members.append("\"attributes\":{" + record.attributes.joined(separator: ",") + "}")
    }
    if !scope.resource.isEmpty { members.append("\"resource\":{" + scope.resource.joined(separator: ",") + "}") }
    arena.append(text: "{" + members.joined(separator: ",") + "}\n")
  }

  /// SeverityNumber: four of each level, from 1.
  private static func level(_ severity: Int) -> String? {
    guard (1...24).contains(severity) else { return nil }
    return ["trace", "debug", "info", "warn", "error", "fatal"][(severity - 1) / 4]
  }

  private static func hex(_ bytes: Bytes) -> String {
    var text = ""
    for byte in bytes.prefix(32) {
      text.unicodeScalars.append(UnicodeScalar(JSONText.hexDigit(of: byte >> 4)))
      text.unicodeScalars.append(UnicodeScalar(JSONText.hexDigit(of: byte & 15)))
    }
    return text
  }

  // MARK: protobuf

  /// How many records were written; nil when the bytes are no such message, and nothing is written then.
  package static func writeProtobuf(_ bytes: Bytes, into arena: ByteArena) -> Int? {
    let before = arena.count
    var count = 0
    guard resources(bytes, &count, arena) else {
      arena.truncate(to: before)
      return nil
    }
    return count
  }

  /// Visits every field; false when the message is broken or `visit` says so.
  private static func each(_ bytes: Bytes, _ visit: (Int, ProtobufReader.Value) -> Bool) -> Bool {
    var reader = ProtobufReader(bytes)
    while let (field, value) = reader.next() { if !visit(field, value) { return false } }
    return !reader.isBroken
  }

  private static func resources(_ bytes: Bytes, _ count: inout Int, _ arena: ByteArena) -> Bool {
    each(bytes) { field, value in
      guard field == 1, case .bytes(let group) = value else { return field != 1 }
      var scope = Scope()
      // The resource first, wherever it stands.
      let isRead = each(group) { field, value in
        guard field == 1, case .bytes(let resource) = value else { return field != 1 }
        return each(resource) { field, value in
          guard field == 1, case .bytes(let pair) = value else { return true }
          return member(pair, 0).map { scope.resource.append($0) } != nil
        }
      }
      guard isRead else { return false }
      return each(group) { field, value in
        guard field == 2, case .bytes(let records) = value else { return field != 2 }
        return scoped(records, scope, &count, arena)
      }
    }
  }

  private static func scoped(_ bytes: Bytes, _ scope: Scope, _ count: inout Int, _ arena: ByteArena) -> Bool {
    var scope = scope
    let isNamed = each(bytes) { field, value in
      guard field == 1, case .bytes(let inner) = value else { return field != 1 }
      return each(inner) { field, value in
        if field == 1, case .bytes(let name) = value { scope.name = name.text }
        return true
      }
    }
    guard isNamed else { return false }
    return each(bytes) { field, value in
      guard field == 2, case .bytes(let inner) = value else { return field != 2 }
      guard let record = record(inner) else { return false }
      write(record, scope, into: arena)
      count += 1
      return true
    }
  }

  private static func record(_ bytes: Bytes) -> Record? {
    var record = Record()
    let isRead = each(bytes) { field, value in
      switch (field, value) {
      case (1, .number(let time)): record.time = time
      case (11, .number(let time)): record.observed = time
      case (2, .number(let number)): record.severity = Int(truncatingIfNeeded: number)
      case (3, .bytes(let text)): record.severityText = text.text
      case (5, .bytes(let body)):
        guard let (text, isText) = any(body, 0) else { return false }
        record.body = text
        record.bodyIsText = isText
      case (6, .bytes(let pair)):
        guard let member = member(pair, 0) else { return false }
        record.attributes.append(member)
      case (9, .bytes(let id)): record.trace = hex(id)
      case (10, .bytes(let id)): record.span = hex(id)
      case (12, .bytes(let name)): record.event = name.text
      case (1, _), (11, _), (5, _), (6, _): return false
      default: break
      }
      return true
    }
    return isRead ? record : nil
  }

  /// KeyValue as a member of a JSON object.
  private static func member(_ bytes: Bytes, _ depth: Int) -> String? {
    var key = ""
    var value = "null"
    let isRead = each(bytes) { field, part in
      guard case .bytes(let inner) = part else { return field > 2 }
      if field == 1 { key = inner.text }
      if field == 2 {
        guard let (text, _) = any(inner, depth + 1) else { return false }
        value = text
      }
      return true
    }
    return isRead ? JSONNode.quote(key) + ":" + value : nil
  }

  /// AnyValue as JSON, and whether it is a text.
  private static func any(_ bytes: Bytes, _ depth: Int) -> (String, Bool)? {
    guard depth <= maximumDepth else { return nil }
    var result = ("null", false)
    let isRead = each(bytes) { field, value in
      switch (field, value) {
      case (1, .bytes(let text)): result = (JSONNode.quote(text.text), true)
      case (2, .number(let flag)): result = (flag != 0 ? "true" : "false", false)
      case (3, .number(let number)): result = (String(Int64(bitPattern: number)), false)
      case (4, .number(let bits)):
        let number = Double(bitPattern: bits)
        result = (number.isFinite ? number.description : "null", false)
      case (5, .bytes(let inner)):
        var items: [String] = []
        let isWhole = each(inner) { field, value in
          guard field == 1, case .bytes(let item) = value else { return true }
          return any(item, depth + 1).map { items.append($0.0) } != nil
        }
        guard isWhole else { return false }
        result = ("[" + items.joined(separator: ",") + "]", false)
      case (6, .bytes(let inner)):
        var members: [String] = []
        let isWhole = each(inner) { field, value in
          guard field == 1, case .bytes(let pair) = value else { return true }
          return member(pair, depth).map { members.append($0) } != nil
        }
        guard isWhole else { return false }
        result = ("{" + members.joined(separator: ",") + "}", false)
      case (7, .bytes(let octets)):
        result = ("\"" + String(decoding: Base64Text.encode(Array(octets), padded: true), as: UTF8.self) + "\"", false)
      default: break
      }
      return true
    }
    return isRead ? result : nil
  }

  // MARK: JSON

  /// The same for the JSON form (proto3 JSON with hexadecimal ids).
  package static func writeJSON(_ bytes: Bytes, into arena: ByteArena) -> Int? {
    guard UTF8Text.isValid(bytes), let root = try? JSONParser.parse(Array(bytes)), case .object = root else {
      return nil
    }
    let before = arena.count
    var count = 0
    for group in items(root["resourceLogs"]) {
      var scope = Scope()
      scope.resource = members(group["resource"]?["attributes"], 0)
      for logs in items(group["scopeLogs"]) {
        scope.name = logs["scope"]?["name"]?.string ?? ""
        for entry in items(logs["logRecords"]) {
          guard case .object = entry else {
            arena.truncate(to: before)
            return nil
          }
          write(record(entry), scope, into: arena)
          count += 1
        }
      }
    }
    return count
  }

  private static func items(_ node: JSONNode?) -> [JSONNode] { if case .array(let items)? = node { items } else { [] } }

  private static func record(_ node: JSONNode) -> Record {
    var record = Record()
    record.time = node["timeUnixNano"].flatMap { UInt64($0.text) } ?? 0
    record.observed = node["observedTimeUnixNano"].flatMap { UInt64($0.text) } ?? 0
    record.severity = Int(node["severityNumber"]?.integer ?? 0)
    record.severityText = node["severityText"]?.string ?? ""
    if let body = node["body"] {
      record.body = any(body, 0)
      record.bodyIsText = body["stringValue"] != nil
    }
    record.attributes = members(node["attributes"], 0)
    record.trace = node["traceId"]?.string ?? ""
    record.span = node["spanId"]?.string ?? ""
    record.event = node["eventName"]?.string ?? ""
    return record
  }

  private static func members(_ node: JSONNode?, _ depth: Int) -> [String] {
    items(node).map { pair in
      JSONNode.quote(pair["key"]?.string ?? "") + ":" + (pair["value"].map { any($0, depth + 1) } ?? "null")
    }
  }

  private static func any(_ node: JSONNode, _ depth: Int) -> String {
    guard depth <= maximumDepth, case .object(let fields) = node, let (name, value) = fields.first else {
      return "null"
    }
    switch name {
    case "stringValue", "bytesValue": return JSONNode.quote(value.text)
    case "intValue": return Int64(value.text).map { String($0) } ?? "null"
    case "arrayValue": return "[" + items(value["values"]).map { any($0, depth + 1) }.joined(separator: ",") + "]"
    case "kvlistValue": return "{" + members(value["values"], depth).joined(separator: ",") + "}"
    case "boolValue", "doubleValue":
      // A double may be written "NaN".
      if case .string = value { return "null" }
      return value.json
    default: return "null"
    }
  }
}
