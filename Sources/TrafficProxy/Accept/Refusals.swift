import Logging
import NIOCore
import Telemetry

/// Connections that were refused before they became one of somebody, told in the log now and then.
final class Refusals {
  private static let interval: UInt64 = 10_000_000_000
  private let counter: Counter
  private var since = 0
  private var nextLine: UInt64 = 0

  private let what: String

  init(_ counter: Counter, what: String = "refused a connection") {
    self.counter = counter
    self.what = what
  }

  func count(_ reason: String, _ loop: LoopState, _ listener: String) {
    counter.addAsOwner()
    since += 1
    let now = NIODeadline.now().uptimeNanoseconds
    guard now >= nextLine else { return }
    nextLine = now &+ Self.interval
    loop.shared.logger.warning(
      "listener `\(listener)` \(what): \(reason)\(since > 1 ? " (\(since) since the last such line)" : "")"
    )
    since = 0
  }
}
