import Resilience

/// What the balancer knows of an endpoint.
package struct EndpointLoad: Sendable {
  /// Requests in flight there from this event loop.
  package var active: Int
  package var weight: Int
  /// False while it is rested after a failed connect.
  package var isFresh: Bool

  package init(active: Int, weight: Int = 1, isFresh: Bool = true) {
    self.active = active
    self.weight = weight
    self.isFresh = isFresh
  }
}

/// Picks an endpoint. One of these per cluster and event loop.
package struct Balancer: Sendable {
  private let balance: ClusterConfiguration.Balance
  private var cursor: Int
  private var random: SeededRandom

  package init(_ balance: ClusterConfiguration.Balance, seed: UInt64) {
    self.balance = balance
    random = SeededRandom(seed: seed)
    cursor = Int(random.next() >> 33)
  }

  /// The index of the endpoint to use, or nil when there is none. An endpoint that is not fresh, or is
  /// `excluded` (the one that just failed), is taken only when no other exists.
  package mutating func pick(
    count: Int, excluding excluded: Int = -1, load: (Int) -> EndpointLoad
  ) -> Int? {
    if count <= 1 { return count == 1 ? 0 : nil }
    var best = -1
    var bestLoad = EndpointLoad(active: 0)
    // The excluded and the stale are skipped; a few draws suffice, a full walk decides when they do not.
    for _ in 0..<(balance == .leastRequest ? 2 : 1) {
      guard let index = draw(count, excluded, load) else { break }
      let candidate = load(index)
      if best < 0 || candidate.active * bestLoad.weight < bestLoad.active * candidate.weight {
        best = index
        bestLoad = candidate
      }
    }
    if best >= 0 { return best }
    return (0..<count).first { $0 != excluded } ?? 0
  }

  private mutating func draw(_ count: Int, _ excluded: Int, _ load: (Int) -> EndpointLoad) -> Int? {
    var index: Int
    if balance == .roundRobin {
      cursor = (cursor &+ 1) & Int.max
      index = weighted(cursor, count, load)
    } else {
      index = weighted(Int(random.next() >> 2), count, load)
    }
    for _ in 0..<count {
      if index != excluded, load(index).isFresh { return index }
      index = index + 1 == count ? 0 : index + 1
    }
    return nil
  }

  /// Maps a number onto endpoints in proportion to their weights.
  private func weighted(_ number: Int, _ count: Int, _ load: (Int) -> EndpointLoad) -> Int {
    // Least request weighs by comparing load instead.
    if balance == .leastRequest { return number % count }
    var total = 0
    for index in 0..<count { total += max(0, load(index).weight) }
    guard total > 0 else { return number % count }
    var left = number % total
    for index in 0..<count {
      left -= max(0, load(index).weight)
      if left < 0 { return index }
    }
    return count - 1
  }
}
