import NIOSSL
import Traffic

/// What is known of a connection that TLS protects. Made once, at the end of its handshake.
final class TLSSession {
  /// The verified peer, as records show it: a SPIFFE id or a DNS name; empty = it showed no certificate.
  let peer: [UInt8]
  /// All names of the verified peer, for rules that look at them.
  let names: PeerNames
  let version: StaticString

  init(_ handler: NIOSSLHandler, verifiedPeer certificate: NIOSSLCertificate?) {
    names = certificate?.names ?? PeerNames()
    let identity = names.identity
    peer = Array((identity.isEmpty ? certificate?.subject ?? "" : identity).utf8)
    version =
      switch handler.tlsVersion {
      case .tlsv13: "1.3"
      case .tlsv12: "1.2"
      default: ""
      }
  }
}
