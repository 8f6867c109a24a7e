/// One sink's circuit: after a failure all of its requests wait, and a single one then tries whether the server is back.
/// Times are monotonic nanoseconds.
package struct SinkCircuit: Sendable, Equatable {
  private enum State: Sendable, Equatable {
    /// Requests go out. A failure opens it.
    case closed
    /// Nothing goes out before that time; then one request may, and the circuit is on trial.
    case open(until: Int64)
    /// One request is out: its success closes the circuit, its failure opens it again.
    case trial
  }

  /// While another request is on trial.
  package static let look: Int64 = 50_000_000

  private var state = State.closed
  /// In a row.
  package private(set) var failures = 0

  package init() {}

  /// Nil when a request may go out now, else nanoseconds to wait before asking again.
  package mutating func enter(at now: Int64) -> Int64? {
    switch state {
    case .closed: return nil
    case .trial: return Self.look
    case .open(let until):
      if now < until { return until - now }
      state = .trial
      return nil
    }
  }

  package mutating func succeeded() {
    state = .closed
    failures = 0
  }

  package mutating func failed(at now: Int64, wait: Int64) {
    failures += 1
    state = .open(until: now + max(0, wait))
  }
}
