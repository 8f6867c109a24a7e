/// A bounded number of values that are made on demand. Those that are not in use go: the oldest when there is no room,
/// and each once it was unused for a while. Times are nanoseconds of any steady clock.
package struct BoundedTable<Key: Hashable, Value> {
  package enum Insertion {
    /// `evicted` has made room.
    case added(evicted: Value?)
    /// Every value is in use.
    case full
  }

  private struct Entry {
    var value: Value
    var lastUsed: UInt64
  }

  private var entries: [Key: Entry] = [:]
  private let limit: Int
  private let idle: UInt64

  package init(limit: Int, idle: UInt64) {
    self.limit = limit
    self.idle = idle
  }

  package var count: Int { entries.count }
  package var values: [Value] { entries.values.map(\.value) }

  package mutating func find(_ key: Key, now: UInt64) -> Value? {
    entries[key]?.lastUsed = now
    return entries[key]?.value
  }

  package mutating func insert(
    _ key: Key, _ value: Value, now: UInt64, isBusy: (Value) -> Bool
  ) -> Insertion {
    var evicted: Value?
    if entries.count >= limit, entries[key] == nil {
      let unused = entries.filter { !isBusy($0.value.value) }
      guard let oldest = unused.min(by: { $0.value.lastUsed < $1.value.lastUsed }) else { return .full }
      evicted = entries.removeValue(forKey: oldest.key)?.value
    }
    entries[key] = Entry(value: value, lastUsed: now)
    return .added(evicted: evicted)
  }

  /// Removes and returns what is not in use and was not asked for lately.
  package mutating func sweep(now: UInt64, isBusy: (Value) -> Bool) -> [Value] {
    let gone = entries.filter { now &- $0.value.lastUsed >= idle && !isBusy($0.value.value) }
    for key in gone.keys { entries.removeValue(forKey: key) }
    return gone.values.map(\.value)
  }

  package mutating func removeAll() { entries = [:] }
}
