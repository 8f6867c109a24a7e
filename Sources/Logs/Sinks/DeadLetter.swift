/// A line of a dead-letter file: `{"reason":…,"sink":…,"time":…,"record":{…}}`.
package struct DeadLetter: Sendable, Equatable {
  package var reason: String
  /// When it was refused, RFC 3339.
  package var time: String
  /// The record in the line.
  package var record: Range<Int>

  /// Nil when the line (without its LF) is none.
  package init?(_ line: Bytes) {
    guard UTF8Text.isValid(line) else { return nil }
    var reason: String?
    var time = ""
    var record: Range<Int>?
    let whole = JSONScanner.object(line) { key, value in
      let name = line.part(key)
      if name.equals("reason") { reason = JSONText.string(line.part(value)) }
      if name.equals("time") { time = JSONText.string(line.part(value)) ?? "" }
      if name.equals("record"), line[value.lowerBound] == 0x7B { record = value }
    }
    guard whole != nil, let reason, let record else { return nil }
    self.reason = reason
    self.time = time
    self.record = record
  }

  /// What the spool knew of a record, found in the record itself; `now` (nanoseconds since 1970) when it has no time.
  package static func mark(of record: Bytes, now: Int64) -> (mark: RecordMark, source: String) {
    var mark = RecordMark(stream: .none, kind: .json, level: .unknown, time: now, body: 1, truncated: false)
    var source = "dead-letter"
    var isStamped = false
    _ = JSONScanner.object(record) { key, value in
      let name = record.part(key)
      guard var text = JSONText.string(record.part(value)) else { return }
      if name.equals("@timestamp") || (name.equals("observed_timestamp") && !isStamped) {
        guard let time = text.withUTF8({ LogTime.parse(Bytes($0)) }) else { return }
        mark.time = time
        isStamped = name.equals("@timestamp")
      }
      if name.equals("level") { mark.level = LogLevel(text) ?? .unknown }
      if name.equals("stream") { mark.stream = text == "stderr" ? .stderr : text == "stdout" ? .stdout : .none }
      if name.equals("source") { source = text }
    }
    return (mark, source)
  }
}
