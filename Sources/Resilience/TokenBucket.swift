/// A rate limit: `burst` tokens at most, refilled evenly. Time is given by the caller, in nanoseconds.
package struct TokenBucket: Sendable, Equatable {
  private let nanosecondsPerToken: UInt64
  private let capacity: UInt64
  /// The time at which the bucket will be, or was, full.
  private var full: UInt64 = 0

  /// `rate` tokens per `period`, `burst` at once; all above zero. A bucket that would take more than a century to fill
  /// holds as many tokens as a century brings.
  package init(rate: Int, per period: Duration, burst: Int) {
    let (seconds, attoseconds) = period.components
    let nanoseconds = UInt64(max(0, seconds)) &* 1_000_000_000 &+ UInt64(max(0, attoseconds)) / 1_000_000_000
    nanosecondsPerToken = min(max(1, nanoseconds / UInt64(max(1, rate))), Self.century)
    let product = nanosecondsPerToken.multipliedReportingOverflow(by: UInt64(max(1, burst)))
    capacity = product.overflow ? Self.century : min(product.partialValue, Self.century)
  }

  private static let century: UInt64 = 100 * 366 * 86_400 * 1_000_000_000

  /// Takes one token at `now`; false when there is none.
  package mutating func take(now: UInt64) -> Bool {
    let next = max(full, now) + nanosecondsPerToken
    guard next - now <= capacity else { return false }
    full = next
    return true
  }

  /// Nanoseconds until a token can be taken; 0 = now.
  package func wait(now: UInt64) -> UInt64 {
    let next = max(full, now) + nanosecondsPerToken - now
    return next > capacity ? next - capacity : 0
  }
}
