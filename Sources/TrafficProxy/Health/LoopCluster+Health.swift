import NIOCore
import Resilience
import Synchronization
import Telemetry
import Traffic

/// What a loop takes over of the endpoints' health.
extension LoopCluster {
  /// There are other endpoints: has them watched, where anything is to be watched.
  func watchHealth() {
    let health = shared.health
    guard health.isWatched else { return }
    let now = NIODeadline.now().uptimeNanoseconds
    let watched = health.watch(endpoints.map(\.resolved.address), now: now)
    // A single endpoint is never ejected, so nothing is counted of it.
    let counts = health.outliers != nil && endpoints.count > 1
    for (endpoint, fresh) in zip(endpoints, watched) {
      if endpoint.health !== fresh { endpoint.forgetHealth() }
      endpoint.health = fresh
      endpoint.notesOutcomes = counts
      let compares = counts && endpoints.count >= OutlierDetector.leastHosts
      if compares, endpoint.tally == nil { endpoint.tally = fresh.tally() }
    }
    takeHealth()
    monitor?.look(now)
  }

  /// `availabilityChanged` is to be called next.
  func takeHealth() {
    for endpoint in endpoints { endpoint.isAvailable = endpoint.health?.isAvailable ?? true }
  }

  /// This loop is the one that checks the cluster's endpoints.
  func beginMonitoring(_ loop: LoopState) {
    loop.shared.metrics.read(
      "outrider_upstream_pending", .gauge, "Requests that wait for a connection.",
      [Label("cluster", shared.configuration.name)]
    ) { [weak shared] in Double(shared?.pending.load(ordering: .relaxed) ?? 0) }
    guard shared.health.isWatched else { return }
    monitor = ClusterMonitor(loop, self)
    if isResolved { monitor?.look(NIODeadline.now().uptimeNanoseconds) }
  }
}

extension LoopEndpoint {
  /// It is no longer of the cluster.
  func forgetHealth() {
    if let tally { health?.drop(tally) }
    tally = nil
    health = nil
    notesOutcomes = false
  }
}
