import NIOCore
import Traffic

/// A cluster and its endpoints as they are now, for people.
package struct ClusterStatus: Sendable, Equatable {
  package struct Endpoint: Sendable, Equatable {
    /// `10.0.0.1:80`.
    package var address: String
    /// The name it was found by, as the Host field has it.
    package var host: String
    /// `available`, or why it gets no requests (unless too few others do): `unhealthy`, `ejected`.
    package var state: String
    package var weight: Int
    package var priority: Int
    package var locality: String?
    /// Requests in flight there.
    package var active: Int
  }

  package var name: String
  /// `endpoints`, `dns shop.internal:80`, `srv _http._tcp.shop`, `file /etc/shop.yaml` or `app`.
  package var source: String
  package var endpoints: [Endpoint]
  /// What could not be found last; nil = nothing.
  package var failure: String?

  /// What health checks and outlier detection say of addresses.
  private var absences: [SocketAddress: String] = [:]

  init(_ shared: ClusterShared) {
    name = shared.configuration.name
    source =
      switch shared.configuration.discovery {
      case _ where shared.isApp: "app"
      case .fixed: "endpoints"
      case .dns(let host, let port): "dns \(host):\(port)"
      case .srv(let name): "srv \(name)"
      case .file(let path): "file \(path)"
      }
    endpoints = []
    let text = shared.failure
    failure = text.isEmpty ? nil : text
    for absence in shared.health.absences { absences[absence.address] = absence.kind.rawValue }
  }

  /// Adds what one event loop knows.
  mutating func add(_ cluster: LoopCluster) {
    for (index, endpoint) in cluster.endpoints.enumerated() {
      if index < endpoints.count, endpoints[index].address == endpoint.resolved.text {
        endpoints[index].active += endpoint.active
      } else if index >= endpoints.count {
        let resolved = endpoint.resolved
        endpoints.append(
          Endpoint(
            address: resolved.text, host: resolved.host, state: absences[resolved.address] ?? "available",
            weight: resolved.weight,
            priority: resolved.priority, locality: resolved.locality, active: endpoint.active))
      }
    }
  }
}
