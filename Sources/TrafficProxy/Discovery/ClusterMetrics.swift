import Synchronization
import Telemetry

/// What is counted of a cluster's endpoints. One for each name, whatever reloads do to the cluster.
final class ClusterMetrics: Sendable {
  private let available: Gauge
  private let unavailable: Gauge
  /// Rounds of discovery with and without an answer; nil = the endpoints are fixed.
  private let rounds = Mutex<(success: Counter, failure: Counter)?>(nil)
  private let registry: MetricRegistry
  private let name: String

  init(_ name: String, _ registry: MetricRegistry) {
    self.name = name
    self.registry = registry
    let help = "Endpoints of clusters; those that are not available get no requests."
    func gauge(_ state: String) -> Gauge {
      registry.gauge("outrider_upstream_endpoints", help, [Label("cluster", name), Label("state", state)])
    }
    available = gauge("available")
    unavailable = gauge("unavailable")
  }

  func set(available count: Int, of total: Int) {
    available.set(Int64(count))
    unavailable.set(Int64(total - count))
  }

  func countRound(isGood: Bool) {
    let counters = rounds.withLock { rounds in
      let counters = rounds ?? (counter("success"), counter("failure"))
      rounds = counters
      return counters
    }
    (isGood ? counters.success : counters.failure).add()
  }

  private func counter(_ result: String) -> Counter {
    registry.counter(
      "outrider_upstream_resolutions_total",
      "Look-ups of a cluster's endpoints in DNS or a file; a failed one leaves the last good endpoints in use.",
      [Label("cluster", name), Label("result", result)])
  }
}
