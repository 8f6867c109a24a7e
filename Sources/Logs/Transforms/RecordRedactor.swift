import RegularExpressions

/// Hides patterns and fields in the values of a record, at any depth, and leaves every other byte as it is. A hidden
/// number becomes a string. Owned by one thread.
final class RecordRedactor {
  private let scanner: PatternScanner
  /// Lower case.
  private let fields: [[UInt8]]
  private let hidesNumbers: Bool
  private var hits: [PatternScanner.Hit] = []
  private var pairs: [Logfmt.Pair] = []
  private let plain = ByteArena()
  private let output = ByteArena()
  private let key = ByteArena()
  /// By pattern, as `names` has them; the last are hidden fields.
  var counts: [UInt64]
  let names: [String]

  static let mask: StaticString = "***"

  init(_ rules: RedactionRules, _ workspace: MatchWorkspace) {
    scanner = PatternScanner(rules, workspace)
    fields = rules.fields.map { Array($0.lowercased().utf8) }
    hidesNumbers = rules.patterns.contains(.creditCard) || !rules.expressions.isEmpty
    names = scanner.names + ["field"]
    counts = Array(repeating: 0, count: names.count)
  }

  /// Expressions that gave up; what they looked at is hidden.
  var exceeded: UInt64 { scanner.exceeded }

  func redact(_ record: RecordFields, _ kind: RecordMark.Kind) {
    for index in record.members.indices {
      let member = record.members[index]
      let name = record.bytes.part(member.key)
      if isTime(name) { continue }
      output.removeAll()
      if isHidden(name) {
        guard !record.bytes.part(member.value).equals("\"***\"") else { continue }
        counts[counts.count - 1] += 1
        output.append("\"***\"")
      } else {
        let isLine = kind == .logfmt && member.role == .message
        guard value(record.bytes.part(member.value), isLine: isLine) else { continue }
      }
      record.members[index].value = record.keep(output.bytes)
      record.isChanged = true
    }
  }

  /// Our own stamps hold nothing of the app's.
  private func isTime(_ name: Bytes) -> Bool { name.equals("@timestamp") || name.equals("observed_timestamp") }

  private func isHidden(_ name: Bytes) -> Bool {
    guard !fields.isEmpty else { return false }
    var name = name
    if name.firstOffset(of: 0x5C) != nil {
      key.removeAll()
      JSONText.unescape(name, into: key)
      name = key.bytes
    }
    search: for field in fields where field.count == name.count {
      for (index, letter) in field.enumerated() {
        let byte = name[index]
        if letter != ((0x41...0x5A).contains(byte) ? byte | 0x20 : byte) { continue search }
      }
      return true
    }
    return false
  }

  /// Writes the value with everything hidden to `output`; false, and nothing is written, when there is nothing to hide.
  private func value(_ json: Bytes, isLine: Bool) -> Bool {
    var copied = 0
    var at = 0
    while at < json.count {
      let byte = json[at]
      if byte == 0x22 {
        let end = stringEnd(json, at)
        if !fields.isEmpty, let start = valueStart(json, behind: end), isHidden(json.part(at + 1..<end - 1)) {
          let stop = JSONScanner.valueEnd(json, from: start) ?? json.count
          output.append(json.part(copied..<start))
          output.append("\"***\"")
          counts[counts.count - 1] += 1
          (copied, at) = (stop, stop)
          continue
        }
        if string(json, at + 1..<end - 1, copied, isLine) { copied = end - 1 }
        at = end
      } else if hidesNumbers, byte == 0x2D || (0x30...0x39).contains(byte) {
        var end = at + 1
        while end < json.count, !", \t\r\n]}".utf8.contains(json[end]) { end += 1 }
        hits.removeAll(keepingCapacity: true)
        scanner.scan(json.part(at..<end), into: &hits)
        if let hit = hits.first {
          counts[hit.pattern] += 1
          output.append(json.part(copied..<at))
          output.append("\"***\"")
          copied = end
        }
        at = end
      } else {
        at += 1
      }
    }
    guard copied > 0 else { return false }
    output.append(json.part(copied..<json.count))
    return true
  }

  /// Behind the closing quote of the string that begins at `at`.
  private func stringEnd(_ json: Bytes, _ at: Int) -> Int {
    var index = at + 1
    while true {
      index = JSONText.plainEnd(json, from: index)
      guard index < json.count else { return json.count }
      if json[index] == 0x22 { return index + 1 }
      index += json[index] == 0x5C ? 2 : 1
    }
  }

  /// Where the value of the key that ends at `end` begins; nil when the string is no key.
  private func valueStart(_ json: Bytes, behind end: Int) -> Int? {
    var index = end
    func skip() { while index < json.count, " \t\r\n".utf8.contains(json[index]) { index += 1 } }
    skip()
    guard index < json.count, json[index] == 0x3A else { return nil }
    index += 1
    skip()
    return index < json.count ? index : nil
  }

  /// Hides within a string; true when `output` now reaches to its end, without the closing quote.
  private func string(_ json: Bytes, _ inside: Range<Int>, _ copied: Int, _ isLine: Bool) -> Bool {
    guard !inside.isEmpty else { return false }
    var text = json.part(inside)
    let isEscaped = text.firstOffset(of: 0x5C) != nil
    if isEscaped {
      plain.removeAll()
      JSONText.unescape(text, into: plain)
      text = plain.bytes
    }
    hits.removeAll(keepingCapacity: true)
    if !scanner.isEmpty { scanner.scan(text, into: &hits) }
    if isLine, !fields.isEmpty, Logfmt.parse(text, minimum: 1, into: &pairs) {
      for pair in pairs where !pair.value.isEmpty && isHidden(text.part(pair.key)) {
        hits.append(PatternScanner.Hit(range: pair.value, pattern: counts.count - 1))
      }
    }
    guard !hits.isEmpty else { return false }
    if hits.count > 1 { hits.sort { $0.range.lowerBound < $1.range.lowerBound } }
    output.append(json.part(copied..<inside.lowerBound))
    var done = 0
    for hit in hits where hit.range.upperBound > done {
      counts[hit.pattern] += 1
      if hit.range.lowerBound >= done {
        piece(text.part(done..<hit.range.lowerBound), isEscaped)
        output.append(Self.mask)
      }
      done = hit.range.upperBound
    }
    piece(text.part(done..<text.count), isEscaped)
    return true
  }

  private func piece(_ text: Bytes, _ isEscaped: Bool) {
    if isEscaped { JSONText.escape(text, into: output) } else { output.append(text) }
  }
}
