/// The name of the index of a record: literal text, strftime's `%Y %y %m %d %H %M %S %j %%` in UTC, and `${field}`.
package struct IndexName: Sendable, Equatable {
  enum Part: Sendable, Equatable {
    case literal(String)
    case time(Character)
    case field(String)
  }
  let parts: [Part]

  /// Everything is accepted: what is no sequence stands for itself.
  package init(_ text: String) {
    var parts: [Part] = []
    var literal = ""
    var rest = text[...]
    func flush() {
      if !literal.isEmpty { parts.append(.literal(literal)) }
      literal = ""
    }
    while let first = rest.popFirst() {
      if first == "%", let letter = rest.first, "YymdHMSj%".contains(letter) {
        rest.removeFirst()
        if letter == "%" {
          literal.append("%")
        } else {
          flush()
          parts.append(.time(letter))
        }
      } else if first == "$", rest.first == "{", let close = rest.firstIndex(of: "}") {
        flush()
        parts.append(.field(String(rest[rest.index(after: rest.startIndex)..<close])))
        rest = rest[rest.index(after: close)...]
      } else {
        literal.append(first)
      }
    }
    flush()
    self.parts = parts
  }

  /// True when the name depends on the record's fields.
  var hasFields: Bool { parts.contains { if case .field = $0 { true } else { false } } }

  /// The name for a record; an absent field is written `unknown`, letters are lowered and what an index name must not
  /// hold (Elasticsearch, "Create index API") becomes `_`.
  func render(time: Int64, record: Bytes) -> String {
    let civil = LogTime.civil(time)
    var name = ""
    for part in parts {
      switch part {
      case .literal(let text): name += text
      case .time(let letter): name += Self.time(letter, civil)
      case .field(let field): name += Self.clean(Self.field(field, of: record) ?? "unknown")
      }
    }
    return name
  }

  private static func time(_ letter: Character, _ c: LogTime.Civil) -> String {
    switch letter {
    case "Y": LogTime.pad(c.year, 4)
    case "y": LogTime.pad(c.year % 100, 2)
    case "m": LogTime.pad(c.month, 2)
    case "d": LogTime.pad(c.day, 2)
    case "H": LogTime.pad(c.hour, 2)
    case "M": LogTime.pad(c.minute, 2)
    case "S": LogTime.pad(c.second, 2)
    default:
      LogTime.pad(
        LogTime.days(year: c.year, month: c.month, day: c.day) - LogTime.days(year: c.year, month: 1, day: 1) + 1, 3)
    }
  }

  private static func field(_ name: String, of record: Bytes) -> String? {
    var result: String?
    _ = JSONScanner.object(record) { key, value in
      if record.part(key).elementsEqual(name.utf8) {
        result = JSONText.string(record.part(value)) ?? record.part(value).text
      }
    }
    return result
  }

  private static func clean(_ text: String) -> String {
    var result = ""
    for scalar in text.lowercased().unicodeScalars.prefix(100) {
      let bad = scalar.value <= 0x20 || "\\/*?\"<>|,#:%".unicodeScalars.contains(scalar)
      result.unicodeScalars.append(bad ? "_" : scalar)
    }
    return result.isEmpty ? "unknown" : result
  }
}

/// The body of an Elasticsearch `_bulk` request and where each item stands in it. Owned by one task.
package final class BulkBody {
  package struct Item: Sendable {
    /// Of the action line, and of the record's line behind it, both with LF.
    package var action: Range<Int>
    package var record: Range<Int>
  }

  package let arena = ByteArena(capacity: 64 << 10)
  package private(set) var items: [Item] = []
  private let index: IndexName
  private let options: LogSinkConfiguration.ElasticsearchOutput
  private var names: [Int64: [UInt8]] = [:]

  package init(_ options: LogSinkConfiguration.ElasticsearchOutput) {
    self.options = options
    index = IndexName(options.index)
  }

  package func removeAll() {
    items.removeAll(keepingCapacity: true)
    arena.removeAll()
    arena.release(above: 8 << 20)
  }

  /// Appends an item. With deterministic ids the id is the source's identity and the record's offset in it, so that a
  /// record sent twice is stored once.
  package func add(_ record: SpooledRecord, identity: UInt64) {
    let start = arena.count
    let creates = options.dataStream || options.deterministicID
    arena.append(creates ? "{\"create\":{\"_index\":" : "{\"index\":{\"_index\":")
    arena.append(indexName(record))
    if options.deterministicID {
      arena.append(",\"_id\":\"")
      appendHex(identity)
      arena.append(UInt8(ascii: "-"))
      appendHex(record.offset)
      arena.append(0x22 as UInt8)
    }
    arena.append("}}\n")
    let middle = arena.count
    arena.append(record.bytes)
    items.append(Item(action: start..<middle, record: middle..<arena.count))
  }

  /// The body of the given items only.
  package func bytes(of chosen: [Int]) -> [UInt8] {
    if chosen.count == items.count { return Array(arena.bytes) }
    var body: [UInt8] = []
    for position in chosen {
      let item = items[position]
      body.append(contentsOf: arena.bytes.part(item.action.lowerBound..<item.record.upperBound))
    }
    return body
  }

  package func record(_ position: Int) -> Bytes { arena.bytes.part(items[position].record) }

  private func indexName(_ record: SpooledRecord) -> [UInt8] {
    if index.hasFields { return JSONText.quoted(index.render(time: record.mark.time, record: record.bytes)) }
    // The finest sequence is a second.
    let second = record.mark.time / 1_000_000_000
    if let name = names[second] { return name }
    if names.count > 256 { names.removeAll() }
    let name = JSONText.quoted(index.render(time: record.mark.time, record: record.bytes))
    names[second] = name
    return name
  }

  private func appendHex(_ value: UInt64) {
    var started = false
    for shift in stride(from: UInt64(60), through: 0, by: -4) {
      let digit = Int(value >> shift & 15)
      if digit != 0 || started || shift == 0 {
        arena.append(JSONText.hexDigits[digit])
        started = true
      }
    }
  }
}
