import Glibc
import Logs
import Synchronization
import Telemetry

/// Access records on their way from the event loops to the source thread: at most 4 MiB; what does not fit is counted
/// and dropped, because traffic never waits for its log.
final class AccessQueue: Sendable {
  static let limit = 4 << 20
  private let pending = Mutex<[UInt8]>([])
  private let dropped: Counter
  private let wake: @Sendable () -> Void

  init(dropped: Counter, wake: @escaping @Sendable () -> Void) {
    self.dropped = dropped
    self.wake = wake
  }

  /// Takes whole lines; never waits.
  func push(_ lines: Bytes) {
    let (first, fits) = pending.withLock { pending -> (Bool, Bool) in
      guard pending.count + lines.count <= Self.limit else { return (false, false) }
      let first = pending.isEmpty
      pending.append(contentsOf: lines)
      return (first, true)
    }
    if !fits { dropped.add(UInt64(lines.count { $0 == 0x0A })) }
    if first { wake() }
  }

  func takeAll() -> [UInt8] {
    pending.withLock { pending in
      defer { pending = [] }
      return pending
    }
  }

  /// What could not be spooled comes first again.
  func putBack(_ lines: [UInt8]) { pending.withLock { $0 = lines + $0 } }

  var isEmpty: Bool { pending.withLock { $0.isEmpty } }
}
