import Logging
import Telemetry

/// Handshakes of one listener or cluster on one event loop.
final class TLSCounters {
  private let metrics: MetricRegistry
  private let logger: Logger
  private let labels: [Label]
  private let place: String
  private let done: Counter
  private var failed: [HandshakeReason: Counter] = [:]
  /// When a failure of that reason was last logged, and how many were not since.
  private var quiet: [HandshakeReason: (until: UInt64, count: Int)] = [:]

  init(_ owner: TLSOwner, place: String, metrics: MetricRegistry, logger: Logger) {
    self.metrics = metrics
    self.logger = logger
    self.place = place
    labels = [owner.label]
    done = metrics.counter("outrider_tls_handshakes_total", "TLS handshakes that were completed.", labels)
  }

  func succeeded() { done.addAsOwner() }

  func failed(_ reason: HandshakeReason) {
    let counter =
      failed[reason]
      ?? metrics.counter(
        "outrider_tls_handshake_failures_total", "TLS handshakes that failed.",
        labels + [Label("reason", reason.rawValue)])
    failed[reason] = counter
    counter.addAsOwner()
  }

  /// Counts, and says it at most once a minute for each reason.
  func failed(_ reason: HandshakeReason, _ now: UInt64, peer: [UInt8], detail: String) {
    failed(reason)
    var entry = quiet[reason] ?? (0, 0)
    if now < entry.until {
      entry.count += 1
    } else {
      let more = entry.count > 0 ? " (and \(entry.count) others since the last such message)" : ""
      // Whoever only looks whether the port is open also closes it.
      let level: Logger.Level = reason == .closed ? .debug : .info
      logger.log(level: level, "\(place): no TLS with \(String(decoding: peer, as: UTF8.self)): \(detail)\(more)")
      entry = (now &+ 60_000_000_000, 0)
    }
    quiet[reason] = entry
  }
}
