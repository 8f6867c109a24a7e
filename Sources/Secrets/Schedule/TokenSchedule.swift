/// The life of a Vault token: when to renew it, when to log in again. Times are durations on any clock that only goes
/// forward. Follows the Go client's LifetimeWatcher: grace = random 10–20 % of the TTL, renew after ⅔·TTL + ⅓·grace,
/// log in again when no more than the grace remains.
package struct TokenSchedule: Sendable, Equatable {
  package enum State: Sendable, Equatable {
    /// No usable token; a login is due. Goes to `renewing`, `ending` or `endless`.
    case loggedOut
    /// A renewable token; a renewal is due. Goes to `loggedOut` when it cannot be renewed in time.
    case renewing
    /// A token that cannot be renewed (batch, not renewable): replaced before it ends.
    case ending
    /// A token without TTL (root): left alone until it is refused.
    case endless
  }

  package enum Step: Sendable, Equatable {
    case login(at: Duration)
    case renew(at: Duration)
    case never
  }

  /// Where a 403 came from.
  package enum Refusal: Sendable { case lookupSelf, renewSelf }

  package private(set) var state = State.loggedOut
  /// When the token ends; nil for an endless one or none.
  package private(set) var expires: Duration?
  private var grace: Duration = .zero
  private var due: Duration = .zero
  private var refusals = 0
  private var backoff = FailureBackoff()
  private var loginBackoff = FailureBackoff()

  package init() {}

  package var next: Step {
    switch state {
    case .loggedOut, .ending: .login(at: due)
    case .renewing: .renew(at: due)
    case .endless: .never
    }
  }

  /// A token was obtained. `ttl` zero means that it never ends.
  package mutating func loggedIn(
    at now: Duration, ttl: Duration, renewable: Bool, batch: Bool, using random: inout some RandomNumberGenerator
  ) {
    refusals = 0
    backoff.reset()
    guard ttl > .zero else {
      state = .endless
      expires = nil
      return
    }
    grace = ttl * Double.random(in: 0.1...0.2, using: &random)
    expires = now + ttl
    state = renewable && !batch ? .renewing : .ending
    due = state == .renewing ? now + ttl * 2 / 3 + grace / 3 : now + ttl - grace
  }

  package mutating func loginFailed(at now: Duration, using random: inout some RandomNumberGenerator) {
    if state == .renewing { state = .loggedOut }
    due = now + loginBackoff.failed(using: &random)
  }

  /// The server accepted the token for a request: it is good, so the next refusal is news.
  package mutating func accepted() {
    refusals = 0
    loginBackoff.reset()
  }

  /// A renewal worked. Near the token's maximum TTL the server grants less and less: then a login is due.
  package mutating func renewed(at now: Duration, ttl: Duration) {
    accepted()
    backoff.reset()
    expires = now + ttl
    if ttl <= grace {
      state = .loggedOut
      due = now
    } else {
      state = .renewing
      due = now + ttl * 2 / 3 + grace / 3
    }
  }

  /// A renewal failed for another reason than a refusal: tried again until only the grace remains.
  package mutating func renewalFailed(at now: Duration, using random: inout some RandomNumberGenerator) {
    let retry = now + backoff.failed(using: &random)
    if let expires, retry + grace >= expires {
      state = .loggedOut
      due = max(now, min(retry, expires - grace))
    } else {
      due = retry
    }
  }

  /// The server answered 403 to the token itself: one from lookup-self or two in a row mean that it is gone, and a
  /// login is due at once. Logins that bring no accepted token are spaced by the backoff.
  package mutating func refused(_ refusal: Refusal, at now: Duration, using random: inout some RandomNumberGenerator) {
    refusals += refusal == .lookupSelf ? 2 : 1
    guard refusals >= 2 else {
      due = now + backoff.failed(using: &random)
      return
    }
    let wait = loginBackoff.failures == 0 ? .zero : loginBackoff.failed(using: &random)
    if loginBackoff.failures == 0 { _ = loginBackoff.failed(using: &random) }
    state = .loggedOut
    expires = nil
    due = now + wait
  }
}
