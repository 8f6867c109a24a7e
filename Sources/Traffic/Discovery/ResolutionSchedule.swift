import Resilience

/// When names are looked up again: as their answers expire, and sooner after a failure.
package struct ResolutionSchedule: Sendable {
  /// Answers are taken to live at least and at most this long, whatever they say: an answer of no time at all must not
  /// make a sidecar ask without end, and one of a day must not hide a change for a day.
  package static let shortest = Duration.seconds(1)
  package static let longest = Duration.seconds(300)

  private let backoff = Backoff(base: .seconds(2), cap: .seconds(30))
  private var failures = 0
  private var random: SeededRandom

  package init(seed: UInt64 = .random(in: .min ... .max)) { random = SeededRandom(seed: seed) }

  /// How long to wait after a round. `lifetime`: of the answer that expires first, nil = nothing expires; `failed`: some
  /// name had no answer. Nil = until something else happens.
  package mutating func next(lifetime: Duration?, failed: Bool) -> Duration? {
    let fresh = lifetime.map { min(max($0, Self.shortest), Self.longest) }
    guard failed else {
      failures = 0
      return fresh
    }
    // From 1, 2, 4, 8, 15 seconds to twice that, by chance: sidecars that failed together do not ask together.
    let half = backoff.ceiling(attempt: failures) / 2
    failures = min(failures + 1, 16)
    let wait = half + .microseconds(Int64.random(in: 0...half.components.seconds * 1_000_000, using: &random))
    return min(fresh ?? wait, wait)
  }
}
