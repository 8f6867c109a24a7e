import Synchronization

/// Wakes one waiting task early. A ring while nobody waits is kept for the next wait; several rings count as one.
final class Doorbell: Sendable {
  private struct State {
    var isRung = false
    var waiter: (id: UInt64, continuation: CheckedContinuation<Bool, Never>)?
    var lastID: UInt64 = 0
  }

  private let state = Mutex(State())

  func ring() {
    let waiter = state.withLock { state in
      defer { state.waiter = nil }
      if state.waiter == nil { state.isRung = true }
      return state.waiter
    }
    waiter?.continuation.resume(returning: true)
  }

  /// True when rung, false after `duration` or when the task is cancelled.
  func wait(for duration: Duration) async -> Bool {
    let id = state.withLock { state in
      state.lastID += 1
      return state.lastID
    }
    let timer = Task {
      try? await Task.sleep(for: duration)
      self.give(up: id)
    }
    defer { timer.cancel() }
    return await withTaskCancellationHandler {
      await withCheckedContinuation { continuation in
        let answer: Bool? = state.withLock { state in
          if state.isRung {
            state.isRung = false
            return true
          }
          if Task.isCancelled { return false }
          state.waiter = (id, continuation)
          return nil
        }
        if let answer { continuation.resume(returning: answer) }
      }
    } onCancel: {
      give(up: id)
    }
  }

  private func give(up id: UInt64) {
    let waiter = state.withLock { state -> (id: UInt64, continuation: CheckedContinuation<Bool, Never>)? in
      guard state.waiter?.id == id else { return nil }
      defer { state.waiter = nil }
      return state.waiter
    }
    waiter?.continuation.resume(returning: false)
  }
}
