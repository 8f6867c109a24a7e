/// Exponential backoff with full jitter: the n-th wait is uniform in 0...min(cap, base × 2^n).
package struct Backoff: Sendable, Equatable {
  package var base: Duration
  package var cap: Duration

  package init(base: Duration, cap: Duration) {
    self.base = base
    self.cap = cap
  }

  /// The longest possible wait before retry `attempt` (0 = the first retry).
  package func ceiling(attempt: Int) -> Duration {
    var ceiling = base
    for _ in 0..<max(0, attempt) where ceiling < cap { ceiling = ceiling * 2 }
    return min(ceiling, cap)
  }

  /// A wait before retry `attempt`, in whole microseconds.
  package func delay(attempt: Int, using random: inout some RandomNumberGenerator) -> Duration {
    let (seconds, attoseconds) = ceiling(attempt: attempt).components
    let microseconds = seconds * 1_000_000 + attoseconds / 1_000_000_000_000
    guard microseconds > 0 else { return .zero }
    return .microseconds(Int64.random(in: 0...microseconds, using: &random))
  }
}
