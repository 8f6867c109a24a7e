/// Reads finished records: the raw line for the console, and a line for people.
package enum RecordView {
  /// Appends the line as the app wrote it (secrets aside), without LF. `record` may end in LF.
  package static func appendRaw(_ record: Bytes, _ mark: RecordMark, into arena: ByteArena) {
    var end = record.count
    while end > 0, record[end - 1] == 0x0A { end -= 1 }
    guard mark.body <= end else { return }
    switch mark.kind {
    case .json:
      arena.append(0x7B as UInt8)
      // A record of an empty object ends right at the body.
      arena.append(record.part(mark.body..<end))
    case .text, .logfmt:
      var index = mark.body
      while index < end {
        index = JSONText.plainEnd(record, from: index)
        guard index < end, record[index] != 0x22 else { break }
        index += record[index] == 0x5C ? 2 : 1
      }
      JSONText.unescape(record.part(mark.body..<min(index, end)), into: arena)
    }
  }

  private static let front: Set<String> = [
    "@timestamp", "observed_timestamp", "source", "outrider.source", "stream", "level", "message", "msg",
  ]

  /// `12:00:00.000 WARN  app  message  key=value …`; colours by level when `colour` is set. A line that is no record is
  /// returned as it is. Control characters are shown escaped, so that a record cannot steer the terminal.
  package static func pretty(_ record: Bytes, colour: Bool) -> String {
    var fields: [(String, String)] = []
    var named: [String: String] = [:]
    let whole = JSONScanner.object(record) { key, value in
      let name = record.part(key).text
      let text = JSONText.string(record.part(value)) ?? record.part(value).text
      if front.contains(name) { named[name] = text } else { fields.append((name, text)) }
    }
    guard whole != nil else { return safe(record.text) }
    let level = named["level"].flatMap { LogLevel($0) } ?? .unknown
    let stamp = named["@timestamp"] ?? named["observed_timestamp"] ?? ""
    var line = stamp.utf8.count >= 23 ? String(stamp.prefix(23).dropFirst(11)) : stamp
    let word = level.name.description.uppercased()
    let padded = word + String(repeating: " ", count: max(0, 5 - word.utf8.count))
    line += " " + (colour ? paint(padded, level) : padded)
    line += " " + (named["outrider.source"] ?? named["source"] ?? "-")
    if named["stream"] == "stderr" { line += "!" }
    if let message = named["message"] ?? named["msg"] { line += " " + safe(message) }
    for (name, text) in fields { line += " " + safe(name) + "=" + safe(text.contains(" ") ? "\"\(text)\"" : text) }
    return line
  }

  private static func paint(_ text: String, _ level: LogLevel) -> String {
    switch level {
    case .unknown: text
    case .trace, .debug: "\u{1B}[2m\(text)\u{1B}[0m"
    case .info: "\u{1B}[32m\(text)\u{1B}[0m"
    case .warn: "\u{1B}[33m\(text)\u{1B}[0m"
    case .error, .fatal: "\u{1B}[31m\(text)\u{1B}[0m"
    }
  }

  private static func safe(_ text: String) -> String {
    guard text.unicodeScalars.contains(where: { isControl($0) }) else { return text }
    var result = ""
    for scalar in text.unicodeScalars {
      if isControl(scalar) {
        result += scalar == "\n" ? "\\n" : "\\x" + (scalar.value < 16 ? "0" : "") + String(scalar.value, radix: 16)
      } else {
        result.unicodeScalars.append(scalar)
      }
    }
    return result
  }

  private static func isControl(_ scalar: Unicode.Scalar) -> Bool {
    (scalar.value < 0x20 && scalar != "\t") || (0x7F...0x9F).contains(scalar.value)
  }
}
