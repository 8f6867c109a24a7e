/// When a certificate is issued anew: at ⅔ of its life, a little earlier at random so that many do not come at once.
/// A login changes nothing. `now` is on a clock that only goes forward; `wall` is in seconds since 1970 and may jump, so
/// that what is due is asked again and again.
package struct CertificateSchedule: Sendable, Equatable {
  package enum State: Sendable, Equatable {
    /// None was ever issued: due at once. Goes to `fresh` or `failing`.
    case unissued
    /// In use; due at ⅔ of its life. Goes to `fresh` or `failing` when it is due.
    case fresh
    /// The last attempt failed; the last certificate stays in use until it really ends. Goes to `fresh`.
    case failing
  }

  package private(set) var state = State.unissued
  /// When it ends, in seconds since 1970; nil = there is none.
  package private(set) var expires: Int64?
  private var renewal: Int64 = 0
  private var due: Duration = .zero
  private var backoff = FailureBackoff()

  package init() {}

  /// How long to wait until the next attempt; zero = now. Never more than a minute, for a clock that jumps.
  package func wait(at now: Duration, wall: Int64) -> Duration {
    let wait: Duration =
      switch state {
      case .unissued: .zero
      case .fresh: .seconds(max(0, renewal - wall))
      case .failing: max(.zero, due - now)
      }
    return min(wait, .seconds(60))
  }

  /// Life is counted from now: servers date certificates back a little.
  package mutating func issued(wall: Int64, expires: Int64, using random: inout some RandomNumberGenerator) {
    state = .fresh
    backoff.reset()
    self.expires = expires
    let life = max(0, expires - wall)
    let early = Double.random(in: 0...0.03, using: &random)
    // At least a second on, whatever the life, so that a server of dead certificates is not asked in a loop.
    renewal = wall + max(1, Int64(Double(life) * (2.0 / 3.0 - early)))
  }

  /// Waits longer after each failure, but near the end of the certificate's life never longer than a quarter of what
  /// is left of it.
  package mutating func failed(at now: Duration, wall: Int64, using random: inout some RandomNumberGenerator) {
    state = .failing
    var wait = backoff.failed(using: &random)
    if let expires, expires > wall { wait = min(wait, max(.seconds(1), .seconds(expires - wall) / 4)) }
    due = now + wait
  }

  /// Somebody asks for fresh values: a certificate that is good stays, one that is wanted is asked for at once.
  package mutating func refreshNow(at now: Duration) { if state == .failing { due = now } }
}
