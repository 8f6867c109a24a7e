/// How grave a record is. `unknown` sorts below every level.
package enum LogLevel: UInt8, Sendable, CaseIterable, Comparable {
  case unknown, trace, debug, info, warn, error, fatal

  package static func < (a: LogLevel, b: LogLevel) -> Bool { a.rawValue < b.rawValue }

  /// The name in records; empty for `unknown`.
  package var name: StaticString {
    switch self {
    case .unknown: ""
    case .trace: "trace"
    case .debug: "debug"
    case .info: "info"
    case .warn: "warn"
    case .error: "error"
    case .fatal: "fatal"
    }
  }

  /// Parses a name in any case, with the usual synonyms (syslog's, Python's, Java's); nil when it is none.
  package init?(name: Bytes) {
    guard name.count >= 3, name.count <= 13 else { return nil }
    var word: UInt64 = 0
    for byte in name.prefix(8) { word = word << 8 | UInt64(byte | 0x20) }
    guard let level = Self.words[word] else { return nil }
    switch name.count {
    case 9...: guard level.long else { return nil }
    default: break
    }
    self = level.level
  }

  package init?(_ name: String) {
    var name = name
    guard let level = name.withUTF8({ LogLevel(name: Bytes($0)) }) else { return nil }
    self = level
  }

  /// Numbers as pino and bunyan write them: 10 trace … 60 fatal.
  init?(number: Int) {
    switch number {
    case 10..<20: self = .trace
    case 20..<30: self = .debug
    case 30..<40: self = .info
    case 40..<50: self = .warn
    case 50..<60: self = .error
    case 60..<70: self = .fatal
    default: return nil
    }
  }

  private static let words: [UInt64: (level: LogLevel, long: Bool)] = {
    var words: [UInt64: (level: LogLevel, long: Bool)] = [:]
    let table: [(LogLevel, [String])] = [
      (.trace, ["trace", "verbose", "finest"]), (.debug, ["debug", "dbg", "fine"]),
      (.info, ["info", "information", "notice", "inf"]), (.warn, ["warn", "warning", "wrn"]),
      (.error, ["error", "err", "severe"]),
      (.fatal, ["fatal", "critical", "crit", "panic", "emerg", "emergency", "alert", "ftl"]),
    ]
    for (level, names) in table {
      for name in names {
        var word: UInt64 = 0
        for byte in name.utf8.prefix(8) { word = word << 8 | UInt64(byte) }
        words[word] = (level, name.utf8.count > 8)
      }
    }
    return words
  }()

  /// Looks for a level word in the first 160 bytes of a text line: upper case anywhere as a whole word, lower or mixed
  /// case only when it is set apart by brackets or followed by a colon.
  package static func find(inText line: Bytes) -> LogLevel {
    let end = min(line.count, 160)
    var index = 0
    while index < end {
      guard isLetter(line[index]) else {
        index += 1
        continue
      }
      let start = index
      while index < end, isLetter(line[index]) { index += 1 }
      let length = index - start
      guard length >= 3, length <= 11 else { continue }
      let before: UInt8 = start > 0 ? line[start - 1] : 0x20
      let after: UInt8 = index < line.count ? line[index] : 0x20
      if isWord(before) || isWord(after) { continue }
      guard let level = LogLevel(name: line.part(start..<index)) else { continue }
      let upper = line[start..<index].allSatisfy { $0 & 0x20 == 0 }
      let apart = before == 0x5B || before == 0x3C || before == 0x28 || after == 0x3A || after == 0x5D
      if upper || apart { return level }
    }
    return .unknown
  }

  private static func isLetter(_ byte: UInt8) -> Bool { (0x61...0x7A).contains(byte | 0x20) }
  private static func isWord(_ byte: UInt8) -> Bool {
    (0x30...0x39).contains(byte) || byte == 0x5F || byte == 0x2D || byte >= 0x80
  }
}
