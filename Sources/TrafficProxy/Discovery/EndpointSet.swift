import NIOCore
import Traffic

/// Where an endpoint is reached and what it is called.
struct ResolvedEndpoint: Sendable, Equatable {
  var address: SocketAddress
  /// The Host field for it: the configured name, with the port unless it is the scheme's own (80, with TLS 443).
  var host: String
  var weight: Int
  var locality: String?
  var priority: Int

  /// What makes it the same endpoint when its weight or place changes.
  struct Identity: Hashable {
    var address: SocketAddress
    var host: String
  }

  var identity: Identity { Identity(address: address, host: host) }

  /// `10.0.0.1:80`, `[::1]:80` or `unix:/path`.
  var text: String {
    if let ip = address.ipAddress, let port = address.port {
      return ip.contains(":") ? "[\(ip)]:\(port)" : "\(ip):\(port)"
    }
    return "unix:\(address.pathname ?? "")"
  }
}

/// The endpoints of a cluster as discovery found them, arranged for the choice.
final class EndpointSet: Sendable {
  /// More are left out.
  static let limit = 16_384

  /// Each once.
  let endpoints: [ResolvedEndpoint]
  let arrangement: EndpointArrangement
  /// How many were found beyond the limit.
  let leftOut: Int

  init(_ found: [ResolvedEndpoint], for configuration: ClusterConfiguration) {
    var seen = Set<ResolvedEndpoint.Identity>()
    let unique = found.filter { seen.insert($0.identity).inserted }
    let endpoints = Array(unique.prefix(Self.limit))
    self.endpoints = endpoints
    leftOut = unique.count - endpoints.count
    arrangement = EndpointArrangement(
      endpoints.map { endpoint in
        BalancedEndpoint(
          name: endpoint.text, weight: endpoint.weight, priority: endpoint.priority,
          isLocal: configuration.locality.map { $0 == endpoint.locality } ?? true)
      }, balance: configuration.balance)
  }
}
