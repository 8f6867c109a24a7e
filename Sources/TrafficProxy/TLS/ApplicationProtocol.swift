import Traffic

/// What is spoken inside TLS. The one place that decides what ALPN (RFC 7301) offers and what an answer means; which
/// handler serves it is decided in `AcceptChain.serve` and `UpstreamChain.connect`.
enum ApplicationProtocol: String {
  case http1 = "http/1.1"

  /// Offered by a listener, best first; empty = ALPN is not used.
  static func offered(by listener: ListenerConfiguration) -> [String] {
    listener.listenerProtocol == .tcp ? [] : [http1.rawValue]
  }

  /// Offered to a cluster.
  static func offered(to cluster: ClusterConfiguration) -> [String] { [http1.rawValue] }

  /// Without an answer HTTP/1.1 is spoken, as ever.
  init(negotiated: String?) { self = negotiated.flatMap(Self.init(rawValue:)) ?? .http1 }
}
