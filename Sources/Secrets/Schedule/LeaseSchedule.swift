/// The life of one leased secret, for example a database user: when its lease is renewed, looked at, and when new
/// credentials are fetched while the old ones are still good. Times are durations on any clock that only goes forward,
/// so that a clock that is set changes nothing. As for tokens: grace = random 10–20 % of the first TTL, but two seconds
/// where the TTL has eight; renewal after ⅔·TTL + ⅓·grace; new credentials when no more than the grace remains.
package struct LeaseSchedule: Sendable, Equatable {
  package enum State: Sendable, Equatable {
    /// Nothing was ever fetched: due at once. Goes to `held`.
    case unfetched
    /// The lease lives; a renewal or a look at it is due. Goes to `replacing`.
    case held
    /// New credentials are wanted; the old ones stay in use until their end. Goes to `held`.
    case replacing
  }

  package enum Step: Sendable, Equatable {
    case fetch(at: Duration)
    case renew(at: Duration)
    /// Asks the server whether the lease still lives.
    case look(at: Duration)
  }

  package private(set) var state = State.unfetched
  /// When the lease ends; nil = there is none that lives.
  package private(set) var expires: Duration?
  /// Between looks.
  private let interval: Duration
  package private(set) var isRenewable = false
  /// As granted with the credentials.
  private var firstTTL: Duration = .zero
  private var grace: Duration = .zero
  private var due: Duration = .zero
  private var lookDue: Duration = .zero
  private var backoff = FailureBackoff()
  /// Counts leases that were gone before a renewal or a look of theirs worked.
  private var losses = FailureBackoff()

  package init(interval: Duration) { self.interval = interval }

  package var next: Step {
    switch state {
    case .unfetched, .replacing: .fetch(at: due)
    case .held where lookDue < due: .look(at: lookDue)
    case .held: isRenewable ? .renew(at: due) : .fetch(at: due)
    }
  }

  /// New credentials came. `ttl` is at least a second for the schedule, whatever the server says.
  package mutating func fetched(
    at now: Duration, ttl: Duration, renewable: Bool, using random: inout some RandomNumberGenerator
  ) {
    let ttl = max(ttl, .seconds(1))
    state = .held
    backoff.reset()
    isRenewable = renewable
    firstTTL = ttl
    grace = max(ttl * Double.random(in: 0.1...0.2, using: &random), min(.seconds(2), ttl / 4))
    expires = now + ttl
    due = renewable ? now + ttl * 2 / 3 + grace / 3 : now + ttl - grace
    lookDue = now + interval * (1 + Double.random(in: 0...0.1, using: &random))
  }

  /// Waits longer after each failure, but before the end of the lease never longer than a quarter of what is left.
  package mutating func fetchFailed(at now: Duration, using random: inout some RandomNumberGenerator) {
    if state == .held { state = .replacing }
    var wait = backoff.failed(using: &random)
    if let expires, expires > now { wait = min(wait, max(.seconds(1), (expires - now) / 4)) }
    due = now + wait
  }

  /// A renewal worked. A server that grants clearly less than at first caps the lease at its maximum TTL: it is not
  /// renewed any more, and new credentials are due when the grace remains.
  package mutating func renewed(at now: Duration, ttl: Duration, using random: inout some RandomNumberGenerator) {
    backoff.reset()
    losses.reset()
    expires = now + ttl
    if ttl <= grace {
      state = .replacing
      due = now
    } else if ttl + .seconds(1) < firstTTL * 0.9 {
      isRenewable = false
      due = now + ttl - grace
    } else {
      due = now + ttl * 2 / 3 + grace / 3
    }
    lookDue = now + interval * (1 + Double.random(in: 0...0.1, using: &random))
  }

  /// A renewal failed and the lease may live: tried again until only the grace remains, then new credentials are due.
  package mutating func renewalFailed(at now: Duration, using random: inout some RandomNumberGenerator) {
    let retry = now + backoff.failed(using: &random)
    if let expires, retry + grace >= expires {
      state = .replacing
      due = max(now, min(retry, expires - grace))
      backoff.reset()
    } else {
      due = retry
    }
  }

  /// The look showed that the lease lives, or brought nothing.
  package mutating func looked(at now: Duration, lives: Bool, using random: inout some RandomNumberGenerator) {
    if lives { losses.reset() }
    lookDue = now + interval * (1 + Double.random(in: 0...0.1, using: &random))
  }

  /// The server knows no such lease: new credentials are due at once. Leases that are lost one after the other are
  /// spaced by the backoff.
  package mutating func gone(at now: Duration, using random: inout some RandomNumberGenerator) {
    expires = nil
    state = .replacing
    let wait = losses.failures == 0 ? .zero : losses.failed(using: &random)
    if losses.failures == 0 { _ = losses.failed(using: &random) }
    due = now + wait
  }

  /// The lease hangs on a token that was replaced: new credentials are due at once, under the new token.
  package mutating func tokenReplaced(at now: Duration) {
    guard state != .unfetched else { return }
    state = .replacing
    backoff.reset()
    due = now
  }

  /// Somebody asks for fresh values: credentials that live stay and are looked at, those that are wanted are fetched.
  package mutating func refreshNow(at now: Duration) {
    if state == .held { lookDue = now } else { due = now }
  }
}
