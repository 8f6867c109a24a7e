/// Writes octets into room that was measured before.
struct HeadCursor {
  private(set) var position: UnsafeMutablePointer<UInt8>

  init(_ room: UnsafeMutableRawBufferPointer) {
    // A buffer with room for something has an address.
    position = room.baseAddress.unsafelyUnwrapped.assumingMemoryBound(to: UInt8.self)
  }

  @inline(__always)
  mutating func put(_ octets: UnsafeRawBufferPointer) {
    guard let base = octets.baseAddress else { return }
    UnsafeMutableRawPointer(position).copyMemory(from: base, byteCount: octets.count)
    position += octets.count
  }

  @inline(__always)
  mutating func put(_ text: StaticString) {
    position.update(from: text.utf8Start, count: text.utf8CodeUnitCount)
    position += text.utf8CodeUnitCount
  }

  @inline(__always)
  mutating func put(_ octet: UInt8) {
    position.pointee = octet
    position += 1
  }

  /// A field line.
  @inline(__always)
  mutating func line(_ name: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer) {
    put(name)
    put(0x3A)
    put(0x20)
    put(value)
    put(0x0D)
    put(0x0A)
  }
}
