/// The wire format of Protocol Buffers (protobuf.dev, "Encoding"), written into an arena.
extension ByteArena {
  package func append(varint value: UInt64) {
    var rest = value
    while rest >= 0x80 {
      append(UInt8(truncatingIfNeeded: rest) | 0x80)
      rest >>= 7
    }
    append(UInt8(rest))
  }

  package func append(field: Int, varint value: UInt64) {
    append(varint: UInt64(field) << 3)
    append(varint: value)
  }

  package func append(field: Int, fixed64 value: UInt64) {
    append(varint: UInt64(field) << 3 | 1)
    zeros(8)
    store(value, at: count - 8)
  }

  package func append(field: Int, bytes: Bytes) {
    append(varint: UInt64(field) << 3 | 2)
    append(varint: UInt64(bytes.count))
    append(bytes)
  }

  package func append(field: Int, text: String) {
    var text = text
    text.withUTF8 { append(field: field, bytes: Bytes($0)) }
  }

  /// A message that `body` writes. Its length is known only then: what is longer than 127 bytes moves.
  package func append(field: Int, message body: () -> Void) {
    append(varint: UInt64(field) << 3 | 2)
    let at = count
    append(0 as UInt8)
    body()
    let length = count - at - 1
    if length < 0x80 { return store(UInt8(length), at: at) }
    var size = 1
    while length >> (7 * size) != 0 { size += 1 }
    insert(size - 1, at: at + 1)
    for index in 0..<size {
      let more: UInt8 = index + 1 < size ? 0x80 : 0
      store(UInt8(truncatingIfNeeded: length >> (7 * index)) & 0x7F | more, at: at + index)
    }
  }
}

/// Reads the fields of a message one by one. Strict: nil for an overlong varint, a group, or a length beyond the end.
package struct ProtobufReader {
  package enum Value {
    case number(UInt64)
    case bytes(Bytes)
  }
  private let bytes: Bytes
  private var index = 0
  /// True once something was no wire format.
  package private(set) var isBroken = false

  package init(_ bytes: Bytes) { self.bytes = bytes }

  package mutating func next() -> (field: Int, value: Value)? {
    guard !isBroken, index < bytes.count else { return nil }
    if let tag = varint(), tag >> 3 > 0, tag >> 3 < 1 << 29, let value = value(type: tag & 7) {
      return (Int(tag >> 3), value)
    }
    isBroken = true
    return nil
  }

  private mutating func value(type: UInt64) -> Value? {
    switch type {
    case 0: return varint().map { .number($0) }
    case 1:
      guard index + 8 <= bytes.count else { return nil }
      defer { index += 8 }
      return .number(bytes.integer(at: index))
    case 2:
      guard let length = varint(), length <= UInt64(bytes.count - index) else { return nil }
      defer { index += Int(length) }
      return .bytes(bytes.part(index..<index + Int(length)))
    case 5:
      guard index + 4 <= bytes.count else { return nil }
      defer { index += 4 }
      return .number(UInt64(bytes.integer(at: index, as: UInt32.self)))
    default: return nil
    }
  }

  private mutating func varint() -> UInt64? {
    var value: UInt64 = 0
    var shift: UInt64 = 0
    while index < bytes.count, shift < 70 {
      let byte = bytes[index]
      index += 1
      if shift == 63, byte > 1 { return nil }
      value |= UInt64(byte & 0x7F) << shift
      if byte < 0x80 { return value }
      shift += 7
    }
    return nil
  }
}
