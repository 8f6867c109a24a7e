import Logging
import Logs
import Synchronization
import Telemetry

/// How a sink is doing.
package struct LogSinkStatus: Sendable, Equatable {
  package var name: String
  /// Records in the spool that the sink has yet to acknowledge.
  package var lag: Int
  package var lastError: String?
  package var sent: UInt64
  package var retried: UInt64
  package var deadLetters: UInt64
}

/// The meters of a sink's name: they go on when a reload replaces the sink.
struct SinkMeters: Sendable {
  let sent: Counter
  let damaged: Counter
  /// Nil while no sink of this name has sent over a network.
  var requests: RequestMeters?

  init(name: String, spool: Spool, metrics: MetricRegistry) {
    let label = [Label("sink", name)]
    sent = metrics.counter("outrider_log_sent_total", "Records that a sink acknowledged.", label)
    damaged = metrics.counter(
      "outrider_log_dropped_total", "Records dropped, by reason.",
      [Label("source", "spool"), Label("reason", "damaged"), Label("sink", name)])
    metrics.read("outrider_log_lag_records", .gauge, "Records in the spool that a sink has yet to acknowledge.", label)
    {
      [spool] in Double(spool.lag(sink: name))
    }
  }
}

/// The meters of what a sink's name sends over a network.
struct RequestMeters: Sendable {
  let retried: Counter
  let deadLetters: Counter
  /// Of requests, before compression.
  let bytes: Counter
  let latency: Histogram
  let circuit: Gauge

  init(name: String, metrics: MetricRegistry) {
    let label = [Label("sink", name)]
    retried = metrics.counter("outrider_log_retries_total", "Records sent to a sink again.", label)
    deadLetters = metrics.counter("outrider_log_dead_letters_total", "Records that a sink refused for good.", label)
    bytes = metrics.counter(
      "outrider_log_sent_bytes_total", "Bytes of a sink's requests, before compression, repeated ones included.", label)
    latency = metrics.histogram("outrider_log_send_seconds", "From a sink's request to its answer.", label)
    circuit = metrics.gauge("outrider_log_circuit_open", "1 while a sink waits after a failure.", label)
  }
}

/// What a running sink shares with the rest.
final class SinkState: Sendable {
  let name: String
  let spool: Spool
  let meters: SinkMeters
  /// Names of the sources it takes; empty = all.
  let sources: Set<String>
  /// What the transforms route to it; nil = everything.
  let route: LogCondition?
  private let error = Mutex<String?>(nil)
  private let phaseCell = Atomic<Int>(0)

  /// Running; sending what is there without waiting for more; leaving everything where it is.
  enum Phase: Int { case running, draining, abandoned, finished }

  init(name: String, sources: [String], route: LogCondition? = nil, spool: Spool, meters: SinkMeters) {
    self.name = name
    self.spool = spool
    self.meters = meters
    self.sources = Set(sources)
    self.route = route
  }

  var phase: Phase {
    get { Phase(rawValue: phaseCell.load(ordering: .acquiring)) ?? .abandoned }
    set { phaseCell.store(newValue.rawValue, ordering: .releasing) }
  }

  var lastError: String? {
    get { error.withLock { $0 } }
    set { error.withLock { $0 = newValue } }
  }

  /// Records that stood in the spool and cannot be read.
  func count(damaged: UInt64, _ logger: Logger) {
    guard damaged > 0 else { return }
    meters.damaged.add(damaged)
    logger.error(
      "log sink '\(name)': \(damaged) records in the log spool '\(spool.path)' were damaged on disk and are lost; check the disk"
    )
  }

  var status: LogSinkStatus {
    LogSinkStatus(
      name: name, lag: spool.lag(sink: name), lastError: lastError, sent: meters.sent.value,
      retried: meters.requests?.retried.value ?? 0, deadLetters: meters.requests?.deadLetters.value ?? 0)
  }
}
