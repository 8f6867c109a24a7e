package import Telemetry

/// The stream a record came from.
package enum LogStream: UInt8, Sendable, CaseIterable {
  case none, stdout, stderr
}

/// What the spool keeps of a record beside its bytes.
package struct RecordMark: Sendable, Equatable {
  package enum Kind: UInt8, Sendable { case text, logfmt, json }
  package var stream: LogStream
  package var kind: Kind
  package var level: LogLevel
  /// Nanoseconds since 1970: the app's time when it gave one, else the arrival.
  package var time: Int64
  /// Where the app's own bytes begin in the record: the inside of its JSON object, or of the message string.
  package var body: Int
  package var truncated: Bool

  package init(stream: LogStream, kind: Kind, level: LogLevel, time: Int64, body: Int, truncated: Bool) {
    self.stream = stream
    self.kind = kind
    self.level = level
    self.time = time
    self.body = body
    self.truncated = truncated
  }
}

/// Makes records of lines: one JSON object a line, the app's JSON passed through as it stands. Owned by one thread.
///
/// A record is `{"@timestamp":…,"source":…,"stream":…,"level":…,"message":…,` and the app's own fields. A field that the
/// app's object already has is not written twice: the app's stands, and `source` moves to `outrider.source`.
package final class RecordEncoder {
  private enum Key {
    static let timestamp = 0, source = 1, stream = 2, level = 3, truncated = 5, invalid = 6, observed = 7
    /// Bits of those that may tell the level, and the time; the lower ones first.
    static let levels: UInt64 = 1 << 3 | 1 << 8 | 1 << 9 | 1 << 10
    static let times: UInt64 = 1 << 0 | 1 << 11 | 1 << 12 | 1 << 13
  }
  private static let names: [StaticString] = [
    "@timestamp", "source", "stream", "level", "message", "truncated", "invalid_utf8", "observed_timestamp",
    "severity", "lvl", "log.level", "timestamp", "time", "ts",
  ]

  private let parser: LogSourceConfiguration.Parser
  private let source: [UInt8]
  private let added: [(name: [UInt8], member: [UInt8])]
  private let removed: [[UInt8]]
  private let lowest: LogLevel
  private let redacts: Bool
  private let names: [[UInt8]]
  /// By length (63 for all that are longer), the bits of the names that have it.
  private let byLength: [UInt64]
  private let prints: [NamePrint]

  /// `","source":` and what stands there.
  private let sourceMember: [UInt8]
  private let redacted = ByteArena()
  private let plain = ByteArena(capacity: 64)
  private let repaired = ByteArena()
  private var pairs: [Logfmt.Pair] = []
  private var seen: UInt64 = 0
  private var values: [Range<Int>]
  private var cuts: [(Range<Int>, Range<Int>)] = []
  private var stamp: (time: Int64, text: [UInt8]) = (.min, [])
  private var times = TimeMemory()
  /// Where the record's time stands and how it is written, besides the fields that are known.
  private let timestamp: TimestampRule?
  private let timeField: [UInt8]?
  private var timeValue: Range<Int>?
  /// The time that came with the line, when it has none itself.
  private var given: Int64?

  private let chain: TransformChain?

  /// `source` is the source's name as configured; `metrics` takes what the transforms count.
  package init(
    source: String, parser: LogSourceConfiguration.Parser = .auto, transforms: [LogTransform] = [],
    timestamp: TimestampRule? = nil, metrics: MetricRegistry = MetricRegistry()
  ) {
    self.parser = parser
    self.timestamp = timestamp
    timeField = timestamp?.field.map { Array(JSONText.quoted($0).dropFirst().dropLast()) }
    self.source = JSONText.quoted(source)
    let isChained = TransformChain.isNeeded(transforms)
    chain = isChained ? TransformChain(transforms, source: source, metrics: metrics) : nil
    var added: [(name: [UInt8], member: [UInt8])] = []
    var removed: [[UInt8]] = []
    var lowest = LogLevel.unknown
    var redacts = true
    for transform in transforms {
      switch transform {
      case .redactSecrets(let on): redacts = on
      // The chain keeps their order with the others.
      case _ where isChained: break
      case .add(let fields):
        for (name, value) in fields.sorted(by: { $0.key < $1.key }) {
          let key = JSONText.quoted(name)
          added.removeAll { $0.name == Array(key.dropFirst().dropLast()) }
          added.append((Array(key.dropFirst().dropLast()), [0x2C] + key + [0x3A] + JSONText.quoted(value)))
        }
      case .remove(let fields): removed += fields.map { Array(JSONText.quoted($0).dropFirst().dropLast()) }
      case .dropBelow(let level): lowest = max(lowest, LogLevel(level) ?? .unknown)
      case .rename, .filter, .redact, .sample, .dedupe, .rateLimit, .route, .metric: break
      }
    }
    let known = Self.names.map { Array($0.description.utf8) }
    self.added = Array(added.prefix(48)).filter { !known.contains($0.name) }
    self.removed = removed
    self.lowest = lowest
    self.redacts = redacts
    names = known + self.added.map(\.name)
    var byLength = Array(repeating: UInt64(0), count: 64)
    for (index, name) in names.enumerated() { byLength[min(63, name.count)] |= 1 << UInt64(index) }
    self.byLength = byLength
    prints = names.map { name in name.withUnsafeBytes { NamePrint($0) } }
    sourceMember = Array("\",\"source\":".utf8) + JSONText.quoted(source)
    values = Array(repeating: 0..<0, count: names.count)
  }

  /// Appends the record of `line` (without its LF) and an LF. `arrival` is in nanoseconds since 1970.
  /// `time` came with the line and holds when the line tells none. Returns nil when a transform drops the record.
  package func encode(
    _ line: Bytes, stream: LogStream, arrival: Int64, truncated: Bool = false, time: Int64? = nil, redactor: Redactor?,
    into arena: ByteArena
  ) -> RecordMark? {
    let start = arena.count
    let mark = record(
      line, stream: stream, arrival: arrival, truncated: truncated, time: time, redactor: redactor, into: arena)
    guard let chain, let mark else { return mark }
    return chain.apply(arena, from: start, mark, arrival: arrival)
  }

  /// The spool has the records encoded since the last call.
  package func commit() { chain?.commit() }

  /// It has not, and their lines will come again: transforms that remember forget them.
  package func rollBack() { chain?.rollBack() }

  private func record(
    _ line: Bytes, stream: LogStream, arrival: Int64, truncated: Bool, time: Int64?, redactor: Redactor?,
    into arena: ByteArena
  ) -> RecordMark? {
    var line = line
    given = time
    timeValue = nil
    if let last = line.last, last == 0x0D { line = line.part(0..<line.count - 1) }
    if redacts, let redactor {
      redacted.removeAll()
      if redactor.redact(line, into: redacted) > 0 { line = redacted.bytes }
    }
    let invalid = !UTF8Text.isValid(line)
    let isObject = parser != .none && parser != .logfmt && !truncated && startsObject(line)
    if invalid {
      repaired.removeAll()
      UTF8Text.repair(line, json: isObject, into: repaired)
      if isObject, let mark = json(repaired.bytes, stream, arrival, invalid: true, into: arena) { return mark.value }
      if isObject {
        repaired.removeAll()
        UTF8Text.repair(line, json: false, into: repaired)
      }
      line = repaired.bytes
    } else if isObject, let mark = json(line, stream, arrival, invalid: false, into: arena) {
      return mark.value
    }
    if !truncated, parser == .auto || parser == .logfmt,
      Logfmt.parse(line, minimum: parser == .logfmt ? 1 : 2, into: &pairs)
    {
      return logfmt(line, stream, arrival, invalid: invalid, into: arena)
    }
    return text(line, stream, arrival, truncated: truncated, invalid: invalid, into: arena)
  }

  private func startsObject(_ line: Bytes) -> Bool {
    for byte in line where byte != 0x20 && byte != 0x09 { return byte == 0x7B }
    return false
  }

  /// A decision that may be "drop": `value` nil.
  private struct Decision { var value: RecordMark? }

  private func note(_ key: Bytes, _ value: Range<Int>) {
    if let timeField, timeField.withUnsafeBytes({ $0.equals(key) }) { timeValue = value }
    var left = byLength[min(63, key.count)]
    if left == 0 { return }
    let print = NamePrint(key)
    while left != 0 {
      let index = left.trailingZeroBitCount
      left &= left &- 1
      guard prints[index] == print, print.isWhole || names[index].withUnsafeBytes({ $0.equals(key) }) else { continue }
      seen |= 1 << UInt64(index)
      values[index] = value
      return
    }
  }

  private func has(_ index: Int) -> Bool { seen & 1 << UInt64(index) != 0 }

  private func json(_ line: Bytes, _ stream: LogStream, _ arrival: Int64, invalid: Bool, into arena: ByteArena)
    -> Decision?
  {
    seen = 0
    cuts.removeAll(keepingCapacity: true)
    let removing = !removed.isEmpty
    let inner = JSONScanner.object(line) { key, value in
      let name = line.part(key)
      if removing {
        let gone = removed.contains { $0.count == name.count && name.elementsEqual($0) }
        if gone { return }
        cuts.append((key, value))
      }
      note(name, value)
    }
    guard let inner else { return nil }
    let level = jsonLevel(line)
    if level < lowest, level != .unknown { return Decision(value: nil) }
    let time = jsonTime(line, arrival) ?? given
    let start = arena.count
    open(arrival, time, stream, level, into: arena)
    if invalid, !has(Key.invalid) { arena.append(",\"invalid_utf8\":true") }
    appendAdded(into: arena)
    let trimmed = trim(line, inner)
    var body = arena.count - start
    if removing {
      for (key, value) in cuts {
        arena.append(",\"")
        arena.append(line.part(key))
        arena.append("\":")
        arena.append(line.part(value))
      }
      if !cuts.isEmpty { body += 1 }
    } else if !trimmed.isEmpty {
      arena.append(0x2C as UInt8)
      body += 1
      arena.append(line.part(trimmed))
    }
    arena.append("}\n")
    return Decision(
      value: RecordMark(
        stream: stream, kind: .json, level: level, time: time ?? arrival, body: body, truncated: false))
  }

  private func trim(_ line: Bytes, _ inner: Range<Int>) -> Range<Int> {
    var (low, high) = (inner.lowerBound, inner.upperBound)
    while low < high, line[low] <= 0x20 { low += 1 }
    while high > low, line[high - 1] <= 0x20 { high -= 1 }
    return low..<high
  }

  private func jsonLevel(_ line: Bytes) -> LogLevel {
    var left = seen & Key.levels
    while left != 0 {
      let value = line.part(values[left.trailingZeroBitCount])
      left &= left &- 1
      if value.count > 2, value[0] == 0x22, let level = LogLevel(name: value.part(1..<value.count - 1)) {
        return level
      }
      if let number = Int(value.text), let level = LogLevel(number: number) { return level }
    }
    return .unknown
  }

  private func jsonTime(_ line: Bytes, _ arrival: Int64) -> Int64? {
    if let timeValue, let time = ruled(line.part(timeValue), arrival) { return time }
    var left = seen & Key.times
    while left != 0 {
      let value = line.part(values[left.trailingZeroBitCount])
      left &= left &- 1
      if timestamp != nil, timeField == nil, let time = ruled(value, arrival) { return time }
      if value.count > 2, value[0] == 0x22, let time = times.parse(value.part(1..<value.count - 1)) { return time }
    }
    return nil
  }

  /// The time that a value tells by the rule; a JSON string may still have its quotes.
  private func ruled(_ value: Bytes, _ arrival: Int64) -> Int64? {
    let isQuoted = value.count >= 2 && value.first == 0x22
    return timestamp?.format.parseWhole(isQuoted ? value.part(1..<value.count - 1) : value, arrival: arrival)
  }

  /// Writes the fields that every record begins with, except those that the app's own object holds.
  private func open(_ arrival: Int64, _ time: Int64?, _ stream: LogStream, _ level: LogLevel, into arena: ByteArena) {
    if has(Key.timestamp) {
      arena.write("{\"observed_timestamp\":\"")
      arena.append(stampText(arrival))
    } else {
      arena.write("{\"@timestamp\":\"")
      if let time, time != arrival {
        times.write(time, into: arena)
        if !has(Key.observed) {
          arena.write("\",\"observed_timestamp\":\"")
          arena.append(stampText(arrival))
        }
      } else {
        arena.append(stampText(arrival))
      }
    }
    if has(Key.source) {
      arena.write("\",\"outrider.source\":")
      arena.append(source)
    } else {
      arena.append(sourceMember)
    }
    if !has(Key.stream) {
      switch stream {
      case .none: break
      case .stdout: arena.write(",\"stream\":\"stdout\"")
      case .stderr: arena.write(",\"stream\":\"stderr\"")
      }
    }
    if level != .unknown, !has(Key.level) {
      arena.write(",\"level\":\"")
      arena.append(level.name)
      arena.append(0x22 as UInt8)
    }
  }

  private func stampText(_ time: Int64) -> [UInt8] {
    if stamp.time != time { stamp = (time, Array(LogTime.format(time).utf8)) }
    return stamp.text
  }

  private func appendAdded(into arena: ByteArena) {
    for index in added.indices where !has(Self.names.count + index) { arena.append(added[index].member) }
  }

  private func text(
    _ line: Bytes, _ stream: LogStream, _ arrival: Int64, truncated: Bool, invalid: Bool, into arena: ByteArena
  ) -> RecordMark? {
    let level = LogLevel.find(inText: line)
    if level < lowest, level != .unknown { return nil }
    seen = 0
    let start = arena.count
    let own = timestamp.flatMap { $0.field == nil ? $0.format.parse(line, arrival: arrival)?.time : nil }
    let time = own ?? given
    open(arrival, time, stream, level, into: arena)
    arena.append(",\"message\":\"")
    let body = arena.count - start
    JSONText.escape(line, into: arena)
    arena.append(0x22 as UInt8)
    if truncated { arena.append(",\"truncated\":true") }
    if invalid { arena.append(",\"invalid_utf8\":true") }
    appendAdded(into: arena)
    arena.append("}\n")
    return RecordMark(
      stream: stream, kind: .text, level: level, time: time ?? arrival, body: body, truncated: truncated)
  }

  private func logfmt(_ line: Bytes, _ stream: LogStream, _ arrival: Int64, invalid: Bool, into arena: ByteArena)
    -> RecordMark?
  {
    seen = 0
    for pair in pairs { note(line.part(pair.key), pair.value) }
    var level = LogLevel.unknown
    var left = seen & Key.levels
    while left != 0, level == .unknown {
      level = LogLevel(name: line.part(values[left.trailingZeroBitCount])) ?? .unknown
      left &= left &- 1
    }
    if level < lowest, level != .unknown { return nil }
    var time: Int64?
    if let timeValue { time = ruled(line.part(timeValue), arrival) }
    left = seen & Key.times
    while left != 0, time == nil {
      let value = line.part(values[left.trailingZeroBitCount])
      left &= left &- 1
      if timestamp != nil, timeField == nil { time = ruled(value, arrival) }
      if time == nil { time = times.parse(value) }
    }
    if time == nil { time = given }
    // The line stands whole in `message`; the other fields of the envelope are ours.
    let fields = seen
    seen &= ~((1 << 8) - 1)
    let start = arena.count
    open(arrival, time, stream, level, into: arena)
    arena.append(",\"message\":\"")
    let body = arena.count - start
    JSONText.escape(line, into: arena)
    arena.append(0x22 as UInt8)
    if invalid { arena.append(",\"invalid_utf8\":true") }
    appendAdded(into: arena)
    for pair in pairs where !isRemoved(line.part(pair.key)) {
      let reserved = (0..<8).contains { fields & 1 << UInt64($0) != 0 && values[$0] == pair.value }
      if !reserved { append(pair, of: line, into: arena) }
    }
    arena.append("}\n")
    return RecordMark(stream: stream, kind: .logfmt, level: level, time: time ?? arrival, body: body, truncated: false)
  }

  private func isRemoved(_ name: Bytes) -> Bool {
    !removed.isEmpty && removed.contains { $0.count == name.count && name.elementsEqual($0) }
  }

  private func append(_ pair: Logfmt.Pair, of line: Bytes, into arena: ByteArena) {
    arena.append(",\"")
    arena.append(line.part(pair.key))
    arena.append("\":\"")
    var value = line.part(pair.value)
    if pair.quoted, value.firstOffset(of: 0x5C) != nil {
      plain.removeAll()
      JSONText.unescape(value, into: plain)
      value = plain.bytes
    }
    JSONText.escape(value, into: arena)
    arena.append(0x22 as UInt8)
  }
}

/// Enough of a name to tell it from most others, and from all others of its length when that is no more than 16.
private struct NamePrint: Equatable {
  private let count: Int
  private let first: UInt64
  private let last: UInt64

  @inline(__always)
  init(_ name: Bytes) {
    count = name.count
    switch name.count {
    case 8...: (first, last) = (name.integer(at: 0), name.integer(at: name.count - 8))
    case 4...:
      let low: UInt32 = name.integer(at: 0)
      let high: UInt32 = name.integer(at: name.count - 4)
      (first, last) = (UInt64(low) | UInt64(high) << 32, 0)
    case 1...: (first, last) = (UInt64(name[0]) | UInt64(name[name.count / 2]) << 8, UInt64(name[name.count - 1]))
    default: (first, last) = (0, 0)
    }
  }

  var isWhole: Bool { count <= 16 }
}
