/// Syslog messages (RFC 5424) with octet counting (RFC 6587 section 3.4.1, RFC 5425 section 4.3).
package struct SyslogFormat: SinkFormat {
  private let facility: Int
  private let name: String?
  private let host: String
  private let isText: Bool

  /// `host` is the machine's name.
  package init(_ options: LogSinkConfiguration.SyslogOutput, host: String) {
    facility = options.facility
    name = options.name.map { Self.printable($0, 48) }
    self.host = Self.printable(host, 255)
    isText = options.isText
  }

  package var keepsOrder: Bool { true }

  package func encode(_ batch: SinkBatch, _ chosen: [Int]) -> [UInt8] {
    let names = batch.sources.map { name ?? Self.printable($0, 48) }
    let arena = ByteArena(capacity: chosen.reduce(64) { $0 + batch.items[$1].record.count + 96 })
    let message = ByteArena()
    for position in chosen {
      let item = batch.items[position]
      message.removeAll()
      message.append(text: "<\(facility * 8 + Self.severity(item.mark.level))>1 ")
      message.append(text: Self.stamp(item.mark.time))
      message.append(text: " \(host) \(names[item.source]) - - - ")
      append(batch.content(position), into: message)
      arena.append(decimal: message.count)
      arena.append(0x20 as UInt8)
      arena.append(message.bytes)
    }
    return Array(arena.bytes)
  }

  private func append(_ record: Bytes, into arena: ByteArena) {
    var text: Range<Int>?
    if isText {
      _ = JSONScanner.object(record) { key, value in
        let name = record.part(key)
        if text == nil, name.equals("message") || name.equals("msg"), record[value.lowerBound] == 0x22 { text = value }
      }
    }
    guard let text else { return arena.append(record) }
    JSONText.unescape(record.part(text.lowerBound + 1..<text.upperBound - 1), into: arena)
  }

  /// RFC 5424 section 6.2.1.
  private static func severity(_ level: LogLevel) -> Int {
    switch level {
    case .fatal: 2
    case .error: 3
    case .warn: 4
    case .info, .unknown: 6
    case .debug, .trace: 7
    }
  }

  /// RFC 3339 with six digits of the second: more are not allowed (section 6.2.3).
  private static func stamp(_ time: Int64) -> String {
    let c = LogTime.civil(time)
    return "\(LogTime.pad(c.year, 4))-\(LogTime.pad(c.month, 2))-\(LogTime.pad(c.day, 2))T\(LogTime.pad(c.hour, 2)):"
      + "\(LogTime.pad(c.minute, 2)):\(LogTime.pad(c.second, 2)).\(LogTime.pad(c.nanosecond / 1000, 6))Z"
  }

  /// PRINTUSASCII only, at most `limit` octets; `-` when nothing is left.
  private static func printable(_ text: String, _ limit: Int) -> String {
    let bytes = text.utf8.prefix(limit).map { (0x21...0x7E).contains($0) ? $0 : UInt8(ascii: "_") }
    return bytes.isEmpty ? "-" : String(decoding: bytes, as: UTF8.self)
  }

  package func judge(_ answer: SinkAnswer, items: Int) -> SinkJudgement { SinkStatus.judge(answer) }
}

package enum SyslogFacility {
  /// In the order of their numbers, 0...23 (RFC 5424 table 1, with the usual names).
  package static let names = [
    "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp", "ntp",
    "audit", "alert", "clock", "local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7",
  ]
}
