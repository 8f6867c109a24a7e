import Logs
import Synchronization

/// Records on their way from a connection's event loop to the source thread, which answers when the spool has them.
struct IntakeJob: Sendable {
  var source: String
  /// Whole lines.
  var lines: [UInt8]
  /// False: they are not spooled and will not be.
  var done: @Sendable (Bool) -> Void
}

/// At most 64 MiB of bodies wait, those that still come included: who sends more is asked to come again.
final class IntakeQueue: Sendable {
  static let limit = 64 << 20
  private struct State {
    var jobs: [IntakeJob] = []
    var claimed = 0
  }
  private let state = Mutex(State())
  private let wake: @Sendable () -> Void

  init(wake: @escaping @Sendable () -> Void) { self.wake = wake }

  /// Claims memory for a body; false when there is none.
  func claim(_ bytes: Int) -> Bool {
    state.withLock { state in
      guard state.claimed + bytes <= Self.limit else { return false }
      state.claimed += bytes
      return true
    }
  }

  func release(_ bytes: Int) { state.withLock { $0.claimed -= bytes } }

  func push(_ job: IntakeJob) {
    state.withLock { $0.jobs.append(job) }
    wake()
  }

  func takeAll() -> [IntakeJob] {
    state.withLock { state in
      defer { state.jobs = [] }
      return state.jobs
    }
  }
}

/// Spools what came by HTTP. Owned by the source thread.
final class IntakeDrain {
  private let queue: IntakeQueue
  private var shippers: [String: LineShipper] = [:]
  private var held: [IntakeJob] = []
  /// Bytes of the first held job that are in the spool.
  private var passed = 0
  private var memory = GroupMemory()
  private let identity = UInt64.random(in: 1...UInt64.max)
  private var offset: UInt64 = 0

  init(_ queue: IntakeQueue) { self.queue = queue }

  func adopt(_ shippers: [String: LineShipper]) { self.shippers = shippers }

  /// True when the spool would not take them.
  func round() -> Bool {
    held += queue.takeAll()
    while let job = held.first {
      guard let shipper = shippers[job.source] else {
        next(false)
        continue
      }
      let shipped = job.lines.withUnsafeBytes {
        shipper.ship(
          $0.part(passed..<$0.count), stream: .none, identity: identity, offset: offset, final: true, &memory)
      }
      offset += UInt64(shipped.safe)
      passed += shipped.safe
      if shipped.isBlocked { return true }
      next(true)
    }
    return false
  }

  private func next(_ isSafe: Bool) {
    held.removeFirst().done(isSafe)
    passed = 0
    memory = GroupMemory()
  }

  /// Tells those who still wait that nothing will come of it.
  func finish() {
    held += queue.takeAll()
    while !held.isEmpty { next(false) }
  }
}
