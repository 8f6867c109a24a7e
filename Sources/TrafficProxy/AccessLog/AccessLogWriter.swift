import HTTP1
import NIOCore
import Telemetry

#if canImport(Glibc)
  import Glibc
#else
  import Musl
#endif

/// Collects the access records of one loop as lines and publishes them in one piece.
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

  /// Appends a record: its time, wall-clock now less `ago` nanoseconds, as RFC 3339 in UTC with milliseconds, and what
  /// `body` writes, at most `room` octets. `finish` ends it.
  @inline(__always)
  mutating func begin(ago: UInt64, room: Int, _ body: (inout OctetWriter) -> Void) {
    let total = Self.wallClock(ago: ago)
    let whole = Int(total / 1_000_000_000)
    if whole != second {
      second = whole
      var start = ByteBuffer()
      start.writeStaticString("{\"time\":\"")
      start.writeTime(total, Self.secondFormat)
      secondText = Array(start.readableBytesView)
    }
    let milliseconds = UInt64(total % 1_000_000_000) / 1_000_000
    OctetWriter.append(to: &lines, room: secondText.count + 5 + room) { out in
      out.bytes(secondText)
      out.threeDigits(milliseconds)
      out.text("Z\"")
      body(&out)
    }
  }

  /// For strftime(3), with its NUL.
  private static let secondFormat = Array("%Y-%m-%dT%H:%M:%S.".utf8) + [0]

  /// A member that is JSON already but for its quotes.
  mutating func member(_ name: String, _ value: ByteBuffer, quoted: Bool) {
    lines.writeStaticString(",\"")
    lines.writeJSON(name.utf8)
    lines.writeStaticString(quoted ? "\":\"" : "\":")
    lines.writeImmutableBuffer(value)
    if quoted { lines.writeStaticString("\"") }
  }

  mutating func finish() { lines.writeStaticString("}\n") }

  /// Takes back what was appended since `lines` had `mark` octets.
  mutating func take(since mark: Int) -> ByteBuffer {
    defer { lines.moveWriterIndex(to: lines.readerIndex + mark) }
    return ByteBuffer(bytes: lines.readableBytesView.dropFirst(mark))
  }
}

/// Members of a JSON object behind its first.
extension OctetWriter {
  @inline(__always)
  private mutating func key(_ name: StaticString) {
    text(",\"")
    text(name)
    text("\":")
  }

  /// Up to six octets for each octet of the value.
  @inline(__always)
  mutating func member(_ name: StaticString, _ value: UnsafeRawBufferPointer) {
    key(name)
    octet(0x22)
    json(value)
    octet(0x22)
  }

  @inline(__always)
  mutating func member(_ name: StaticString, _ value: [UInt8]) { value.withUnsafeBytes { member(name, $0) } }

  /// `value` holds nothing that JSON escapes.
  @inline(__always)
  mutating func member(_ name: StaticString, _ value: StaticString) {
    key(name)
    octet(0x22)
    text(value)
    octet(0x22)
  }

  @inline(__always)
  mutating func member(_ name: StaticString, _ words: (UInt64, UInt64)) {
    key(name)
    octet(0x22)
    hex(words.0)
    hex(words.1)
    octet(0x22)
  }

  @inline(__always)
  mutating func member(_ name: StaticString, _ value: UInt64) {
    key(name)
    decimal(value)
  }

  /// Nanoseconds, written as milliseconds with three decimals.
  @inline(__always)
  mutating func member(_ name: StaticString, nanoseconds: UInt64) {
    key(name)
    milliseconds(nanoseconds)
  }

  /// The inside of a JSON string, as `ByteBuffer.writeJSON`.
  @inline(__always)
  mutating func json(_ value: UnsafeRawBufferPointer) {
    if value.isPlainJSON { bytes(value) } else { escaped(value) }
  }

  @inline(never)
  private mutating func escaped(_ value: UnsafeRawBufferPointer) {
    var text = ByteBuffer()
    text.writeJSON(value)
    text.withUnsafeReadableBytes { bytes($0) }
  }
}

extension UnsafeRawBufferPointer {
  /// Whether it is printable ASCII without quotation marks and backslashes: JSON writes it as it is.
  var isPlainJSON: Bool {
    var at = 0
    while at + 8 <= count {
      let word = loadUnaligned(fromByteOffset: at, as: UInt64.self)
      // The upper bit of an octet is set where it is 0x80 and above, below 0x20, or equal to one of three.
      let ones: UInt64 = 0x0101_0101_0101_0101
      func zero(_ word: UInt64) -> UInt64 { (word &- ones) & ~word }
      let odd =
        word | (word &- ones &* 0x20) | zero(word ^ (ones &* 0x22)) | zero(word ^ (ones &* 0x5C))
        | zero(word ^ (ones &* 0x7F))
      if odd & (ones << 7) != 0 { return false }
      at += 8
    }
    while at < count {
      let octet = self[at]
      if octet < 0x20 || octet >= 0x7F || octet == 0x22 || octet == 0x5C { return false }
      at += 1
    }
    return true
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
    if bytes.withContiguousStorageIfAvailable({ UnsafeRawBufferPointer($0).isPlainJSON }) ?? false {
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
