import Logging
import NIOCore
import Synchronization
import Telemetry
import Traffic

/// Runs the checks of one cluster and its sweeps, on one loop; the others are told of what has changed.
final class ClusterMonitor: Timed {
  private let loop: LoopState
  private unowned let cluster: LoopCluster
  private let health: ClusterHealth
  private let passed: Counter?
  private let failed: Counter?
  private var running: [Int: HealthProbe] = [:]
  private var isOver = false

  init(_ loop: LoopState, _ cluster: LoopCluster) {
    self.loop = loop
    self.cluster = cluster
    health = cluster.shared.health
    func results(_ result: String) -> Counter? {
      guard cluster.shared.health.checks != nil else { return nil }
      return loop.shared.metrics.counter(
        "outrider_upstream_health_checks_total", "Active health checks of endpoints, by how they ended.",
        [Label("cluster", cluster.shared.configuration.name), Label("result", result)])
    }
    passed = results("success")
    failed = results("failure")
  }

  /// The cluster has other endpoints, or is new.
  func look(_ now: UInt64) {
    guard !isOver else { return }
    for (id, probe) in running where !cluster.endpoints.contains(where: { $0.health?.id == id }) {
      running[id] = nil
      probe.cancel()
    }
    if health.sweeps { loop.shared.outlierCounters(of: cluster.shared.configuration.name) }
    loop.wheel.set(self, health.deadline, now: now)
  }

  override func deadlinePassed(_ now: UInt64) {
    guard !isOver else { return }
    tell(health.sweep(now: now))
    for (id, _) in health.begin(now: now) { check(id, now) }
    loop.wheel.set(self, health.deadline, now: now)
  }

  private func check(_ id: Int, _ now: UInt64) {
    guard let checks = health.checks, let endpoint = cluster.endpoints.first(where: { $0.health?.id == id }) else {
      // The endpoints of this loop are about to change.
      return health.postpone(id)
    }
    let probe = HealthProbe(loop, cluster, endpoint, checks)
    running[id] = probe
    probe.run { [self] failure in
      running[id] = nil
      ended(id, failure: failure)
    }
  }

  private func ended(_ id: Int, failure: String?) {
    guard !isOver else { return }
    (failure == nil ? passed : failed)?.addAsOwner()
    let now = NIODeadline.now().uptimeNanoseconds
    if let news = health.checked(id, failure: failure, now: now) { tell([news]) }
    loop.wheel.set(self, health.deadline, now: now)
  }

  private func tell(_ news: [ClusterHealth.News]) { loop.shared.announce(news, of: cluster.shared) }

  func end() {
    isOver = true
    loop.wheel.remove(self)
    for probe in running.values { probe.cancel() }
    running = [:]
  }
}

/// What is counted of ejections of one cluster.
struct OutlierCounters: Sendable {
  let ejections: Counter
  let ejected: Gauge
}

extension ProxyShared {
  /// Made when first asked for; a reload goes on with the same ones.
  @discardableResult
  func outlierCounters(of cluster: String) -> OutlierCounters {
    outliers.withLock { known in
      if let found = known[cluster] { return found }
      let labels = [Label("cluster", cluster)]
      let fresh = OutlierCounters(
        ejections: metrics.counter(
          "outrider_upstream_ejections_total", "Endpoints ejected by outlier detection.", labels),
        ejected: metrics.gauge("outrider_upstream_ejected", "Endpoints that are ejected now.", labels))
      known[cluster] = fresh
      return fresh
    }
  }

  /// Logs and counts what became of endpoints, and has every loop choose anew.
  func announce(_ news: [ClusterHealth.News], of cluster: ClusterShared) {
    guard !news.isEmpty else { return }
    let name = cluster.configuration.name
    for item in news {
      let text = "cluster `\(name)`: \(item.address.shown) \(item.text)"
      if item.isGood { logger.info("\(text)") } else { logger.warning("\(text)") }
      if item.isEjection { outlierCounters(of: name).ejections.add() }
    }
    if cluster.health.outliers != nil {
      outlierCounters(of: name).ejected.set(Int64(cluster.health.ejectedCount))
    }
    onEveryLoop { $0.availabilityChanged(of: cluster) }
  }
}

extension LoopState {
  /// Checks or outlier detection have changed what they say of a cluster's endpoints.
  func availabilityChanged(of shared: ClusterShared) {
    guard let cluster = clusters[shared.configuration.name], cluster.shared === shared else { return }
    cluster.takeHealth()
    cluster.availabilityChanged()
  }

  /// The monitor of a cluster runs on one loop only, the same one after each reload.
  func isHome(of cluster: String) -> Bool {
    // FNV-1a: the same in every loop, unlike `hashValue`.
    let hash = cluster.utf8.reduce(UInt64(0xcbf2_9ce4_8422_2325)) { ($0 ^ UInt64($1)) &* 0x100_0000_01b3 }
    return Int(hash % UInt64(place.count)) == place.index
  }
}

extension SocketAddress {
  /// `10.0.0.1:80`, `[::1]:80` or `unix:/path`.
  var shown: String {
    guard let ip = ipAddress, let port else { return "unix:\(pathname ?? "")" }
    return ip.contains(":") ? "[\(ip)]:\(port)" : "\(ip):\(port)"
  }
}
