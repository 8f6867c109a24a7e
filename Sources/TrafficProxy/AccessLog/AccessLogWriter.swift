import HTTP1
import NIOCore
import Telemetry

#if canImport(Glibc)
  import Glibc
#else
  import Musl
#endif

/// Collects the access records of one loop as JSON lines and publishes them in one piece.
struct AccessLogWriter {
  private let events: EventStream
  var lines: ByteBuffer
  private var second: Int = -1
  private var secondText: [UInt8] = []

  init(events: EventStream) {
    self.events = events
    lines = ByteBuffer()
  }

  var isWanted: Bool { events.isFollowed }
  var isTapped: Bool { events.taps.isTapped }
  var pendingBytes: Int { lines.readableBytes }

  mutating func publish() {
    guard lines.readableBytes > 0 else { return }
    lines.withUnsafeReadableBytes { events.publish(.access, $0) }
    lines.clear(minimumCapacity: 4096)
  }

  /// Nanoseconds since 1970, `ago` nanoseconds before now.
  static func wallClock(ago: UInt64) -> Int64 {
    var clock = timespec()
    clock_gettime(CLOCK_REALTIME, &clock)
    return Int64(clock.tv_sec) * 1_000_000_000 + Int64(clock.tv_nsec) - Int64(ago)
  }

  /// Begins a record with its time: wall-clock now less `ago` nanoseconds, RFC 3339 in UTC with milliseconds.
  mutating func begin(ago: UInt64) {
    let total = Self.wallClock(ago: ago)
    let whole = Int(total / 1_000_000_000)
    if whole != second {
      second = whole
      var parts = tm()
      var time = time_t(whole)
      gmtime_r(&time, &parts)
      func pad(_ number: Int32, _ width: Int = 2) -> String {
        let text = String(number)
        return String(repeating: "0", count: max(0, width - text.utf8.count)) + text
      }
      let day = "\(pad(parts.tm_year + 1900, 4))-\(pad(parts.tm_mon + 1))-\(pad(parts.tm_mday))"
      secondText = Array("{\"time\":\"\(day)T\(pad(parts.tm_hour)):\(pad(parts.tm_min)):\(pad(parts.tm_sec)).".utf8)
    }
    let milliseconds = Int(total % 1_000_000_000) / 1_000_000
    lines.writeBytes(secondText)
    lines.writeInteger(UInt8(48 + milliseconds / 100))
    lines.writeInteger(UInt8(48 + milliseconds / 10 % 10))
    lines.writeInteger(UInt8(48 + milliseconds % 10))
    lines.writeStaticString("Z\"")
  }

  mutating func end() { lines.writeStaticString("}\n") }

  mutating func key(_ name: StaticString) {
    lines.writeStaticString(",\"")
    lines.writeStaticString(name)
    lines.writeStaticString("\":")
  }

  mutating func text(_ name: StaticString, _ bytes: some Collection<UInt8>) {
    key(name)
    lines.writeInteger(0x22 as UInt8)
    lines.writeJSON(bytes)
    lines.writeInteger(0x22 as UInt8)
  }

  mutating func text(_ name: StaticString, _ value: StaticString) {
    key(name)
    lines.writeInteger(0x22 as UInt8)
    lines.writeStaticString(value)
    lines.writeInteger(0x22 as UInt8)
  }

  /// A member that is JSON already but for its quotes.
  mutating func member(_ name: String, _ value: ByteBuffer, quoted: Bool) {
    lines.writeStaticString(",\"")
    lines.writeJSON(name.utf8)
    lines.writeStaticString(quoted ? "\":\"" : "\":")
    lines.writeImmutableBuffer(value)
    if quoted { lines.writeStaticString("\"") }
  }

  mutating func hex(_ name: StaticString, _ words: (UInt64, UInt64)) {
    key(name)
    lines.writeInteger(0x22 as UInt8)
    lines.writeHex(words.0)
    lines.writeHex(words.1)
    lines.writeInteger(0x22 as UInt8)
  }

  mutating func number(_ name: StaticString, _ value: UInt64) {
    key(name)
    lines.writeDecimal(value)
  }

  /// Nanoseconds, written as milliseconds with three decimals.
  mutating func milliseconds(_ name: StaticString, _ nanoseconds: UInt64) {
    key(name)
    lines.writeMilliseconds(nanoseconds)
  }
}

extension ByteBuffer {
  /// Nanoseconds as milliseconds with three decimals.
  mutating func writeMilliseconds(_ nanoseconds: UInt64) {
    let microseconds = nanoseconds / 1000
    writeDecimal(microseconds / 1000)
    writeInteger(0x2E as UInt8)
    let rest = microseconds % 1000
    writeInteger(UInt8(48 + rest / 100))
    writeInteger(UInt8(48 + rest / 10 % 10))
    writeInteger(UInt8(48 + rest % 10))
  }

  mutating func writeDecimal(_ number: UInt64) {
    if number >= 10 { writeDecimal(number / 10) }
    writeInteger(UInt8(48 + number % 10))
  }

  /// The inside of a JSON string. Octets above 0x7F that are not UTF-8 become U+FFFD.
  mutating func writeJSON(_ bytes: some Collection<UInt8>) {
    if bytes.allSatisfy({ $0 >= 32 && $0 < 127 && $0 != 0x22 && $0 != 0x5C }) {
      writeBytes(bytes)
      return
    }
    for scalar in String(decoding: bytes, as: UTF8.self).unicodeScalars {
      switch scalar {
      case "\"": writeStaticString("\\\"")
      case "\\": writeStaticString("\\\\")
      case "\u{0}"..<" ", "\u{7f}":
        writeStaticString("\\u00")
        let value = UInt8(scalar.value)
        for digit in [value >> 4, value & 15] { writeInteger(digit < 10 ? 48 + digit : 87 + digit) }
      default: writeString(String(Character(scalar)))
      }
    }
  }
}
