/// A rate limit: `burst` tokens at most, refilled evenly. Time is given by the caller, in nanoseconds.
package struct TokenBucket: Sendable, Equatable {
  private let nanosecondsPerToken: UInt64
  private let capacity: UInt64
  /// The time at which the bucket will be, or was, full.
  private var full: UInt64 = 0

  /// `rate` tokens per `period`, `burst` at once; all above zero.
  package init(rate: Int, per period: Duration, burst: Int) {
    let (seconds, attoseconds) = period.components
    let nanoseconds = UInt64(max(0, seconds)) &* 1_000_000_000 &+ UInt64(max(0, attoseconds)) / 1_000_000_000
    nanosecondsPerToken = max(1, nanoseconds / UInt64(max(1, rate)))
    capacity = nanosecondsPerToken &* UInt64(max(1, burst))
  }

  /// Takes one token at `now`; false when there is none.
  package mutating func take(now: UInt64) -> Bool {
    let next = max(full, now) + nanosecondsPerToken
    guard next - now <= capacity else { return false }
    full = next
    return true
  }
}
