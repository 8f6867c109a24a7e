import CLinux
import CZlib

/// The head of a batch in a spool segment. Little-endian, 64 bytes:
///
/// | offset | type | meaning |
/// | --- | --- | --- |
/// | 0 | u32 | magic `ORB2` |
/// | 4 | u32 | length of the payload that follows the head |
/// | 8 | u32 | CRC-32C of the rest of the head and the payload; with the magic `ORB1`, which is read too, CRC-32 |
/// | 12 | u32 | records |
/// | 16 | u64 | number of the first record since the spool was made |
/// | 24 | u64 | identity of the source |
/// | 32, 40 | u64 | where the batch begins and ends in the source, bytes |
/// | 48 | u16 | length of the source's name, which begins the payload |
/// | 50 | u16, u32 | zero |
/// | 56 | i64 | time of appending, nanoseconds since 1970 |
///
/// After the name follow the records: a mark of 24 bytes and the record with its LF.
package struct SpoolBatchHead: Sendable, Equatable {
  package static let size = 64
  package static let magic: UInt32 = 0x3242_524F
  /// Of batches with the older checksum.
  package static let olderMagic: UInt32 = 0x3142_524F
  /// No batch is longer; a greater length is damage.
  package static let maximumPayload = 64 << 20

  package var payload: Int
  package var checksum: UInt32 = 0
  package var count: Int
  package var sequence: UInt64
  package var identity: UInt64
  package var start: UInt64
  package var end: UInt64
  package var nameLength: Int
  package var time: Int64

  package init(
    payload: Int, count: Int, sequence: UInt64, identity: UInt64, start: UInt64, end: UInt64, nameLength: Int,
    time: Int64
  ) {
    self.payload = payload
    self.count = count
    self.sequence = sequence
    self.identity = identity
    self.start = start
    self.end = end
    self.nameLength = nameLength
    self.time = time
  }

  /// Reads the head; nil when it is none.
  package init?(_ bytes: Bytes) {
    guard bytes.count >= Self.size else { return nil }
    let magic: UInt32 = bytes.integer(at: 0)
    guard magic == Self.magic || magic == Self.olderMagic else { return nil }
    payload = Int(bytes.integer(at: 4, as: UInt32.self))
    checksum = bytes.integer(at: 8)
    count = Int(bytes.integer(at: 12, as: UInt32.self))
    sequence = bytes.integer(at: 16)
    identity = bytes.integer(at: 24)
    start = bytes.integer(at: 32)
    end = bytes.integer(at: 40)
    nameLength = Int(bytes.integer(at: 48, as: UInt16.self))
    time = bytes.integer(at: 56)
    guard payload <= Self.maximumPayload, nameLength <= payload else { return nil }
    // Numbers that no spool comes to are damage too, and what is added to the others does not overflow.
    guard (sequence | start | end) >> 62 == 0 else { return nil }
    // No record holds a zero octet: none can pass for a head.
    guard bytes.integer(at: 50, as: UInt16.self) == 0, bytes.integer(at: 52, as: UInt32.self) == 0 else { return nil }
  }

  /// True when the head and its payload, which stand together in `batch`, are as they were written.
  package static func isIntact(_ batch: Bytes) -> Bool {
    guard let head = SpoolBatchHead(batch), batch.count >= size + head.payload else { return false }
    let covered = batch.part(12..<size + head.payload)
    let isOlder = batch.integer(at: 0, as: UInt32.self) == olderMagic
    return (isOlder ? Checksum.crc32(covered) : Checksum.crc32c(covered)) == head.checksum
  }

  /// Where the next intact batch begins at or after `start`, behind damage; nil when there is none.
  package static func nextIntact(_ segment: Bytes, from start: Int) -> Int? {
    var at = start
    while let hit = segment.firstOffset(of: UInt8(ascii: "O"), from: at), hit + size <= segment.count {
      if isIntact(segment.part(hit..<segment.count)) { return hit }
      at = hit + 1
    }
    return nil
  }
}

package enum Checksum {
  /// CRC-32 as zlib, gzip and Ethernet have it.
  package static func crc32(_ bytes: Bytes) -> UInt32 {
    guard let base = bytes.baseAddress else { return 0 }
    return UInt32(CZlib.crc32(0, base.assumingMemoryBound(to: UInt8.self), UInt32(bytes.count)))
  }

  /// CRC-32C, for which processors have an instruction.
  package static func crc32c(_ bytes: Bytes) -> UInt32 { outrider_crc32c(0, bytes.baseAddress, bytes.count) }

  /// FNV-1a, 64 bits: to tell files apart, not against attackers.
  package static func fnv64(_ bytes: Bytes) -> UInt64 {
    var hash: UInt64 = 0xCBF2_9CE4_8422_2325
    for byte in bytes { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01B3 }
    return hash
  }
}

