/// Waits between failed attempts: 1 s, doubling to 5 min, each shortened by a random 0–25 %.
package struct FailureBackoff: Sendable, Equatable {
  package private(set) var failures = 0
  private let first: Duration
  private let most: Duration

  package init(first: Duration = .seconds(1), most: Duration = .seconds(300)) {
    self.first = first
    self.most = most
  }

  package mutating func reset() { failures = 0 }

  /// Counts one failure; returns how long to wait before the next attempt.
  package mutating func failed(using random: inout some RandomNumberGenerator) -> Duration {
    var wait = first
    var step = 0
    while step < failures, wait < most {
      wait = min(wait * 2, most)
      step += 1
    }
    failures += 1
    return wait * (1 - Double.random(in: 0...0.25, using: &random))
  }
}
