/// A syslog message as the two formats have it (RFC 5424 section 6; RFC 3164 section 4, and what rsyslog and syslog-ng
/// send under its name: an RFC 3339 time, no host, no colon behind the tag).
package enum SyslogMessage {
  private static let severities: [StaticString] = [
    "emerg", "alert", "crit", "err", "warning", "notice", "info", "debug",
  ]
  private static let facilities: [StaticString] = [
    "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp", "ntp",
    "audit", "alert", "clock", "local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7",
  ]

  private struct Parts {
    var priority = 0
    var host: Range<Int>?
    var app: Range<Int>?
    var process: Range<Int>?
    var id: Range<Int>?
    var data: Range<Int>?
    var message: Range<Int>
    var time: Int64?
  }

  /// Appends the message as one JSON object: `message`, `host`, `app`, `pid`, `msgid`, `facility`, `severity` and
  /// `structured_data`, each when it is there. Returns its time (nanoseconds since 1970, nil without one), or nil when
  /// the line is no syslog message; nothing is appended then. `zone` is where RFC 3164 times are from.
  package static func write(
    _ line: Bytes, arrival: Int64, zone: TimestampFormat.Zone, into arena: ByteArena
  ) -> (time: Int64?, severity: Int)? {
    guard let (priority, start) = priority(line) else { return nil }
    let isNew = start + 1 < line.count && line[start] == 0x31 && line[start + 1] == 0x20
    guard var parts = isNew ? modern(line, start + 2) : old(line, start, arrival, zone) else { return nil }
    parts.priority = priority
    write(parts, line, into: arena)
    return (parts.time, priority & 7)
  }

  /// `<0>` to `<191>`, without leading zeros.
  private static func priority(_ line: Bytes) -> (Int, Int)? {
    guard line.first == 0x3C else { return nil }
    var value = 0
    var index = 1
    while index < line.count, index <= 3, line[index].isDigit {
      value = value * 10 + Int(line[index] - 0x30)
      index += 1
    }
    guard index > 1, index < line.count, line[index] == 0x3E, value <= 191, index == 2 || line[1] != 0x30 else {
      return nil
    }
    return (value, index + 1)
  }

  // MARK: RFC 5424

  private static func modern(_ line: Bytes, _ start: Int) -> Parts? {
    var index = start
    /// A field up to the next space; nil inside for `-`.
    func field(_ longest: Int) -> Range<Int>?? {
      let end = line.firstOffset(of: 0x20, from: index) ?? line.count
      let range = index..<end
      guard !range.isEmpty, range.count <= longest else { return nil }
      index = min(end + 1, line.count)
      return .some(range.count == 1 && line[range.lowerBound] == 0x2D ? nil : range)
    }
    guard let time = field(64), let host = field(255), let app = field(48), let process = field(128), let id = field(32)
    else { return nil }
    var parts = Parts(host: host, app: app, process: process, id: id, message: index..<line.count)
    if let time {
      guard let instant = LogTime.parse(line.part(time)) else { return nil }
      parts.time = instant
    }
    guard index < line.count, let end = structuredData(line, index) else { return nil }
    if line[index] == 0x5B { parts.data = index..<end }
    var message = min(end + 1, line.count)
    if line.part(message..<line.count).starts("\u{FEFF}") { message += 3 }
    parts.message = message..<line.count
    return parts
  }

  /// The end of `-` or of `[id name="value"]…`; a space or the line's end must follow.
  private static func structuredData(_ line: Bytes, _ start: Int) -> Int? {
    var index = start
    if line[index] == 0x2D {
      index += 1
    } else {
      while index < line.count, line[index] == 0x5B {
        guard let end = walk(line, index, nil) else { return nil }
        index = end
      }
    }
    guard index > start, index == line.count || line[index] == 0x20 else { return nil }
    return index
  }

  /// Passes one element, writing it as members of a JSON object when there is an arena.
  private static func walk(_ line: Bytes, _ start: Int, _ arena: ByteArena?) -> Int? {
    var index = start + 1
    guard let id = name(line, &index) else { return nil }
    if let arena { quote(line.part(id), into: arena) }
    arena?.append(":{")
    var isFirst = true
    while index < line.count, line[index] == 0x20 {
      index += 1
      guard let name = name(line, &index), index + 1 < line.count, line[index] == 0x3D, line[index + 1] == 0x22
      else { return nil }
      index += 2
      let from = index
      while index < line.count, line[index] != 0x22 { index += line[index] == 0x5C ? 2 : 1 }
      guard index < line.count else { return nil }
      if let arena {
        if !isFirst { arena.append(0x2C as UInt8) }
        isFirst = false
        quote(line.part(name), into: arena)
        arena.append(":\"")
        unescape(line.part(from..<index), into: arena)
        arena.append(0x22 as UInt8)
      }
      index += 1
    }
    guard index < line.count, line[index] == 0x5D else { return nil }
    arena?.append(0x7D as UInt8)
    return index + 1
  }

  /// SD-NAME: printable ASCII but `= ] "` and space.
  private static func name(_ line: Bytes, _ index: inout Int) -> Range<Int>? {
    let start = index
    while index < line.count, (0x21...0x7E).contains(line[index]), ![0x3D, 0x5D, 0x22].contains(line[index]) {
      index += 1
    }
    return index > start && index - start <= 64 ? start..<index : nil
  }

  private static func unescape(_ value: Bytes, into arena: ByteArena) {
    var index = 0
    while let slash = value.firstOffset(of: 0x5C, from: index) {
      JSONText.escape(value.part(index..<slash), into: arena)
      index = slash
      // A backslash before any other character is a backslash.
      if slash + 1 < value.count, [0x22, 0x5C, 0x5D].contains(value[slash + 1]) { index += 1 }
      JSONText.escape(value.part(index..<index + 1), into: arena)
      index += 1
    }
    if index < value.count { JSONText.escape(value.part(index..<value.count), into: arena) }
  }

  // MARK: RFC 3164

  private static let stamp = "%b %e %H:%M:%S"

  private static func old(
    _ line: Bytes, _ start: Int, _ arrival: Int64, _ zone: TimestampFormat.Zone
  ) -> Parts? {
    var parts = Parts(message: start..<line.count)
    var index = start
    let rest = line.part(start..<line.count)
    if let (time, length) = TimestampFormat.rfc3339.parse(rest, arrival: arrival) ?? stamped(rest, arrival, zone) {
      guard start + length < line.count, line[start + length] == 0x20 else { return parts }
      parts.time = time
      index = start + length + 1
    } else {
      // Section 4.3: without a time, everything is the message.
      return parts
    }
    // The host, unless the tag follows the time at once.
    if let space = line.firstOffset(of: 0x20, from: index), space > index, line[space - 1] != 0x3A,
      line.part(index..<space).firstOffset(of: 0x5B) == nil
    {
      parts.host = index..<space
      index = space + 1
    }
    parts.message = index..<line.count
    tag(line, index, &parts)
    return parts
  }

  private static func stamped(_ text: Bytes, _ arrival: Int64, _ zone: TimestampFormat.Zone) -> (
    time: Int64, length: Int
  )? {
    TimestampFormat(stamp, zone: zone)?.parse(text, arrival: arrival)
  }

  /// `tag[pid]: message`
  private static func tag(_ line: Bytes, _ start: Int, _ parts: inout Parts) {
    var index = start
    while index < line.count, index - start <= 64, line[index] > 0x20, ![0x3A, 0x5B].contains(line[index]) {
      index += 1
    }
    guard index > start, index < line.count else { return }
    let app = start..<index
    var process: Range<Int>?
    if line[index] == 0x5B {
      guard let close = line.firstOffset(of: 0x5D, from: index), close - index <= 64 else { return }
      process = index + 1..<close
      index = close + 1
    }
    guard index < line.count, line[index] == 0x3A else { return }
    index += 1
    if index < line.count, line[index] == 0x20 { index += 1 }
    parts.app = app
    parts.process = process
    parts.message = index..<line.count
  }

  // MARK: writing

  private static func quote(_ text: Bytes, into arena: ByteArena) {
    arena.append(0x22 as UInt8)
    JSONText.escape(text, into: arena)
    arena.append(0x22 as UInt8)
  }

  private static func write(_ parts: Parts, _ line: Bytes, into arena: ByteArena) {
    arena.append("{\"message\":")
    quote(line.part(parts.message), into: arena)
    for (name, range) in [
      ("host" as StaticString, parts.host), ("app", parts.app), ("pid", parts.process), ("msgid", parts.id),
    ] {
      guard let range, !range.isEmpty else { continue }
      arena.append(",\"")
      arena.append(name)
      arena.append("\":")
      quote(line.part(range), into: arena)
    }
    arena.append(",\"facility\":\"")
    arena.append(facilities[parts.priority >> 3])
    arena.append("\",\"severity\":\"")
    arena.append(severities[parts.priority & 7])
    arena.append(0x22 as UInt8)
    if let data = parts.data {
      arena.append(",\"structured_data\":{")
      var index = data.lowerBound
      while index < data.upperBound {
        if index > data.lowerBound { arena.append(0x2C as UInt8) }
        guard let end = walk(line, index, arena) else { break }
        index = end
      }
      arena.append(0x7D as UInt8)
    }
    arena.append(0x7D as UInt8)
  }
}