/// Collects records and closes them into a batch for the spool. Owned by one thread.
package final class SpoolBatchBuilder {
  package static let markSize = 24
  package let arena: ByteArena
  package private(set) var count = 0
  private let name: [UInt8]

  package init(source: String, capacity: Int = 64 << 10) {
    name = Array(source.utf8.prefix(1024))
    arena = ByteArena(capacity: capacity)
    reset()
  }

  package func reset() {
    arena.removeAll()
    arena.release(above: 1 << 20)
    arena.zeros(SpoolBatchHead.size)
    arena.append(name)
    count = 0
  }

  package var isEmpty: Bool { count == 0 }

  /// Appends the record that `encode` writes, `delta` bytes behind the batch's start in the source. Returns false when
  /// `encode` returned nil, and keeps nothing of it then.
  @inline(__always)
  package func add(delta: Int, _ encode: (ByteArena) -> RecordMark?) -> Bool {
    let at = arena.count
    arena.zeros(Self.markSize)
    guard let mark = encode(arena) else {
      arena.truncate(to: at)
      return false
    }
    arena.store(UInt32(arena.count - at - Self.markSize), at: at)
    arena.store(UInt32(truncatingIfNeeded: delta), at: at + 4)
    arena.store(mark.time, at: at + 8)
    arena.store(UInt32(mark.body), at: at + 16)
    let flags = mark.stream.rawValue | mark.kind.rawValue << 2 | (mark.truncated ? 16 : 0)
    arena.store(flags, at: at + 20)
    arena.store(mark.level.rawValue, at: at + 21)
    count += 1
    return true
  }

  /// Completes the head; the batch is `arena.bytes`.
  package func finish(sequence: UInt64, identity: UInt64, start: UInt64, end: UInt64, time: Int64) {
    arena.store(SpoolBatchHead.magic, at: 0)
    arena.store(UInt32(arena.count - SpoolBatchHead.size), at: 4)
    arena.store(UInt32(count), at: 12)
    arena.store(sequence, at: 16)
    arena.store(identity, at: 24)
    arena.store(start, at: 32)
    arena.store(end, at: 40)
    arena.store(UInt16(name.count), at: 48)
    arena.store(time, at: 56)
    arena.store(Checksum.crc32c(arena.bytes.part(12..<arena.count)), at: 8)
  }
}

/// A record as it stands in a batch.
package struct SpooledRecord {
  package var mark: RecordMark
  /// With its LF.
  package var bytes: Bytes
  /// Where it begins in the source, bytes.
  package var offset: UInt64

  package init(mark: RecordMark, bytes: Bytes, offset: UInt64) {
    self.mark = mark
    self.bytes = bytes
    self.offset = offset
  }
}

/// Walks through the records of an intact batch.
package struct SpoolBatchView {
  package let head: SpoolBatchHead
  /// When there is one, records that it does not match are passed over.
  package var filter: ConditionMatcher?
  private let batch: Bytes
  private var at: Int

  package init?(_ batch: Bytes) {
    guard let head = SpoolBatchHead(batch), batch.count >= SpoolBatchHead.size + head.payload else { return nil }
    self.head = head
    self.batch = batch.part(0..<SpoolBatchHead.size + head.payload)
    at = SpoolBatchHead.size + head.nameLength
  }

  /// A batch of which only the head and the source's name are there: it shows no records.
  package init(head: SpoolBatchHead, begin batch: Bytes) {
    self.head = head
    self.batch = batch
    at = batch.count
  }

  package var source: Bytes { batch.part(SpoolBatchHead.size..<SpoolBatchHead.size + head.nameLength) }

  /// Nothing is there to be shown.
  package var isEmpty: Bool { at >= batch.count }

  package mutating func next() -> SpooledRecord? {
    while let record = following() { if filter?.matches(record.bytes) ?? true { return record } }
    return nil
  }

  private mutating func following() -> SpooledRecord? {
    let start = at + SpoolBatchBuilder.markSize
    guard start <= batch.count else { return nil }
    let length = Int(batch.integer(at: at, as: UInt32.self))
    let flags = batch[at + 20]
    guard start + length <= batch.count, let stream = LogStream(rawValue: flags & 3),
      let kind = RecordMark.Kind(rawValue: flags >> 2 & 3), let level = LogLevel(rawValue: batch[at + 21])
    else { return nil }
    let mark = RecordMark(
      stream: stream, kind: kind, level: level, time: batch.integer(at: at + 8),
      body: Int(batch.integer(at: at + 16, as: UInt32.self)), truncated: flags & 16 != 0)
    let offset = head.start + UInt64(batch.integer(at: at + 4, as: UInt32.self))
    at = start + length
    return SpooledRecord(mark: mark, bytes: batch.part(start..<at), offset: offset)
  }
}
