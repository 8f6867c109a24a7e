/// Octets on the heap that grow on demand, with one owner.
struct OctetStore: ~Copyable {
  private(set) var base: UnsafeMutablePointer<UInt8>
  private(set) var capacity: Int

  init(capacity: Int) {
    base = .allocate(capacity: max(capacity, 1))
    self.capacity = capacity
  }

  deinit { base.deallocate() }

  /// Makes room for `needed` octets in all; the first `used` ones stay.
  @inline(__always)
  mutating func reserve(_ needed: Int, keeping used: Int) {
    if needed > capacity { grow(needed, used) }
  }

  @inline(never)
  private mutating func grow(_ needed: Int, _ used: Int) {
    var size = max(capacity, 128)
    while size < needed { size *= 2 }
    replace(size, from: 0, count: used)
  }

  /// Moves `count` octets from `start` into new storage of `size` octets.
  mutating func replace(_ size: Int, from start: Int, count: Int) {
    let larger = UnsafeMutablePointer<UInt8>.allocate(capacity: size)
    larger.update(from: base + start, count: count)
    base.deallocate()
    base = larger
    capacity = size
  }
}
