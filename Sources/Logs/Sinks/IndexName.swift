/// The name of the index of a record: literal text, strftime's `%Y %y %m %d %H %M %S %j %%` in UTC, and `${field}`.
package struct IndexName: Sendable, Equatable {
  enum Part: Sendable, Equatable {
    case literal(String)
    case time(Character)
    case field(String)
  }
  let parts: [Part]

  /// Everything is accepted: what is no sequence stands for itself. Without `times`, `%` does, too.
  package init(_ text: String, times: Bool = true) {
    var parts: [Part] = []
    var literal = ""
    var rest = text[...]
    func flush() {
      if !literal.isEmpty { parts.append(.literal(literal)) }
      literal = ""
    }
    while let first = rest.popFirst() {
      if times, first == "%", let letter = rest.first, "YymdHMSj%".contains(letter) {
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

  /// The text for a record as it is; an absent field is empty.
  func plain(time: Int64, record: Bytes) -> String {
    let civil = LogTime.civil(time)
    var text = ""
    for part in parts {
      switch part {
      case .literal(let literal): text += literal
      case .time(let letter): text += Self.time(letter, civil)
      case .field(let field): text += Self.field(field, of: record) ?? ""
      }
    }
    return text
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
