/// When a key set that has a URL is fetched. Times are nanoseconds of any steady clock.
package struct KeySetSchedule: Sendable {
  package enum State: Sendable, Equatable {
    /// Never good: every token is refused. Goes to `good`.
    case missing
    /// What was fetched last is in use. Goes to `stale`.
    case good
    /// The last fetch failed; the last good set is in use. Goes to `good`.
    case stale
  }
  package enum Wish: Sendable, Equatable {
    /// Fetch now, and wait for it.
    case fetch
    /// A fetch is under way: wait for it.
    case wait
    /// One was made for such a token a moment ago.
    case refused
  }

  /// A key that is not known brings about a fetch at most this often.
  package static let wishInterval: UInt64 = 30_000_000_000
  private static let longestRetry: UInt64 = 30_000_000_000

  package private(set) var state = State.missing
  package private(set) var isFetching = false
  private let refresh: UInt64
  private var next: UInt64 = 0
  private var retry: UInt64 = 1_000_000_000
  private var nextWish: UInt64 = 0

  /// `refresh` is the time from one good fetch to the next.
  package init(refresh: UInt64) { self.refresh = refresh }

  /// True when a fetch is to begin now; it must end in `loaded` or `failed`.
  package mutating func begins(now: UInt64) -> Bool {
    guard !isFetching, now >= next else { return false }
    isFetching = true
    return true
  }

  /// A token names a key that is not in the set.
  package mutating func wish(now: UInt64) -> Wish {
    if isFetching { return .wait }
    guard now >= nextWish else { return .refused }
    nextWish = now &+ Self.wishInterval
    isFetching = true
    return .fetch
  }

  package mutating func loaded(now: UInt64) {
    isFetching = false
    state = .good
    retry = 1_000_000_000
    next = now &+ refresh
  }

  package mutating func failed(now: UInt64) {
    isFetching = false
    state = state == .missing ? .missing : .stale
    next = now &+ retry
    retry = min(2 * retry, Self.longestRetry)
  }
}
