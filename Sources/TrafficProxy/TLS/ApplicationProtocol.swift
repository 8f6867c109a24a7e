import Traffic

/// What is spoken inside TLS. The one place that decides what ALPN (RFC 7301) offers and what an answer means; which
/// handler serves it is decided in `AcceptChain.serve` and `ExchangeDriver.connected`.
enum ApplicationProtocol: String {
  case http2 = "h2"
  case http1 = "http/1.1"

  /// Offered by a listener, best first; empty = ALPN is not used.
  static func offered(by listener: ListenerConfiguration) -> [String] {
    listener.listenerProtocol == .tcp ? [] : [http2.rawValue, http1.rawValue]
  }

  /// Offered to a cluster.
  static func offered(to cluster: ClusterConfiguration) -> [String] {
    switch cluster.spoken {
    case .auto: [http2.rawValue, http1.rawValue]
    case .http1: [http1.rawValue]
    case .http2: [http2.rawValue]
    }
  }

  /// Without an answer HTTP/1.1 is spoken, as ever.
  init(negotiated: String?) { self = negotiated.flatMap(Self.init(rawValue:)) ?? .http1 }
}
