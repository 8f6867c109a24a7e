/// Maps hashes to endpoints so that each keeps its keys when others come and go. Built once for a set of endpoints,
/// whether they are available or not: whoever is not is passed over, and only its keys go elsewhere.
package enum HashTable: Sendable {
  /// Points on a ring, by hash; a key belongs to the first point at or behind its own.
  case ring([Point])
  /// One endpoint for each slot; a key belongs to its slot.
  case maglev([UInt16])

  package struct Point: Sendable {
    var hash: UInt64
    var endpoint: UInt16
  }

  /// Points on the ring, at least; each endpoint has those that its weight gives it, and one at least.
  package static let ringSize = 1024
  /// Slots: prime, and large enough that a hundred endpoints differ by a percent.
  package static let slots = 65_537
  /// More endpoints than these have no table.
  package static let limit = 16_384

  /// `members`: number, name and weight of each endpoint. Names make the table, so that it is the same everywhere.
  static func makeRing(_ members: [(endpoint: Int, name: String, weight: Int)]) -> HashTable {
    let total = members.reduce(0) { $0 + $1.weight }
    var points: [Point] = []
    points.reserveCapacity(ringSize + members.count)
    // Of few endpoints each has more points, or their shares would differ too much.
    let size = max(ringSize, members.count * 160)
    for member in members {
      let count = max(1, (size * member.weight + total - 1) / max(1, total))
      for index in 0..<count {
        points.append(Point(hash: XXHash64.hash("\(member.name)_\(index)"), endpoint: UInt16(member.endpoint)))
      }
    }
    points.sort { ($0.hash, $0.endpoint) < ($1.hash, $1.endpoint) }
    return .ring(points)
  }

  /// Eisenbud and others, "Maglev: A Fast and Reliable Software Network Load Balancer", section 3.4, with turns by weight.
  static func makeMaglev(_ members: [(endpoint: Int, name: String, weight: Int)]) -> HashTable {
    guard let heaviest = members.map(\.weight).max() else { return .maglev([]) }
    struct Walk {
      let endpoint: UInt16
      var position: Int
      let step: Int
      let weight: Double
      var taken = 0.0

      mutating func advance() { position = (position + step) % HashTable.slots }
    }
    var walks = members.map { member in
      Walk(
        endpoint: UInt16(member.endpoint),
        position: Int(XXHash64.hash(member.name) % UInt64(slots)),
        step: Int(XXHash64.hash(member.name, seed: 1) % UInt64(slots - 1)) + 1,
        weight: Double(member.weight) / Double(heaviest))
    }
    var table = [UInt16](repeating: .max, count: slots)
    var filled = 0
    var turn = 0.0
    while filled < slots {
      turn += 1
      for index in walks.indices where filled < slots {
        // The heaviest takes a slot each turn, another one as often as its weight says.
        if turn * walks[index].weight < walks[index].taken + 1 { continue }
        walks[index].taken += 1
        while table[walks[index].position] != .max { walks[index].advance() }
        table[walks[index].position] = walks[index].endpoint
        filled += 1
      }
    }
    return .maglev(table)
  }

  /// The endpoint of that hash among those that may be used; nil when a fair search finds none.
  func endpoint(of hash: UInt64, where isUsable: (Int) -> Bool) -> Int? {
    switch self {
    case .ring(let points):
      guard !points.isEmpty else { return nil }
      var low = 0
      var high = points.count
      while low < high {
        let middle = (low + high) / 2
        if points[middle].hash < hash { low = middle + 1 } else { high = middle }
      }
      for _ in points.indices {
        if low == points.count { low = 0 }
        let endpoint = Int(points[low].endpoint)
        if isUsable(endpoint) { return endpoint }
        low += 1
      }
      return nil
    case .maglev(let table):
      guard !table.isEmpty else { return nil }
      var hash = hash
      for _ in 0..<64 {
        let endpoint = Int(table[Int(hash % UInt64(table.count))])
        if isUsable(endpoint) { return endpoint }
        // The next slot of that key, a stable one as well.
        hash = XXHash64.mixed(hash &+ 0x9E37_79B9_7F4A_7C15)
      }
      return nil
    }
  }
}
