/// MessagePack (github.com/msgpack/msgpack, spec.md), written into an arena in its shortest forms.
extension ByteArena {
  private func append(bigEndian value: some FixedWidthInteger) {
    withUnsafeBytes(of: value.bigEndian) { append($0) }
  }

  private func head(_ count: Int, fixed: UInt8, limit: Int, one: UInt8?, two: UInt8, four: UInt8) {
    if count < limit { return append(fixed | UInt8(count)) }
    if let one, count <= 0xFF {
      append(one)
      return append(UInt8(count))
    }
    append(count <= 0xFFFF ? two : four)
    if count <= 0xFFFF { append(bigEndian: UInt16(count)) } else { append(bigEndian: UInt32(count)) }
  }

  package func append(messagePackArray count: Int) {
    head(count, fixed: 0x90, limit: 16, one: nil, two: 0xDC, four: 0xDD)
  }
  package func append(messagePackMap count: Int) {
    head(count, fixed: 0x80, limit: 16, one: nil, two: 0xDE, four: 0xDF)
  }

  package func append(messagePackText bytes: Bytes) {
    head(bytes.count, fixed: 0xA0, limit: 32, one: 0xD9, two: 0xDA, four: 0xDB)
    append(bytes)
  }

  package func append(messagePackText text: String) {
    var text = text
    text.withUTF8 { append(messagePackText: Bytes($0)) }
  }

  package func append(messagePackBytes bytes: [UInt8]) {
    head(bytes.count, fixed: 0, limit: 0, one: 0xC4, two: 0xC5, four: 0xC6)
    append(bytes)
  }

  package func append(messagePackInteger value: Int64) {
    switch value {
    case 0...0x7F: append(UInt8(value))
    case -32..<0: append(UInt8(bitPattern: Int8(value)))
    case Int64(Int32.min)...Int64(Int32.max):
      append(0xD2 as UInt8)
      append(bigEndian: Int32(value))
    default:
      append(0xD3 as UInt8)
      append(bigEndian: value)
    }
  }

  package func append(messagePackDouble value: Double) {
    append(0xCB as UInt8)
    append(bigEndian: value.bitPattern)
  }

  /// Fluentd's EventTime: seconds and nanoseconds, 32 bits each (Forward Protocol Specification v1, "EventTime Ext Format").
  package func append(eventTime nanoseconds: Int64) {
    let time = max(0, nanoseconds)
    append(0xD7 as UInt8)
    append(0x00 as UInt8)
    append(bigEndian: UInt32(truncatingIfNeeded: time / 1_000_000_000))
    append(bigEndian: UInt32(time % 1_000_000_000))
  }

  /// A JSON value, which must be valid. What lies deeper than `depth` values within each other is written as its text, as
  /// is a number that neither 64 bits nor a double hold.
  package func append(messagePackOf value: Bytes, depth: Int) {
    switch value.first {
    case 0x22:
      let inner = value.part(1..<value.count - 1)
      appendText(inner)
    case 0x74: append(0xC3 as UInt8)
    case 0x66: append(0xC2 as UInt8)
    case 0x6E: append(0xC0 as UInt8)
    case 0x5B where depth > 0:
      var elements: [Range<Int>] = []
      _ = JSONScanner.array(value) { elements.append($0) }
      append(messagePackArray: elements.count)
      for element in elements { append(messagePackOf: value.part(element), depth: depth - 1) }
    case 0x7B where depth > 0:
      var members: [(Range<Int>, Range<Int>)] = []
      _ = JSONScanner.object(value) { members.append(($0, $1)) }
      append(messagePackMap: members.count)
      for (key, inner) in members {
        appendText(value.part(key))
        append(messagePackOf: value.part(inner), depth: depth - 1)
      }
    case 0x5B, 0x7B: append(messagePackText: value)
    default:
      let text = value.text
      if let number = Int64(text) { return append(messagePackInteger: number) }
      guard let number = Double(text), number.isFinite else { return append(messagePackText: value) }
      append(messagePackDouble: number)
    }
  }

  private func appendText(_ inner: Bytes) {
    if inner.firstOffset(of: 0x5C) == nil { return append(messagePackText: inner) }
    let plain = ByteArena(capacity: inner.count)
    JSONText.unescape(inner, into: plain)
    append(messagePackText: plain.bytes)
  }
}
