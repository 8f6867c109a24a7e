import NIOSSL
import Synchronization
import Traffic

#if canImport(Glibc)
  import Glibc
#else
  import Musl
#endif

/// The certificate authorities that a peer must be signed by.
struct Authorities: Sendable {
  let certificates: [NIOSSLCertificate]

  init(_ source: TrustSource, _ material: MaterialSource) throws(TLSMaterialError) {
    if source == .system {
      certificates = try SystemTrust.certificates(material)
      return
    }
    certificates = try PEM.certificates(try material.authorities(source), source.description)
    // A chain has to end at a self-signed authority.
    guard certificates.contains(where: { $0.subjectName == $0.issuerName }) else {
      let names = certificates.prefix(3).map(\.subject).joined(separator: "; ")
      throw TLSMaterialError("\(source): there is no root (self-signed) certificate, only \(names)")
    }
  }
}

/// The system's bundle, parsed once and shared by every cluster that trusts it.
enum SystemTrust {
  private static let places = [
    "/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
  ]
  private static let parsed = Mutex<[NIOSSLCertificate]>([])

  /// `SSL_CERT_FILE`, or where distributions put the bundle.
  static func path() throws(TLSMaterialError) -> String {
    if let named = getenv("SSL_CERT_FILE").map({ String(cString: $0) }), !named.isEmpty { return named }
    guard let found = places.first(where: { access($0, R_OK) == 0 }) else {
      throw TLSMaterialError(
        "the system has no bundle of certificate authorities; install `ca-certificates`, or name one in `tls.ca`")
    }
    return found
  }

  static func certificates(_ material: MaterialSource) throws(TLSMaterialError) -> [NIOSSLCertificate] {
    let known = parsed.withLock { $0 }
    if !known.isEmpty { return known }
    let found = try PEM.certificates(try material.authorities(.system), "the system's certificate authorities")
    parsed.withLock { $0 = found }
    return found
  }
}
