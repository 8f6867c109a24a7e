/// What the choice needs to know of an endpoint before anything happens.
package struct BalancedEndpoint: Sendable, Equatable {
  /// Tells it from the others, the same in every process: `10.0.0.1:80`.
  package var name: String
  /// 1...65535.
  package var weight: Int
  /// 0 is used first.
  package var priority: Int
  /// In the cluster's own locality, or the cluster has none.
  package var isLocal: Bool

  package init(name: String, weight: Int = 1, priority: Int = 0, isLocal: Bool = true) {
    self.name = name
    self.weight = weight
    self.priority = priority
    self.isLocal = isLocal
  }
}

/// The endpoints of a cluster in levels, with the tables of consistent hashing: made once when they change, and shared
/// by all event loops.
package struct EndpointArrangement: Sendable {
  struct Level: Sendable {
    /// Numbers of endpoints.
    var members: [Int]
    /// Nil unless the cluster balances by hash.
    var table: HashTable?
  }

  package let weights: [Int]
  let levels: [Level]

  /// Levels in the order of priority; in each, the own locality before the others.
  package init(_ endpoints: [BalancedEndpoint], balance: ClusterConfiguration.Balance) {
    weights = endpoints.map { max(1, $0.weight) }
    var members: [Int: [Int]] = [:]
    for (index, endpoint) in endpoints.enumerated() {
      members[endpoint.priority * 2 + (endpoint.isLocal ? 0 : 1), default: []].append(index)
    }
    let weights = weights
    levels = members.sorted { $0.key < $1.key }.map { _, members in
      let named = members.map { (endpoint: $0, name: endpoints[$0].name, weight: weights[$0]) }
      guard endpoints.count <= HashTable.limit else { return Level(members: members, table: nil) }
      return switch balance {
      case .ringHash: Level(members: members, table: .makeRing(named))
      case .maglev: Level(members: members, table: .makeMaglev(named))
      case .leastRequest, .roundRobin, .random, .peakEWMA: Level(members: members, table: nil)
      }
    }
  }
}
