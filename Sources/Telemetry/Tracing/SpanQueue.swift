import Synchronization

/// Encoded spans on their way from the event loops to the exporter. What does not fit is dropped and counted: traffic
/// never waits for its traces.
package final class SpanQueue: Sendable {
  /// Octets that may wait.
  package static let room = 4 << 20

  private struct State {
    var spans: [[UInt8]] = []
    var octets = 0
  }

  private let state = Mutex(State())
  private let drops = Counter()

  package init() {}

  /// Spans dropped so far because there was no room.
  package var dropped: UInt64 { drops.value }

  /// From any thread; never waits for room.
  package func offer(_ span: [UInt8]) {
    let fits = state.withLock { state in
      guard state.octets + span.count <= Self.room else { return false }
      state.octets += span.count
      state.spans.append(span)
      return true
    }
    if !fits { drops.add() }
  }

  /// The oldest spans, at most `limit`.
  package func take(_ limit: Int) -> [[UInt8]] {
    state.withLock { state in
      let taken = Array(state.spans.prefix(limit))
      state.spans.removeFirst(taken.count)
      state.octets -= taken.reduce(0) { $0 + $1.count }
      return taken
    }
  }
}
