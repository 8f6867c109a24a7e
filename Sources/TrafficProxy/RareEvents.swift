import Telemetry

/// Counters of what should not happen often in a cluster, on one loop; each is made when it is first needed.
final class RareEvents {
  enum Event: String {
    // A limit of the cluster was reached.
    case connections, pending, requests
    /// A retry was due that the retry budget did not allow.
    case retryOverflow
    /// A second try has begun beside the first; it was the one that answered.
    case hedge, hedgeWon
  }

  private let metrics: MetricRegistry
  private let labels: [Label]
  private var counters: [Event: Counter] = [:]

  init(_ metrics: MetricRegistry, _ labels: [Label]) {
    self.metrics = metrics
    self.labels = labels
  }

  func add(_ event: Event) {
    let counter = counters[event] ?? make(event)
    counters[event] = counter
    counter.addAsOwner()
  }

  private func make(_ event: Event) -> Counter {
    switch event {
    case .connections, .pending, .requests:
      metrics.counter(
        "outrider_upstream_overflow_total",
        "Requests and connections refused because a limit of the cluster was reached.",
        labels + [Label("limit", event.rawValue)])
    case .retryOverflow:
      metrics.counter(
        "outrider_upstream_retry_overflow_total", "Retries that the retry budget did not allow.", labels)
    case .hedge:
      metrics.counter("outrider_upstream_hedges_total", "Second tries that began beside the first.", labels)
    case .hedgeWon:
      metrics.counter(
        "outrider_upstream_hedges_won_total", "Second tries that answered before the first.", labels)
    }
  }
}

extension LoopCluster {
  /// At the limit of connections: closes one that is kept for nobody, so that another may be made. False when there is
  /// none on this loop.
  func dropIdle() -> Bool {
    for endpoint in endpoints {
      if !endpoint.idle.isEmpty {
        endpoint.idle.removeFirst().close()
        return true
      }
      if let unused = endpoint.multiplexed.first(where: \.isUnused) {
        unused.retire()
        return true
      }
    }
    return false
  }
}
