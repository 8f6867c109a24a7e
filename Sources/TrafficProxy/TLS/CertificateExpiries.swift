import Synchronization
import Telemetry

/// Seconds until certificates expire, as a metric.
final class CertificateExpiries: Sendable {
  private struct Key: Hashable {
    var owner: TLSOwner
    var name: String
  }

  private struct State {
    /// Seconds since 1970.
    var times: [Key: Int64] = [:]
    var registered: Set<Key> = []
  }

  private let metrics: MetricRegistry
  private let state = Mutex(State())

  init(metrics: MetricRegistry) { self.metrics = metrics }

  /// Sets the certificates of an owner; others that it had are not in use any more.
  func update(_ owner: TLSOwner, _ expiries: [String: Int64]) {
    let fresh = state.withLock { state in
      state.times = state.times.filter { $0.key.owner != owner }
      var fresh: [Key] = []
      for (name, time) in expiries {
        let key = Key(owner: owner, name: name)
        state.times[key] = time
        if state.registered.insert(key).inserted { fresh.append(key) }
      }
      return fresh
    }
    for key in fresh {
      metrics.read(
        "outrider_tls_certificate_expiry_seconds", .gauge, "Seconds until a certificate expires; NaN = not in use.",
        [key.owner.label, Label("name", key.name)]
      ) { [weak self] in
        self?.state.withLock { $0.times[key] }.map { Double($0 - Moment.now) } ?? .nan
      }
    }
  }
}
