/// The active checks of one endpoint: when the next one is due, and what their results mean. Times are nanoseconds of
/// one clock.
package struct HealthCheck: Sendable {
  package struct Settings: Sendable, Equatable {
    package var interval: UInt64 = 10_000_000_000
    /// Failures in a row until an endpoint that was healthy no longer is.
    package var unhealthy = 3
    /// Successes in a row until one that was not is healthy again.
    package var healthy = 2
    package init() {}
  }

  package enum State: Sendable, Equatable {
    /// Nothing is known yet, so it is taken for healthy; the first result decides. Next: healthy, unhealthy.
    case assumed
    /// So many checks in a row have failed of late. Next: unhealthy.
    case healthy(failures: Int)
    /// So many checks in a row have passed of late. Next: healthy.
    case unhealthy(passes: Int)
  }

  package private(set) var state = State.assumed
  /// Why the last check that failed did.
  package private(set) var reason = ""
  /// When the next check is to begin; `.max` while one runs.
  package private(set) var due: UInt64 = 0

  package init() {}

  package var isHealthy: Bool { if case .unhealthy = state { false } else { true } }

  /// True when a check is to begin now; its result is waited for then.
  package mutating func begin(now: UInt64) -> Bool {
    guard due <= now else { return false }
    due = .max
    return true
  }

  /// Nobody waits for the check that runs any more, and the next one is due at once.
  package mutating func restart() { due = 0 }

  /// A check has ended; `failure` says why it did not pass. True when that makes the endpoint healthy or unhealthy.
  package mutating func ended(
    failure: String?, now: UInt64, _ settings: Settings, using random: inout some RandomNumberGenerator
  ) -> Bool {
    due = now &+ Self.pause(settings.interval, using: &random)
    if let failure { reason = failure }
    let before = isHealthy
    switch (state, failure == nil) {
    case (.assumed, let passed): state = passed ? .healthy(failures: 0) : .unhealthy(passes: 0)
    case (.healthy, true): state = .healthy(failures: 0)
    case (.healthy(let failures), false):
      state = failures + 1 >= settings.unhealthy ? .unhealthy(passes: 0) : .healthy(failures: failures + 1)
    case (.unhealthy, false): state = .unhealthy(passes: 0)
    case (.unhealthy(let passes), true):
      state = passes + 1 >= settings.healthy ? .healthy(failures: 0) : .unhealthy(passes: passes + 1)
    }
    return before != isHealthy
  }

  /// The interval, a tenth more or less: many sidecars must not check at the same moment.
  private static func pause(_ interval: UInt64, using random: inout some RandomNumberGenerator) -> UInt64 {
    interval - interval / 10 + UInt64.random(in: 0...max(1, interval / 5), using: &random)
  }
}
