/// Bounds retries to a share of the work in flight, so that a failing upstream is not buried.
package struct RetryBudget: Sendable, Equatable {
  /// Share of active requests, 0...100.
  package var percent: Int
  /// Concurrent retries that are always allowed.
  package var minimum: Int

  package init(percent: Int, minimum: Int) {
    self.percent = percent
    self.minimum = minimum
  }

  /// True when one more retry may start beside `retries` running ones among `active` requests.
  package func allows(retries: Int, active: Int) -> Bool {
    retries < max(minimum, active * percent / 100)
  }
}
