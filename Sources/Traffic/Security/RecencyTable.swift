/// Values by key, within a total weight: what was used longest ago goes first. Every operation takes constant time, so
/// that a client who makes up keys costs no more than one who does not.
package struct RecencyTable<Key: Hashable & Sendable, Value: Sendable>: Sendable {
  private struct Node {
    var key: Key
    var value: Value
    var weight: Int
    /// Towards the one used last; -1 = this is it.
    var newer: Int
    /// Towards the one used longest ago; -1 = this is it.
    var older: Int
  }

  private var places: [Key: Int] = [:]
  private var nodes = ContiguousArray<Node>()
  /// Places of `nodes` that are free.
  private var free: [Int] = []
  private var newest = -1
  private var oldest = -1
  private var weight = 0
  private let limit: Int

  /// `limit` is the sum of weights that is kept at most.
  package init(limit: Int) { self.limit = limit }

  package var count: Int { places.count }

  /// The value of that key, which now is the one used last.
  package mutating func find(_ key: Key) -> Value? {
    guard let place = places[key] else { return nil }
    touch(place)
    return nodes[place].value
  }

  /// The value of that key, without a change of the order.
  package func peek(_ key: Key) -> Value? { places[key].map { nodes[$0].value } }

  /// Puts a value in place of any there; one that is heavier than the limit is not kept.
  package mutating func set(_ key: Key, _ value: Value, weight: Int = 1) {
    remove(key)
    guard weight <= limit else { return }
    while self.weight + weight > limit, oldest >= 0 { remove(nodes[oldest].key) }
    let node = Node(key: key, value: value, weight: weight, newer: -1, older: newest)
    let place: Int
    if let reused = free.popLast() {
      nodes[reused] = node
      place = reused
    } else {
      nodes.append(node)
      place = nodes.count - 1
    }
    if newest >= 0 { nodes[newest].newer = place } else { oldest = place }
    newest = place
    places[key] = place
    self.weight += weight
  }

  /// Changes the value of a key that is there; true when it was.
  package mutating func update(_ key: Key, _ change: (inout Value) -> Void) -> Bool {
    guard let place = places[key] else { return false }
    touch(place)
    change(&nodes[place].value)
    return true
  }

  package mutating func remove(_ key: Key) {
    guard let place = places.removeValue(forKey: key) else { return }
    unlink(place)
    weight -= nodes[place].weight
    free.append(place)
  }

  private mutating func touch(_ place: Int) {
    guard newest != place else { return }
    unlink(place)
    nodes[place].newer = -1
    nodes[place].older = newest
    if newest >= 0 { nodes[newest].newer = place } else { oldest = place }
    newest = place
  }

  private mutating func unlink(_ place: Int) {
    let (newer, older) = (nodes[place].newer, nodes[place].older)
    if newer >= 0 { nodes[newer].older = older } else { newest = older }
    if older >= 0 { nodes[older].newer = newer } else { oldest = newer }
  }
}
