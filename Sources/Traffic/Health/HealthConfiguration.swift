package import Resilience
import Vocabulary

/// How the endpoints of a cluster are asked whether they are well.
package struct HealthCheckConfiguration: Sendable, Equatable {
  package enum Probe: Sendable, Equatable {
    /// GET of this path answers with one of `statuses`.
    case http(path: String)
    /// The endpoint accepts a connection; in TLS the handshake counts.
    case tcp
    /// `grpc.health.v1.Health/Check` of that service answers SERVING; empty = the server as a whole.
    case grpc(service: String)
  }
  package var probe: Probe
  package var interval: Duration = .seconds(10)
  /// Of one check, the connection included.
  package var timeout: Duration = .seconds(1)
  package var unhealthy = 3
  package var healthy = 2
  package var statuses: [ClosedRange<Int>] = [200...299]
  /// The Host field of checks; nil = as requests have it.
  package var host: String? = nil
  /// Where to ask in place of the endpoint's own port.
  package var port: Int? = nil

  package init(_ probe: Probe) { self.probe = probe }

  package var settings: HealthCheck.Settings {
    var settings = HealthCheck.Settings()
    settings.interval = UInt64(max(1, interval.inNanoseconds))
    settings.unhealthy = unhealthy
    settings.healthy = healthy
    return settings
  }
}

/// When an endpoint is left out for a while because of how requests to it end.
package struct OutlierConfiguration: Sendable, Equatable {
  /// Responses of 500 and above, or failures without a response, in a row.
  package var consecutive5xx = 5
  package var interval: Duration = .seconds(10)
  package var ejection: Duration = .seconds(30)
  package var maxEjection: Duration = .seconds(300)
  package var maxPercent = 10
  package init() {}

  package var settings: OutlierDetector.Settings {
    var settings = OutlierDetector.Settings()
    settings.ejection = UInt64(max(0, ejection.inNanoseconds))
    settings.longestEjection = UInt64(max(0, maxEjection.inNanoseconds))
    settings.mostPercent = maxPercent
    return settings
  }
}
