import NIOSSL
import Synchronization
import Traffic

/// The TLS side of one listener: its contexts as last loaded. New handshakes take what is current; connections keep
/// what they have.
final class ServerTLS: Sendable {
  struct Loaded: Sendable {
    var standard: NIOSSLContext?
    /// By place in `configuration.hosts`.
    var hosts: [NIOSSLContext] = []
    /// Seconds since 1970 by `default` or host pattern.
    var expiries: [String: Int64] = [:]
  }

  /// `inbound.web`, for messages.
  let place: String
  let listener: String
  let configuration: ListenerTLSConfiguration
  private let protocols: [String]
  private let table: ServerNameTable
  private let current = Mutex<Loaded?>(nil)

  init(_ listener: ListenerConfiguration, _ configuration: ListenerTLSConfiguration) {
    place = "\(listener.direction.rawValue).\(listener.name)"
    self.listener = listener.name
    self.configuration = configuration
    protocols = ApplicationProtocol.offered(by: listener)
    table = ServerNameTable(configuration.hosts.map(\.pattern))
  }

  /// The first octets decide: between plaintext and TLS, or between certificates.
  var readsFirstOctets: Bool { configuration.permissive || !configuration.hosts.isEmpty }
  var asksForCertificate: Bool { configuration.clientCertificate != .none }

  /// The context for the name that a client asks for; nil = there is no certificate for it (yet).
  func context(serverName: String?) -> NIOSSLContext? {
    current.withLock { loaded in
      guard let loaded else { return nil }
      if let serverName, let index = table.find(serverName) { return loaded.hosts[index] }
      return loaded.standard
    }
  }
}

extension ServerTLS: ReloadingTLS {
  var owner: TLSOwner { .listener(listener) }
  var secretNames: Set<String> {
    var names = Set(configuration.hosts.compactMap(\.certificate.secretName))
    if let name = configuration.certificate?.secretName { names.insert(name) }
    if let name = configuration.clientCA?.secretName { names.insert(name) }
    return names
  }

  func signatures(_ material: MaterialSource) -> [MaterialSignature] {
    material.signatures(configuration.certificate) + configuration.hosts.flatMap { material.signatures($0.certificate) }
      + material.signatures(configuration.clientCA)
  }

  func load(_ material: MaterialSource, now: Int64) throws(TLSMaterialError) -> [String: Int64] {
    let authorities = try configuration.clientCA.map { (source) throws(TLSMaterialError) in
      try Authorities(source, material)
    }
    var loaded = Loaded()
    if let source = configuration.certificate {
      let certificate = try OwnCertificate(source, try material.certificate(source), now: now)
      loaded.standard = try context(source, certificate, authorities)
      loaded.expiries["default"] = certificate.expires
    }
    for host in configuration.hosts {
      let certificate = try OwnCertificate(host.certificate, try material.certificate(host.certificate), now: now)
      loaded.hosts.append(try context(host.certificate, certificate, authorities))
      loaded.expiries[host.pattern] = certificate.expires
    }
    let expiries = loaded.expiries
    current.withLock { $0 = loaded }
    return expiries
  }

  private func context(
    _ source: CertificateSource, _ certificate: OwnCertificate, _ authorities: Authorities?
  ) throws(TLSMaterialError) -> NIOSSLContext {
    var tls = TLSConfiguration.makeServerConfiguration(
      certificateChain: certificate.chain.map { .certificate($0) }, privateKey: .privateKey(certificate.key))
    tls.minimumTLSVersion = configuration.minimumVersion == .tls13 ? .tlsv13 : .tlsv12
    tls.applicationProtocols = protocols
    tls.shutdownTimeout = TLSLimits.shutdown
    if let authorities {
      tls.trustRoots = .certificates(authorities.certificates)
      tls.sendCANameList = true
      tls.certificateVerification =
        configuration.clientCertificate == .required ? .noHostnameVerification : .optionalVerification
    }
    return try TLSLimits.context(tls, source, certificate)
  }
}

extension ServerTLS {
  /// For a compiled listener: that of `old` when nothing about it changed, else a new one, loaded. Throws when a file
  /// cannot be used; a secret that is not there yet is waited for.
  static func make(
    _ listener: ListenerConfiguration, keeping old: Snapshot?, _ material: MaterialSource
  ) throws(TLSMaterialError) -> ServerTLS? {
    guard let configuration = listener.tls else { return nil }
    let fresh = ServerTLS(listener, configuration)
    let kept = old?.listeners.compactMap(\.tls).first { $0.isSame(as: fresh) }
    if let kept { return kept }
    try fresh.loadFirst(material)
    return fresh
  }

  private func isSame(as other: ServerTLS) -> Bool {
    place == other.place && configuration == other.configuration && protocols == other.protocols
  }
}
