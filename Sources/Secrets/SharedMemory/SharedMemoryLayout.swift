/// Layout v1 of the memory that carries secrets to the app: little-endian, a header of 64 octets, then records.
///
/// Header: `0` magic `OUTSEC\0\1` · `8` u32 header length · `12` u32 segment length · `16` u32 seq (odd = being written) ·
/// `20` u32 flags · `24` u64 generation · `32` u64 published, ms since 1970 · `40` u32 octets of records · `44` u32
/// CRC-32 of the records · `48` u32 count of records · `52` twelve octets zero.
///
/// Record: u32 length, a multiple of 8 · u16 length of the name · u16 kind · u32 length of the value · u32 zero ·
/// u64 expiry, ms since 1970, 0 = none · u64 version, 0 = none · name · value · zeros.
package enum SharedMemoryLayout {
  package static let magic: [UInt8] = Array("OUTSEC".utf8) + [0, 1]
  package static let headerLength = 64
  package static let recordHead = 32
  /// A segment's length is at most so many octets.
  package static let limit = 64 << 20

  /// Offsets in the header.
  package enum Offset {
    package static let headerLength = 8
    package static let segmentLength = 12
    package static let sequence = 16
    package static let flags = 20
    package static let generation = 24
    package static let published = 32
    package static let used = 40
    package static let checksum = 44
    package static let count = 48
  }

  /// Bits of `flags`.
  package struct Flags: OptionSet, Sendable {
    package let rawValue: UInt32
    package init(rawValue: UInt32) { self.rawValue = rawValue }
    /// Every configured value is there.
    package static let ready = Flags(rawValue: 1)
    /// A value could not be fetched again, or has expired.
    package static let stale = Flags(rawValue: 2)
    /// Nothing is published here any more.
    package static let closed = Flags(rawValue: 4)
  }

  /// One field of a secret.
  package struct Record: Sendable {
    /// `NAME.FIELD`, UTF-8, at most 65535 octets.
    package var name: String
    package var value: SecretBytes
    /// Milliseconds since 1970; 0 = it does not expire.
    package var expires: UInt64 = 0
    /// The store's own version when it is a number; 0 = none.
    package var version: UInt64 = 0
    package init(name: String, value: SecretBytes, expires: UInt64 = 0, version: UInt64 = 0) {
      self.name = name
      self.value = value
      self.expires = expires
      self.version = version
    }

    var length: Int { (SharedMemoryLayout.recordHead + name.utf8.count + value.count + 7) / 8 * 8 }
  }

  /// Octets of the records, without the header.
  package static func length(of records: [Record]) -> Int { records.reduce(0) { $0 + $1.length } }

  /// The length of a segment for these records, with room to grow: a multiple of 4096, at least 1 MiB.
  package static func segmentLength(for records: [Record]) -> Int {
    max(1 << 20, (headerLength + 4 * length(of: records) + 4095) / 4096 * 4096)
  }

  /// Writes the records from the start of `memory`, which has room for them, and returns the octets used. Values go from
  /// their own memory straight into it.
  package static func write(_ records: [Record], into memory: UnsafeMutableRawBufferPointer) -> Int {
    var at = 0
    for record in records {
      let name = Array(record.name.utf8.prefix(Int(UInt16.max)))
      put(UInt32(record.length), memory, at)
      put(UInt16(name.count), memory, at + 4)
      put(UInt16(0), memory, at + 6)
      put(UInt32(record.value.count), memory, at + 8)
      put(UInt32(0), memory, at + 12)
      put(record.expires, memory, at + 16)
      put(record.version, memory, at + 24)
      var next = at + recordHead
      for octet in name {
        memory[next] = octet
        next += 1
      }
      record.value.withBytes { bytes in
        if let target = memory.baseAddress, let source = bytes.baseAddress {
          (target + next).copyMemory(from: source, byteCount: bytes.count)
        }
        next += bytes.count
      }
      at += record.length
      while next < at {
        memory[next] = 0
        next += 1
      }
    }
    return at
  }

  /// Writes an integer at an offset, little-endian.
  package static func put<Number: FixedWidthInteger>(
    _ number: Number, _ memory: UnsafeMutableRawBufferPointer, _ offset: Int
  ) {
    memory.storeBytes(of: number.littleEndian, toByteOffset: offset, as: Number.self)
  }

  package static func get<Number: FixedWidthInteger>(
    _ type: Number.Type, _ memory: UnsafeRawBufferPointer, _ offset: Int
  ) -> Number {
    Number(littleEndian: memory.loadUnaligned(fromByteOffset: offset, as: type))
  }
}

/// CRC-32 of IEEE 802.3, as zlib, Python's `zlib.crc32` and Go's `crc32.ChecksumIEEE` compute it.
package enum CRC32 {
  private static let table: [UInt32] = (0..<256).map { index in
    (0..<8).reduce(UInt32(index)) { value, _ in value & 1 == 1 ? 0xEDB8_8320 ^ (value >> 1) : value >> 1 }
  }

  package static func checksum(_ bytes: UnsafeRawBufferPointer) -> UInt32 {
    var value: UInt32 = .max
    for byte in bytes { value = table[Int((value ^ UInt32(byte)) & 0xFF)] ^ (value >> 8) }
    return ~value
  }
}
