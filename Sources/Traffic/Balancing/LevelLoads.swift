/// How much of the traffic each level of endpoints takes, and which levels no longer ask whether an endpoint is
/// available. A level is the endpoints of one priority, split into those of the own locality and the others.
///
/// As Envoy does it (docs: arch_overview/upstream/load_balancing/priority and …/panic_threshold): a level is sound up to
/// 1.4 times its available share, the rest spills to the next; when all levels together are sound to less than 100 %,
/// a level below the panic threshold uses all its endpoints.
package struct LevelLoads: Sendable, Equatable {
  /// In percent; together 100, unless no level has an endpoint to use.
  package private(set) var percents: [Int]
  /// Uses all its endpoints, available or not.
  package private(set) var panics: [Bool]

  private static let overprovisioning = 140

  /// `levels`: endpoints of each, most wanted level first. `panicPercent` 0...100; 0 = no level ever panics.
  package init(_ levels: [(available: Int, total: Int)], panicPercent: Int) {
    let soundness = levels.map { $0.total == 0 ? 0 : min(100, $0.available * Self.overprovisioning / $0.total) }
    let sound = min(100, soundness.reduce(0, +))
    panics = levels.map { level in
      sound < 100 && level.total > 0 && level.available * 100 < panicPercent * level.total
    }
    let inUse = levels.indices.filter { levels[$0].total > 0 }
    percents = levels.map { _ in 0 }
    if !inUse.isEmpty, inUse.allSatisfy({ panics[$0] }) {
      // Nobody can be trusted more than another: every endpoint takes its share.
      let total = levels.reduce(0) { $0 + $1.total }
      for index in inUse { percents[index] = levels[index].total * 100 / total }
      percents[inUse[0]] += 100 - percents.reduce(0, +)
      return
    }
    guard sound > 0 else { return }
    var left = 100
    for index in levels.indices {
      percents[index] = min(left, soundness[index] * 100 / sound)
      left -= percents[index]
    }
    // What rounding left over.
    if let first = soundness.firstIndex(where: { $0 > 0 }) { percents[first] += left }
  }
}
