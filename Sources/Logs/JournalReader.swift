/// Reads entries in systemd's Journal Export Format (systemd.io/JOURNAL_EXPORT_FORMATS), however their bytes come, and
/// writes each as one JSON object. Bounded: of one entry `limit` bytes are kept, of a field that would exceed it the
/// beginning. Owned by one thread.
package final class JournalReader {
  /// An entry that is whole.
  package struct Entry {
    /// Where its object stands in the arena.
    package var object: Range<Int>
    /// Where reading goes on behind it.
    package var cursor: String
    /// Nanoseconds since 1970; nil when the entry does not say it.
    package var time: Int64?
  }

  private enum State {
    /// In `NAME=VALUE`, or in the `NAME` of a field whose value follows its length.
    case line
    /// In the eight bytes of a length.
    case length
    /// In a value: so many bytes are to come.
    case value(left: Int)
    /// Before the line's end that follows such a value.
    case end
  }

  private struct Field {
    var name: Range<Int>
    var value: Range<Int>
  }

  /// Names are upper case, digits and underscores, 64 at most (journald's own rule).
  private static let longestName = 64
  private static let mostFields = 1024

  private let limit: Int
  private let text = ByteArena(capacity: 4096)
  private var fields: [Field] = []
  private var state = State.line
  /// Of the field that is read: where it begins in `text`, and the bytes that were left out.
  private var start = 0
  private var isCut = false
  private var name = 0..<0
  private var length: UInt64 = 0
  private var lengthBytes: UInt64 = 0
  /// What came is not in this format: nothing more can be read.
  package private(set) var isBroken = false

  package init(limit: Int = 4 << 20) { self.limit = limit }

  /// Takes bytes; appends the objects of entries that are whole to `arena`, each on a line of its own.
  package func feed(_ bytes: Bytes, into arena: ByteArena, entries: inout [Entry]) {
    var at = 0
    while at < bytes.count, !isBroken {
      switch state {
      case .line:
        let end = bytes.firstOffset(of: 0x0A, from: at) ?? bytes.count
        // A name is kept whole, so that what follows it is understood.
        keep(bytes.part(at..<end), atLeast: Self.longestName + 2 - (text.count - start))
        at = end
        guard end < bytes.count else { return }
        at += 1
        endLine(arena, &entries)
      case .length:
        length |= UInt64(bytes[at]) << (lengthBytes * 8)
        lengthBytes += 1
        at += 1
        if lengthBytes == 8 {
          guard length <= 1 << 40 else {
            isBroken = true
            return
          }
          start = text.count
          state = length == 0 ? .end : .value(left: Int(length))
        }
      case .value(let left):
        let count = min(left, bytes.count - at)
        keep(bytes.part(at..<at + count))
        at += count
        state = left == count ? .end : .value(left: left - count)
      case .end:
        guard bytes[at] == 0x0A else {
          isBroken = true
          return
        }
        at += 1
        add(Field(name: name, value: start..<text.count))
        begin()
      }
    }
  }

  private func keep(_ bytes: Bytes, atLeast least: Int = 0) {
    let room = max(0, limit - text.count, least)
    if bytes.count > room { isCut = true }
    text.append(bytes.part(0..<min(room, bytes.count)))
  }

  private func begin() {
    state = .line
    start = text.count
  }

  private func add(_ field: Field) {
    if fields.count < Self.mostFields { return fields.append(field) }
    isCut = true
    text.truncate(to: field.name.lowerBound)
  }

  private func endLine(_ arena: ByteArena, _ entries: inout [Entry]) {
    let line = text.bytes.part(start..<text.count)
    guard !line.isEmpty else {
      if !fields.isEmpty { entries.append(write(arena)) }
      text.removeAll()
      text.release(above: 256 << 10)
      fields.removeAll(keepingCapacity: true)
      isCut = false
      return begin()
    }
    let equals = line.firstOffset(of: 0x3D) ?? line.count
    guard Self.isName(line.part(0..<equals)) else {
      isBroken = true
      return
    }
    name = start..<start + equals
    if equals < line.count {
      add(Field(name: name, value: start + equals + 1..<text.count))
      begin()
    } else {
      (length, lengthBytes) = (0, 0)
      state = .length
    }
  }

  private static func isName(_ name: Bytes) -> Bool {
    !name.isEmpty && name.count <= longestName
      && name.allSatisfy { (0x41...0x5A).contains($0) || (0x30...0x39).contains($0) || $0 == 0x5F }
  }

  // MARK: writing

  private static let severities: [StaticString] = [
    "emerg", "alert", "crit", "err", "warning", "notice", "info", "debug",
  ]
  /// Fields that have a name of ours, the first of them that is there.
  private static let known: [(name: StaticString, fields: [StaticString])] = [
    ("message", ["MESSAGE"]), ("host", ["_HOSTNAME"]), ("unit", ["_SYSTEMD_UNIT", "UNIT"]),
    ("app", ["SYSLOG_IDENTIFIER", "_COMM"]), ("pid", ["_PID", "SYSLOG_PID"]),
  ]

  private func value(_ name: StaticString) -> Int? {
    fields.firstIndex { text.bytes.part($0.name).equals(name) }
  }

  private func number(_ name: StaticString) -> Int64? {
    value(name).flatMap { Int64(text.bytes.part(fields[$0].value).text) }
  }

  private func write(_ arena: ByteArena) -> Entry {
    let begin = arena.count
    var used: Set<Int> = []
    arena.append("{")
    var isFirst = true
    func member(_ name: () -> Void, _ value: Bytes) {
      if !isFirst { arena.append(0x2C as UInt8) }
      isFirst = false
      arena.append(0x22 as UInt8)
      name()
      arena.append("\":\"")
      JSONText.escape(value, into: arena)
      arena.append(0x22 as UInt8)
    }
    for known in Self.known {
      guard let index = known.fields.lazy.compactMap({ self.value($0) }).first else { continue }
      used.insert(index)
      member({ arena.append(known.name) }, text.bytes.part(fields[index].value))
    }
    if let priority = number("PRIORITY"), (0...7).contains(priority), let index = value("PRIORITY") {
      used.insert(index)
      let severity = Self.severities[Int(priority)]
      member({ arena.append("severity") }, Bytes(start: severity.utf8Start, count: severity.utf8CodeUnitCount))
    }
    if isCut {
      if !isFirst { arena.append(0x2C as UInt8) }
      isFirst = false
      arena.append("\"truncated\":true")
    }
    writeOthers(arena, used, isFirst)
    arena.append("}\n")
    let time = number("_SOURCE_REALTIME_TIMESTAMP") ?? number("__REALTIME_TIMESTAMP")
    return Entry(
      object: begin..<arena.count - 1, cursor: value("__CURSOR").map { text.bytes.part(fields[$0].value).text } ?? "",
      time: time.flatMap { $0 > 0 && $0 < Int64.max / 1000 ? $0 * 1000 : nil })
  }

  /// Everything else but addresses (`__…`), under its own name.
  private func writeOthers(_ arena: ByteArena, _ used: Set<Int>, _ isFirst: Bool) {
    var opened = false
    for (index, field) in fields.enumerated() where !used.contains(index) {
      let name = text.bytes.part(field.name)
      // A field may come several times; a JSON object has a name once.
      if fields[..<index].contains(where: { text.bytes.part($0.name).elementsEqual(name) }) { continue }
      if name.count > 1, name[0] == 0x5F, name[1] == 0x5F { continue }
      if name.equals("_SOURCE_REALTIME_TIMESTAMP") { continue }
      arena.append(opened ? ",\"" : isFirst ? "\"journal\":{\"" : ",\"journal\":{\"")
      opened = true
      arena.append(name)
      arena.append("\":\"")
      JSONText.escape(text.bytes.part(field.value), into: arena)
      arena.append(0x22 as UInt8)
    }
    if opened { arena.append(0x7D as UInt8) }
  }
}
