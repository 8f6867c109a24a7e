/// The dynamic table of RFC 7541 section 2.3.2: entries in a ring, their octets in a window that slides over one
/// store. Nothing is allocated before the first entry.
struct DynamicTable: ~Copyable {
  struct Entry {
    /// Counts from the first octet ever inserted.
    var start: Int
    var nameCount: UInt32
    var valueCount: UInt32
    var token: FieldToken
    var flags: FieldFlags
  }

  private var store = OctetStore(capacity: 0)
  /// What the store's first octet counts as, and the first free octet.
  private var origin = 0
  private var end = 0
  private var ring = ContiguousArray<Entry>()
  /// The sequence number that the next entry gets, and the oldest entry's. Numbers begin at 0.
  private(set) var next = 0
  private(set) var oldest = 0
  /// As RFC 7541 section 4.1 counts: 32 octets for each entry on top of its own.
  private(set) var size = 0
  private(set) var capacity: Int

  init(capacity: Int) { self.capacity = capacity }

  var count: Int { next &- oldest }

  /// `sequence` is at least `oldest` and less than `next`.
  @inline(__always)
  func entry(_ sequence: Int) -> Entry { ring[sequence & (ring.count &- 1)] }

  @inline(__always)
  func name(_ entry: Entry) -> UnsafeRawBufferPointer {
    UnsafeRawBufferPointer(start: store.base + (entry.start &- origin), count: Int(entry.nameCount))
  }

  @inline(__always)
  func value(_ entry: Entry) -> UnsafeRawBufferPointer {
    UnsafeRawBufferPointer(
      start: store.base + (entry.start &- origin &+ Int(entry.nameCount)), count: Int(entry.valueCount))
  }

  @inline(__always)
  func nameAndValue(_ entry: Entry) -> UnsafeRawBufferPointer {
    UnsafeRawBufferPointer(
      start: store.base + (entry.start &- origin), count: Int(entry.nameCount &+ entry.valueCount))
  }

  mutating func setCapacity(_ octets: Int) {
    capacity = octets
    evict(downTo: octets)
  }

  private mutating func evict(downTo limit: Int) {
    while size > limit {
      let entry = entry(oldest)
      size &-= Int(entry.nameCount) &+ Int(entry.valueCount) &+ 32
      oldest &+= 1
    }
  }

  /// Inserts an entry and evicts as many as that takes; one that is larger than the table empties it (RFC 7541
  /// section 4.4) and returns false. The arguments do not point into this table.
  @discardableResult
  mutating func insert(
    _ name: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer, token: FieldToken, flags: FieldFlags
  ) -> Bool {
    let length = name.count + value.count
    evict(downTo: max(0, capacity - length - 32))
    guard length + 32 <= capacity else { return false }
    makeRoom(length)
    let room = UnsafeMutableRawPointer(store.base + (end - origin))
    if let base = name.baseAddress { room.copyMemory(from: base, byteCount: name.count) }
    if let base = value.baseAddress { (room + name.count).copyMemory(from: base, byteCount: value.count) }
    ring[next & (ring.count - 1)] = Entry(
      start: end, nameCount: UInt32(name.count), valueCount: UInt32(value.count), token: token, flags: flags)
    next += 1
    end += length
    size += length + 32
    return true
  }

  private mutating func makeRoom(_ length: Int) {
    if count == ring.count { growRing() }
    guard end - origin + length > store.capacity else { return }
    let first = count == 0 ? end : entry(oldest).start
    let live = end - first
    if store.capacity < 2 * (live + length) {
      var size = max(store.capacity, 256)
      while size < 2 * (live + length) { size *= 2 }
      store.replace(size, from: first - origin, count: live)
    } else {
      store.base.update(from: store.base + (first - origin), count: live)
    }
    origin = first
  }

  private mutating func growRing() {
    let larger = max(16, ring.count * 2)
    var entries = ContiguousArray(
      repeating: Entry(start: 0, nameCount: 0, valueCount: 0, token: .other, flags: []), count: larger)
    for sequence in oldest..<next { entries[sequence & (larger - 1)] = entry(sequence) }
    ring = entries
  }
}
