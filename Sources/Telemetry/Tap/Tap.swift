import Synchronization

/// One who watches requests live. Records that it does not take in time are lost and counted: the proxy never waits.
package final class Tap: Sendable {
  /// Octets that may wait for the reader.
  package static let room = 256 << 10

  package struct Batch: Sendable, Equatable {
    /// Whole lines; empty when it was only time to look.
    package var lines: [UInt8] = []
    /// Records lost since the batch before, all of them after its lines.
    package var lost = 0
    /// The limit is reached: nothing follows.
    package var isLast = false
    package init() {}
  }

  private struct State {
    var batch = Batch()
    var taken = 0
    var isClosed = false
    /// The reader, while it waits for something.
    var waiter: CheckedContinuation<Void, Never>?
  }

  package let filter: TapFilter
  private let state = Mutex(State())

  package init(_ filter: TapFilter) { self.filter = filter }

  /// A record that the filter takes: one line with its LF. From any thread; never waits.
  package func offer(_ line: UnsafeRawBufferPointer) {
    let waiter = state.withLock { state -> CheckedContinuation<Void, Never>? in
      guard !state.isClosed, !state.batch.isLast else { return nil }
      if state.batch.lines.count + line.count > Self.room || state.batch.lost > 0 {
        state.batch.lost += 1
      } else {
        state.batch.lines.append(contentsOf: line)
        state.taken += 1
        if let limit = filter.limit, state.taken >= limit { state.batch.isLast = true }
      }
      defer { state.waiter = nil }
      return state.waiter
    }
    waiter?.resume()
  }

  /// Lets a waiting reader go on, with an empty batch.
  package func wake() {
    let waiter = state.withLock { state in
      defer { state.waiter = nil }
      return state.waiter
    }
    waiter?.resume()
  }

  /// The reader goes.
  package func close() {
    state.withLock { $0.isClosed = true }
    wake()
  }

  /// Waits for records, or for `wake`; one reader at a time. Nil = closed.
  package func next() async -> Batch? {
    await withCheckedContinuation { continuation in
      let isReady = state.withLock { state in
        if state.isClosed || state.batch != Batch() { return true }
        state.waiter = continuation
        return false
      }
      if isReady { continuation.resume() }
    }
    return state.withLock { state in
      if state.isClosed { return nil }
      defer { state.batch = Batch() }
      return state.batch
    }
  }
}

/// Everybody who watches.
package final class TapHub: Sendable {
  /// At most so many at a time.
  package static let limit = 16

  private let taps = Mutex<[Tap]>([])
  private let tapped = Atomic<Bool>(false)

  package init() {}

  /// False while nobody watches: records need not be made then.
  package var isTapped: Bool { tapped.load(ordering: .relaxed) }
  package var current: [Tap] { taps.withLock { $0 } }

  /// Nil = there are as many as there may be.
  package func open(_ filter: TapFilter) -> Tap? {
    taps.withLock { taps in
      guard taps.count < Self.limit else { return nil }
      let tap = Tap(filter)
      taps.append(tap)
      tapped.store(true, ordering: .relaxed)
      return tap
    }
  }

  package func close(_ tap: Tap) {
    tap.close()
    taps.withLock { taps in
      taps.removeAll { $0 === tap }
      tapped.store(!taps.isEmpty, ordering: .relaxed)
    }
  }
}
