/// When one secret is fetched next. Times are durations on any clock that only goes forward; each secret has its own
/// schedule, so that one failure never refetches another.
package struct RefreshSchedule: Sendable, Equatable {
  package enum State: Sendable, Equatable {
    /// Never fetched: due at once. Goes to `fresh` or `failing`.
    case unfetched
    /// The last fetch worked; the next is due at the interval, or a little earlier.
    case fresh
    /// The last fetch failed; the last good value is kept. Goes to `fresh` with the next success.
    case failing
  }

  package private(set) var state = State.unfetched
  package private(set) var due: Duration = .zero
  private let interval: Duration
  private var backoff = FailureBackoff()
  /// Looks since the store's own rotation was due.
  private var lateLooks = 0

  package init(interval: Duration) { self.interval = interval }

  /// Next fetch after the interval minus a random 0–10 %, so that the interval is a promise; sooner when the store itself rotates the value in `rotatesIn`
  /// (whole seconds, rounded down; servers may be a few seconds late, and are then looked at every second, 20 times).
  package mutating func succeeded(
    at now: Duration, rotatesIn: Duration? = nil, using random: inout some RandomNumberGenerator
  ) {
    backoff.reset()
    state = .fresh
    var wait = interval * (1 - Double.random(in: 0...0.1, using: &random))
    if let rotatesIn, rotatesIn > .zero {
      lateLooks = 0
      wait = min(wait, rotatesIn + .milliseconds(Int.random(in: 300...600, using: &random)))
    } else if rotatesIn != nil, lateLooks < 20 {
      lateLooks += 1
      wait = min(wait, .seconds(1))
    }
    due = now + wait
  }

  package mutating func failed(at now: Duration, using random: inout some RandomNumberGenerator) {
    state = .failing
    due = now + backoff.failed(using: &random)
  }

  /// Somebody asks for fresh values: due at once.
  package mutating func refreshNow(at now: Duration) { due = now }
}
