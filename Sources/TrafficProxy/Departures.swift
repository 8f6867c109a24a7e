import NIOCore
import Telemetry

/// What was handed over to be written in this turn of a loop: requests and responses whose time in the sidecar goes on
/// until the kernel has them.
final class Departures {
  private var requests: ContiguousArray<(driver: ExchangeDriver, since: UInt64)> = []
  private var responses: ContiguousArray<(listener: LoopListener, overhead: UInt64, since: UInt64)> = []

  func add(_ driver: ExchangeDriver, _ now: UInt64) { requests.append((driver, now)) }

  func add(_ listener: LoopListener, overhead: UInt64, _ now: UInt64) {
    responses.append((listener, overhead, now))
  }

  /// It is all written.
  @inline(__always)
  func settle() {
    if !requests.isEmpty || !responses.isEmpty { settleAll() }
  }

  private func settleAll() {
    let now = NIODeadline.now().uptimeNanoseconds
    for (driver, since) in requests where driver.exchange.sent == since { driver.exchange.overhead += now &- since }
    requests.removeAll(keepingCapacity: true)
    for (listener, overhead, since) in responses { listener.overhead.recordAsOwner(overhead &+ (now &- since)) }
    responses.removeAll(keepingCapacity: true)
  }
}
