package import Resilience

/// Which of several targets a request goes to: a draw by weight.
package struct WeightedSplit: Sendable {
  /// Where each target's share ends, in ascending order.
  private let ends: [UInt64]

  /// One weight a target, none below 0; their sum is above 0.
  package init(_ weights: [Int]) {
    var sum: UInt64 = 0
    ends = weights.map { weight in
      sum += UInt64(max(0, weight))
      return sum
    }
  }

  /// The index of the target; one of weight 0 is never drawn.
  package func pick(_ random: inout SeededRandom) -> Int {
    guard let total = ends.last, total > 0 else { return 0 }
    let drawn = random.next(upperBound: total)
    return ends.firstIndex { drawn < $0 } ?? 0
  }
}
