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
    var index = 0
    while index < min(8, name.count) {
      word = word << 8 | UInt64(name[index] | 0x20)
      index &+= 1
    }
    // Of longer names there are two, `information` and `emergency`.
    guard name.count <= 8 || word == 0x696E_666F_726D_6174 || word == 0x656D_6572_6765_6E63 else { return nil }
    // The first eight letters, the first one in the highest place.
    switch word {
    // trace, verbose, finest
    case 0x74_7261_6365, 0x76_6572_626F_7365, 0x6669_6E65_7374: self = .trace
    // debug, dbg, fine
    case 0x64_6562_7567, 0x64_6267, 0x6669_6E65: self = .debug
    // info, information, notice, inf
    case 0x696E_666F, 0x696E_666F_726D_6174, 0x6E6F_7469_6365, 0x69_6E66: self = .info
    // warn, warning, wrn
    case 0x7761_726E, 0x77_6172_6E69_6E67, 0x77_726E: self = .warn
    // error, err, severe
    case 0x65_7272_6F72, 0x65_7272, 0x7365_7665_7265: self = .error
    // fatal, critical, crit, panic, emerg, emergency, alert, ftl
    case 0x66_6174_616C, 0x6372_6974_6963_616C, 0x6372_6974, 0x70_616E_6963, 0x65_6D65_7267, 0x656D_6572_6765_6E63,
      0x61_6C65_7274, 0x66_746C:
      self = .fatal
    default: return nil
    }
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
