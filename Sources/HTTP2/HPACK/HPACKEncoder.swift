/// Encodes field blocks (RFC 7541). One per connection and direction.
///
/// A field is entered into the dynamic table when it is sent for the second time within a while, so that values that
/// never come again do not push out those that do. Fields that are entered are Huffman coded, which is paid once; the
/// others are not, because their octets would be coded each time. Credentials and fields that came as never-indexed
/// are never-indexed (RFC 7541 section 7.1.3).
package struct HPACKEncoder: ~Copyable {
  private var table: DynamicTable
  private var index = EncoderIndex()
  /// The most that this encoder uses, whatever the peer offers.
  private let ceiling: Int
  /// A size update that the next block has to begin with: the smallest size since the last block, and the last one.
  private var smallestSize = Int.max
  private var announcedSize: Int

  /// Octets that a field may take beyond its name and value.
  static let overhead = 16
  /// Octets that the size updates at the start of a block may take.
  static let startOverhead = 16
  /// A longer value is not entered into the dynamic table.
  private static let largestEntered = 1024

  /// `ceiling`: at most this many octets of dynamic table; 0 = none is used.
  package init(ceiling: Int = 4096) {
    self.ceiling = ceiling
    // The protocol's initial size is 4,096 (RFC 9113 section 6.5.2); using less has to be announced.
    announcedSize = 4096
    table = DynamicTable(capacity: min(ceiling, 4096))
    smallestSize = table.capacity
  }

  var tableSize: Int { table.size }
  var entryCount: Int { table.count }

  /// The peer's SETTINGS_HEADER_TABLE_SIZE.
  package mutating func setPeerMaximum(_ octets: Int) {
    let size = min(octets, ceiling)
    smallestSize = min(smallestSize, size)
    table.setCapacity(size)
  }

  /// Begins a block: writes the size updates that are due (RFC 7541 section 4.2).
  mutating func begin(_ output: inout UnsafeMutablePointer<UInt8>) {
    if smallestSize == announcedSize, table.capacity == announcedSize { return }
    if smallestSize < min(announcedSize, table.capacity) {
      Self.integer(smallestSize, prefix: 5, flags: 0x20, to: &output)
      announcedSize = smallestSize
    }
    if table.capacity != announcedSize { Self.integer(table.capacity, prefix: 5, flags: 0x20, to: &output) }
    announcedSize = table.capacity
    smallestSize = table.capacity
  }

  /// Writes one field. `name` is lower case. `output` has room for `overhead` octets beside name and value.
  mutating func field(
    _ name: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer, sensitive: SensitiveNames = SensitiveNames(),
    to output: inout UnsafeMutablePointer<UInt8>
  ) {
    let nameHash = OctetHash.of(name)
    let known = StaticTable.find(name, hash: nameHash)
    if Self.isCredential(known) || sensitive.mayContain(hash: nameHash) {
      literal(name, value, known: known, nameHash: nameHash, prefix: 4, flags: 0x10, to: &output)
      return
    }
    if known > 0 {
      let full = StaticTable.find(value, from: known)
      if full > 0 {
        output.pointee = 0x80 | UInt8(full)
        output += 1
        return
      }
    }
    if table.capacity == 0 || value.count > Self.largestEntered {
      literal(name, value, known: known, nameHash: nameHash, prefix: 4, flags: 0, to: &output)
      return
    }
    let hash = OctetHash.of(value, seed: nameHash)
    let found = index.find(name, value, hash: hash, in: table)
    if found >= 0 {
      Self.integer(StaticTable.count + table.next - found, prefix: 7, flags: 0x80, to: &output)
    } else if index.wasSeen(hash) {
      literal(name, value, known: known, nameHash: nameHash, prefix: 6, flags: 0x40, to: &output)
      let sequence = table.next
      if table.insert(name, value, token: .other, flags: []) {
        index.insert(sequence, hash: hash, nameHash: nameHash, live: table.count)
      }
    } else {
      literal(name, value, known: known, nameHash: nameHash, prefix: 4, flags: 0, to: &output)
    }
  }

  /// Authorization, Cookie, Proxy-Authorization, Set-Cookie: what makes up secrets that repeat from message to
  /// message stays out of a table that several clients' requests may share.
  @inline(__always)
  private static func isCredential(_ known: Int) -> Bool { known == 23 || known == 32 || known == 49 || known == 55 }

  private func literal(
    _ name: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer, known: Int, nameHash: UInt64, prefix: Int,
    flags: UInt8, to output: inout UnsafeMutablePointer<UInt8>
  ) {
    var reference = known
    if known == 0 {
      let found = index.find(name, nameHash: nameHash, in: table)
      if found >= 0 { reference = StaticTable.count + table.next - found }
    }
    Self.integer(reference, prefix: prefix, flags: flags, to: &output)
    let huffman = prefix == 6
    if reference == 0 { Self.string(name, huffman: huffman, to: &output) }
    Self.string(value, huffman: huffman, to: &output)
  }

  /// RFC 7541 section 5.1.
  @inline(__always)
  static func integer(_ value: Int, prefix: Int, flags: UInt8, to output: inout UnsafeMutablePointer<UInt8>) {
    let mask = 1 << prefix - 1
    if value < mask {
      output.pointee = flags | UInt8(truncatingIfNeeded: value)
      output += 1
      return
    }
    output.pointee = flags | UInt8(truncatingIfNeeded: mask)
    output += 1
    var rest = value &- mask
    while rest >= 128 {
      output.pointee = UInt8(truncatingIfNeeded: rest) | 0x80
      output += 1
      rest >>= 7
    }
    output.pointee = UInt8(truncatingIfNeeded: rest)
    output += 1
  }

  /// RFC 7541 section 5.2; Huffman coded only where that is shorter.
  @inline(__always)
  static func string(_ octets: UnsafeRawBufferPointer, huffman: Bool, to output: inout UnsafeMutablePointer<UInt8>) {
    if huffman {
      let count = Huffman.encodedCount(octets)
      if count < octets.count {
        integer(count, prefix: 7, flags: 0x80, to: &output)
        Huffman.encode(octets, to: &output)
        return
      }
    }
    integer(octets.count, prefix: 7, flags: 0, to: &output)
    if let base = octets.baseAddress {
      UnsafeMutableRawPointer(output).copyMemory(from: base, byteCount: octets.count)
      output += octets.count
    }
  }
}
