import NIOCore
import NIOSSL
import Synchronization
import Traffic

#if canImport(Glibc)
  import Glibc
#else
  import Musl
#endif

/// The TLS side of one cluster: its contexts as last loaded. New connections take what is current.
final class ClusterTLS: Sendable {
  struct Loaded: Sendable {
    var http: NIOSSLContext
    /// Without ALPN, for listeners that pass octets.
    var tcp: NIOSSLContext
  }

  let cluster: String
  let configuration: ClusterTLSConfiguration
  private let protocols: [String]
  private let current = Mutex<Loaded?>(nil)
  private let lastFailure = Mutex("")

  init(_ cluster: ClusterConfiguration, _ configuration: ClusterTLSConfiguration) {
    self.cluster = cluster.name
    self.configuration = configuration
    protocols = ApplicationProtocol.offered(to: cluster)
  }

  /// Nil = what it needs is not there (yet).
  func context(tcp: Bool) -> NIOSSLContext? { current.withLock { tcp ? $0?.tcp : $0?.http } }

  /// True when a failure differs from the last one, so that it is logged once.
  func isNews(_ failure: String) -> Bool {
    lastFailure.withLock { last in
      defer { last = failure }
      return last != failure
    }
  }

  /// Why the peer is not who it should be; nil when it is. The chain has been verified already.
  func refusal(_ certificate: NIOSSLCertificate?, serverName: String?, address: SocketAddress?) -> TLSFailure? {
    guard configuration.verify else { return nil }
    guard let certificate else { return TLSFailure(.tlsCertificate, "the upstream sent no certificate") }
    let names = certificate.names
    let wanted: String
    if !configuration.match.isEmpty {
      if configuration.match.contains(where: { $0.matches(names, asServer: true) }) { return nil }
      wanted = configuration.match.map(\.description).joined(separator: " or ")
    } else if let serverName {
      if names.covers(host: serverName) { return nil }
      wanted = serverName
    } else {
      if let octets = address?.ipOctets, names.covers(address: octets) { return nil }
      wanted = address?.ipAddress ?? "the endpoint"
    }
    return TLSFailure(
      .tlsCertificate, "the certificate of \(certificate.subject) is for \(names.summary()), not for \(wanted)")
  }
}

extension SocketAddress {
  /// Four or sixteen octets in network order; nil for Unix sockets.
  var ipOctets: [UInt8]? {
    guard let text = ipAddress else { return nil }
    let isLong = text.contains(":")
    var octets = [UInt8](repeating: 0, count: isLong ? 16 : 4)
    return inet_pton(isLong ? AF_INET6 : AF_INET, text, &octets) == 1 ? octets : nil
  }
}

extension ClusterTLS: ReloadingTLS {
  var place: String { "clusters.\(cluster)" }
  var owner: TLSOwner { .cluster(cluster) }
  var secretNames: Set<String> {
    Set(
      [configuration.certificate?.secretName, configuration.verify ? configuration.trust.secretName : nil].compactMap(
        \.self))
  }

  func signatures(_ material: MaterialSource) -> [MaterialSignature] {
    material.signatures(configuration.certificate)
      + (configuration.verify ? material.signatures(configuration.trust) : [])
  }

  func load(_ material: MaterialSource, now: Int64) throws(TLSMaterialError) -> [String: Int64] {
    var tls = TLSConfiguration.makeClientConfiguration()
    tls.minimumTLSVersion = .tlsv12
    tls.shutdownTimeout = TLSLimits.shutdown
    if configuration.verify {
      tls.trustRoots = .certificates(try Authorities(configuration.trust, material).certificates)
      // The name is checked by `refusal`, which takes no common names and no address in a name's place.
      tls.certificateVerification = .noHostnameVerification
    } else {
      tls.trustRoots = .certificates([])
      tls.certificateVerification = .none
    }
    var certificate: OwnCertificate?
    if let source = configuration.certificate {
      let own = try OwnCertificate(source, try material.certificate(source), now: now)
      tls.certificateChain = own.chain.map { .certificate($0) }
      tls.privateKey = .privateKey(own.key)
      certificate = own
    }
    let tcp = try TLSLimits.context(tls, configuration.certificate, certificate)
    tls.applicationProtocols = protocols
    let loaded = Loaded(http: try TLSLimits.context(tls, configuration.certificate, certificate), tcp: tcp)
    current.withLock { $0 = loaded }
    return certificate.map { ["client": $0.expires] } ?? [:]
  }
}

extension ClusterTLS {
  /// For a compiled cluster. Throws when a file cannot be used; a secret that is not there yet is waited for.
  static func make(
    _ cluster: ClusterConfiguration, _ material: MaterialSource
  ) throws(TLSMaterialError) -> ClusterTLS? {
    guard let configuration = cluster.tls else { return nil }
    let fresh = ClusterTLS(cluster, configuration)
    try fresh.loadFirst(material)
    return fresh
  }
}
