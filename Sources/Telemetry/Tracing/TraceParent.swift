/// The `traceparent` field (W3C Trace Context, section 3.2): version, trace id, parent id, flags.
package struct TraceParent: Sendable, Equatable {
  package var traceID: (high: UInt64, low: UInt64)
  package var parentID: UInt64
  package var isSampled: Bool

  package static func == (a: TraceParent, b: TraceParent) -> Bool {
    a.traceID == b.traceID && a.parentID == b.parentID && a.isSampled == b.isSampled
  }

  /// Where the trace id stands in the field.
  package static let traceIDOffset = 3
  package static let traceIDCount = 32

  /// Nil = not valid: the trace is begun anew then.
  package init?(_ bytes: UnsafeRawBufferPointer) {
    guard bytes.count >= 55, bytes[2] == 0x2D, bytes[35] == 0x2D, bytes[52] == 0x2D else { return nil }
    guard let version = Self.hex(bytes, 0, 2), version != 0xFF else { return nil }
    // Later versions may say more behind another dash.
    if version == 0, bytes.count != 55 { return nil }
    if bytes.count > 55, bytes[55] != 0x2D { return nil }
    guard let high = Self.hex(bytes, 3, 16), let low = Self.hex(bytes, 19, 16), high | low != 0,
      let parent = Self.hex(bytes, 36, 16), parent != 0, let flags = Self.hex(bytes, 53, 2)
    else { return nil }
    traceID = (high, low)
    parentID = parent
    isSampled = flags & 1 == 1
  }

  /// Lower-case hexadecimal digits, as the specification asks for.
  private static func hex(_ bytes: UnsafeRawBufferPointer, _ start: Int, _ count: Int) -> UInt64? {
    var value: UInt64 = 0
    for index in start..<(start + count) {
      let octet = bytes[index]
      switch octet {
      case 0x30...0x39: value = value << 4 | UInt64(octet - 0x30)
      case 0x61...0x66: value = value << 4 | UInt64(octet - 0x57)
      default: return nil
      }
    }
    return value
  }
}
