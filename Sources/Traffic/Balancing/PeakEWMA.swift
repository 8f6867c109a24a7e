#if canImport(Glibc)
  import Glibc
#else
  import Musl
#endif

/// How long an endpoint takes until its response head: an exponentially weighted moving average that a worse time
/// replaces at once, so that an endpoint which turns slow is noticed with its first slow answer (the peak-sensitive
/// average of Finagle's `Aperture` and of linkerd). Times are nanoseconds of a clock that the caller reads.
package struct PeakEWMA: Sendable, Equatable {
  /// The average falls to 1/e of itself within this time.
  package static let decay = 10_000_000_000.0
  /// Nanoseconds.
  private var average = 0.0
  /// When that was so; 0 = nothing was measured yet.
  private var stamp: UInt64 = 0

  package init() {}

  package var isMeasured: Bool { stamp > 0 }

  /// An answer took `duration`.
  package mutating func observe(_ duration: UInt64, now: UInt64) {
    let measured = Double(duration)
    if measured >= average || stamp == 0 {
      average = measured
    } else {
      let kept = Self.kept(now &- stamp)
      average = average * kept + measured * (1 - kept)
    }
    stamp = max(1, now)
  }

  /// What it is at `now`: without answers it fades, so that an endpoint which was slow once is tried again.
  package func average(now: UInt64) -> Double { now > stamp ? average * Self.kept(now &- stamp) : average }

  private static func kept(_ elapsed: UInt64) -> Double { exp(-Double(elapsed) / decay) }
}
