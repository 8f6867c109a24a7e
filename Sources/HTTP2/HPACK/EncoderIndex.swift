/// Finds entries of an encoder's dynamic table by hash. Chains run from newer to older entries and end at the first
/// one that was evicted, so that evicting needs no bookkeeping.
struct EncoderIndex: ~Copyable {
  private struct Link {
    var hash: UInt64
    var nameHash: UInt64
    /// Sequence numbers of the next older entry in the same bucket; -1 = none.
    var older: Int
    var olderName: Int
  }

  private static let buckets = 64
  private var heads = ContiguousArray<Int>()
  private var nameHeads = ContiguousArray<Int>()
  private var links = ContiguousArray<Link>()
  /// Hashes of fields that were sent as literals of late: a field is entered when it comes again.
  private var seen = ContiguousArray<UInt32>()

  /// Notes that this field was sent; true when it had been already, not long ago.
  mutating func wasSeen(_ hash: UInt64) -> Bool {
    if seen.isEmpty { seen = ContiguousArray(repeating: 0, count: 128) }
    let slot = Int(truncatingIfNeeded: hash & 127)
    let mark = UInt32(truncatingIfNeeded: hash >> 32) | 1
    if seen[slot] == mark { return true }
    seen[slot] = mark
    return false
  }

  /// The newest live entry with that name and value: its sequence number, or -1.
  func find(
    _ name: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer, hash: UInt64, in table: borrowing DynamicTable
  ) -> Int {
    if heads.isEmpty { return -1 }
    var sequence = heads[Int(truncatingIfNeeded: hash) & (Self.buckets &- 1)]
    while sequence >= table.oldest {
      let link = links[sequence & (links.count &- 1)]
      if link.hash == hash {
        let entry = table.entry(sequence)
        if OctetHash.equal(table.name(entry), name), OctetHash.equal(table.value(entry), value) { return sequence }
      }
      sequence = link.older
    }
    return -1
  }

  /// The newest live entry with that name: its sequence number, or -1.
  func find(_ name: UnsafeRawBufferPointer, nameHash: UInt64, in table: borrowing DynamicTable) -> Int {
    if heads.isEmpty { return -1 }
    var sequence = nameHeads[Int(truncatingIfNeeded: nameHash) & (Self.buckets &- 1)]
    while sequence >= table.oldest {
      let link = links[sequence & (links.count &- 1)]
      if link.nameHash == nameHash, OctetHash.equal(table.name(table.entry(sequence)), name) { return sequence }
      sequence = link.olderName
    }
    return -1
  }

  /// Enters the entry `sequence`, the newest of `live` ones.
  mutating func insert(_ sequence: Int, hash: UInt64, nameHash: UInt64, live: Int) {
    if heads.isEmpty {
      heads = ContiguousArray(repeating: -1, count: Self.buckets)
      nameHeads = heads
    }
    if live > links.count { growLinks(sequence, live) }
    let bucket = Int(truncatingIfNeeded: hash) & (Self.buckets - 1)
    let nameBucket = Int(truncatingIfNeeded: nameHash) & (Self.buckets - 1)
    links[sequence & (links.count - 1)] = Link(
      hash: hash, nameHash: nameHash, older: heads[bucket], olderName: nameHeads[nameBucket])
    heads[bucket] = sequence
    nameHeads[nameBucket] = sequence
  }

  private mutating func growLinks(_ sequence: Int, _ live: Int) {
    let larger = max(16, links.count * 2)
    var grown = ContiguousArray(
      repeating: Link(hash: 0, nameHash: 0, older: -1, olderName: -1), count: larger)
    if links.count > 0 {
      for old in max(0, sequence - links.count)..<sequence {
        grown[old & (larger - 1)] = links[old & (links.count - 1)]
      }
    }
    links = grown
  }
}
