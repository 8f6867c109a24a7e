/// Draws numbers in proportion to weights, each in constant time (Walker's method, tables as Vose builds them).
struct AliasTable: Sendable {
  /// Below this part of 2^32 the slot's own number is drawn, else its alias.
  private var limits: ContiguousArray<UInt32> = []
  private var aliases: ContiguousArray<Int32> = []

  /// Weights above zero. Equal ones need no table.
  init(_ weights: [Int]) {
    guard let first = weights.first, weights.contains(where: { $0 != first }) else { return }
    let total = weights.reduce(0, +)
    var shares = weights.map { Double($0) * Double(weights.count) / Double(total) }
    limits = ContiguousArray(repeating: .max, count: weights.count)
    aliases = ContiguousArray((0..<weights.count).map { Int32($0) })
    var small = shares.indices.filter { shares[$0] < 1 }
    var large = shares.indices.filter { shares[$0] >= 1 }
    while let less = small.popLast(), let more = large.last {
      limits[less] = UInt32(shares[less] * 0x1p32)
      aliases[less] = Int32(more)
      shares[more] -= 1 - shares[less]
      if shares[more] < 1 {
        large.removeLast()
        small.append(more)
      }
    }
  }

  /// One of `count` numbers from 64 random bits.
  func draw(_ random: UInt64, _ count: Int) -> Int {
    let slot = Int(((random >> 32) &* UInt64(count)) >> 32)
    if limits.isEmpty { return slot }
    return UInt32(truncatingIfNeeded: random) < limits[slot] ? slot : Int(aliases[slot])
  }
}
