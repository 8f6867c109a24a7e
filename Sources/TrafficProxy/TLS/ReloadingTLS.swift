import NIOCore
import NIOSSL
import Telemetry
import Traffic

/// Whose certificate it is, in metrics.
enum TLSOwner: Hashable, Sendable {
  case listener(String)
  case cluster(String)

  var label: Label {
    switch self {
    case .listener(let name): Label("listener", name)
    case .cluster(let name): Label("cluster", name)
    }
  }
}

/// A TLS endpoint whose material may change while it runs.
protocol ReloadingTLS: AnyObject, Sendable {
  /// As the configuration names it.
  var place: String { get }
  var owner: TLSOwner { get }
  /// Secrets it is made from.
  var secretNames: Set<String> { get }
  func signatures(_ material: MaterialSource) -> [MaterialSignature]
  /// Reads, checks and takes into use; on an error what was in use stays. Returns expiry times (seconds since 1970) by
  /// the certificate's name.
  func load(_ material: MaterialSource, now: Int64) throws(TLSMaterialError) -> [String: Int64]
}

extension ReloadingTLS {
  /// The first load, before anything is served: a secret may come later, a file may not.
  func loadFirst(_ material: MaterialSource) throws(TLSMaterialError) {
    do throws(TLSMaterialError) {
      _ = try load(material, now: Moment.now)
    } catch {
      if error.awaitedSecret == nil { throw TLSMaterialError("\(place).tls: \(error)") }
    }
  }
}

enum TLSLimits {
  /// How long a close waits for the peer's `close_notify`.
  static let shutdown = TimeAmount.seconds(1)

  /// An idle connection keeps no more of its write buffer than one record and a head.
  static var handler: NIOSSLHandler.Configuration {
    var configuration = NIOSSLHandler.Configuration()
    configuration.maximumPreservedOutboundBufferCapacity = 64 << 10
    return configuration
  }

  /// The context, and with it the check that key and certificate are a pair.
  static func context(
    _ tls: TLSConfiguration, _ source: CertificateSource?, _ certificate: OwnCertificate?
  ) throws(TLSMaterialError) -> NIOSSLContext {
    do {
      return try NIOSSLContext(configuration: tls)
    } catch {
      guard let source, let leaf = certificate?.chain.first else {
        throw TLSMaterialError("TLS cannot start: \(error)")
      }
      if error as? NIOSSLError == .failedToLoadPrivateKey {
        throw TLSMaterialError(
          "\(source): the private key does not belong to the certificate of \(leaf.subject) (\(leaf.validity))")
      }
      throw TLSMaterialError("\(source): the certificate of \(leaf.subject) cannot be used")
    }
  }
}
