import Glibc

/// Bytes of a record, a batch or a read, without ownership.
package typealias Bytes = UnsafeRawBufferPointer

/// A growing stretch of memory that is reused from batch to batch. Owned by one thread; not `Sendable`.
package final class ByteArena {
  package private(set) var base: UnsafeMutableRawPointer
  package private(set) var count = 0
  package private(set) var capacity: Int

  package init(capacity: Int = 4096) {
    self.capacity = max(64, capacity)
    base = .allocate(byteCount: self.capacity, alignment: 16)
  }

  deinit { base.deallocate() }

  /// The bytes written so far; invalid after the next change of the arena.
  package var bytes: Bytes { Bytes(start: base, count: count) }

  package func removeAll() { count = 0 }

  /// Forgets everything from `length` on.
  package func truncate(to length: Int) { count = min(count, length) }

  /// Gives memory back when more than `limit` bytes are held; the content must not be needed any more.
  package func release(above limit: Int) {
    guard capacity > limit else { return }
    base.deallocate()
    capacity = limit
    base = .allocate(byteCount: limit, alignment: 16)
    count = 0
  }

  /// Forgets everything and makes room for so many bytes, and little more.
  package func prepare(_ size: Int) {
    count = 0
    guard size > capacity || capacity > 4 * size + (1 << 20) else { return }
    base.deallocate()
    capacity = (size + 0x3FFF) & ~0x3FFF
    base = .allocate(byteCount: capacity, alignment: 16)
  }

  /// Makes room for `extra` more bytes and returns where they go; `advance` makes them count.
  @inline(__always)
  package func reserve(_ extra: Int) -> UnsafeMutableRawPointer {
    if count + extra > capacity { grow(count + extra) }
    return base + count
  }

  package func advance(_ length: Int) { count += length }

  private func grow(_ wanted: Int) {
    let size = max(wanted, capacity * 2)
    let bigger = UnsafeMutableRawPointer.allocate(byteCount: size, alignment: 16)
    bigger.copyMemory(from: base, byteCount: count)
    base.deallocate()
    base = bigger
    capacity = size
  }

  @inline(__always)
  package func append(_ bytes: Bytes) {
    guard let start = bytes.baseAddress, bytes.count > 0 else { return }
    reserve(bytes.count).copyMemory(from: start, byteCount: bytes.count)
    count += bytes.count
  }

  @inline(__always)
  package func append(_ byte: UInt8) {
    reserve(1).storeBytes(of: byte, as: UInt8.self)
    count += 1
  }

  package func append(_ text: StaticString) {
    append(Bytes(start: text.utf8Start, count: text.utf8CodeUnitCount))
  }

  /// The same where every record passes.
  @inline(__always)
  func write(_ text: StaticString) {
    reserve(text.utf8CodeUnitCount).copyMemory(from: text.utf8Start, byteCount: text.utf8CodeUnitCount)
    count &+= text.utf8CodeUnitCount
  }

  package func append(_ bytes: [UInt8]) { bytes.withUnsafeBytes { append($0) } }

  package func append(text: String) {
    var text = text
    text.withUTF8 { append(Bytes($0)) }
  }

  /// Stores an integer in little-endian order at `offset`, which must have been written before.
  package func store<T: FixedWidthInteger>(_ value: T, at offset: Int) {
    (base + offset).storeBytes(of: value.littleEndian, as: T.self)
  }

  /// Moves what stands from `offset` on by `length` bytes, whose content is then undefined.
  package func insert(_ length: Int, at offset: Int) {
    guard length > 0 else { return }
    _ = reserve(length)
    memmove(base + offset + length, base + offset, count - offset)
    count += length
  }

  package func zeros(_ length: Int) {
    memset(reserve(length), 0, length)
    count += length
  }

  /// Forgets the first `length` bytes and moves the rest to the front.
  package func removeFirst(_ length: Int) {
    guard length > 0 else { return }
    let rest = max(0, count - length)
    if rest > 0 { memmove(base, base + length, rest) }
    count = rest
  }
}

extension UnsafeRawBufferPointer {
  /// A part of the bytes; the range must lie within them.
  @inline(__always)
  package func part(_ range: Range<Int>) -> Bytes {
    assert(range.lowerBound >= 0 && range.upperBound <= count)
    return Bytes(start: baseAddress.map { $0 + range.lowerBound }, count: range.upperBound &- range.lowerBound)
  }

  /// The offset of the first `byte` at or after `start`, or nil.
  @inline(__always)
  package func firstOffset(of byte: UInt8, from start: Int = 0) -> Int? {
    guard start < count, let base = baseAddress, let hit = memchr(base + start, Int32(byte), count - start)
    else { return nil }
    return UnsafeRawPointer(hit) - base
  }

  /// The offset of the last `byte`, or nil.
  package func lastOffset(of byte: UInt8) -> Int? {
    var index = count - 1
    while index >= 0 {
      if self[index] == byte { return index }
      index -= 1
    }
    return nil
  }

  /// True when both hold the same bytes.
  @inline(__always)
  package func equals(_ other: Bytes) -> Bool {
    count == other.count && (count == 0 || memcmp(baseAddress!, other.baseAddress!, count) == 0)
  }

  /// True when the bytes are exactly the ASCII text.
  @inline(__always)
  package func equals(_ text: StaticString) -> Bool {
    count == text.utf8CodeUnitCount && (count == 0 || memcmp(baseAddress!, text.utf8Start, count) == 0)
  }

  /// A little-endian integer at `offset`, which must lie within the bytes.
  package func integer<T: FixedWidthInteger>(at offset: Int, as type: T.Type = T.self) -> T {
    T(littleEndian: loadUnaligned(fromByteOffset: offset, as: T.self))
  }

  /// The text, with invalid UTF-8 replaced.
  package var text: String { String(decoding: self, as: UTF8.self) }
}
