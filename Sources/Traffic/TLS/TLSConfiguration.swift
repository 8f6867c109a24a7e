/// Where a certificate with its private key comes from.
package enum CertificateSource: Sendable, Hashable, CustomStringConvertible {
  /// A secret's name: PKI, or any with the fields of a certificate. Nothing of it touches a disk.
  case secret(String)
  /// Absolute paths of PEM files; the certificate's file holds the chain, leaf first. Both may be one file.
  case files(certificate: String, key: String)

  /// For messages: the secret or the files, never content.
  package var description: String {
    switch self {
    case .secret(let name): "secret `\(name)`"
    case .files(let certificate, let key): certificate == key ? certificate : "\(certificate) with \(key)"
    }
  }

  package var secretName: String? { if case .secret(let name) = self { name } else { nil } }
}

/// Where the certificate authorities come from that a peer must be signed by.
package enum TrustSource: Sendable, Hashable, CustomStringConvertible {
  /// The system's bundle.
  case system
  /// The absolute path of a PEM bundle.
  case file(String)
  /// A secret's name; its CA fields count.
  case secret(String)

  package var description: String {
    switch self {
    case .system: "the system's certificate authorities"
    case .file(let path): path
    case .secret(let name): "secret `\(name)`"
    }
  }

  package var secretName: String? { if case .secret(let name) = self { name } else { nil } }
}

package enum TLSVersionBound: String, Sendable, CaseIterable {
  case tls12 = "1.2"
  case tls13 = "1.3"
}

/// How a listener terminates TLS.
package struct ListenerTLSConfiguration: Sendable, Equatable {
  package enum ClientCertificate: String, Sendable, CaseIterable {
    /// Not asked for.
    case none
    /// Asked for; one that is sent must be good.
    case optional
    /// Without a good one there is no connection.
    case required
  }

  /// A certificate for the names that a client may ask for.
  package struct Host: Sendable, Equatable {
    /// Lower case: `api.example.com` or `*.example.com`.
    package var pattern: String
    package var certificate: CertificateSource
    package init(pattern: String, certificate: CertificateSource) {
      self.pattern = pattern
      self.certificate = certificate
    }
  }

  /// For clients whose name no `hosts` entry takes, or that send none; nil = those are refused.
  package var certificate: CertificateSource?
  package var hosts: [Host] = []
  package var clientCertificate: ClientCertificate = .none
  /// What a client's certificate must be signed by; nil only when none is asked for.
  package var clientCA: TrustSource? = nil
  /// Names of which a client's certificate must have one; empty = any.
  package var match: [PeerPattern] = []
  package var minimumVersion: TLSVersionBound = .tls12
  /// Plaintext is taken on the same port.
  package var permissive = false

  package init(certificate: CertificateSource?) { self.certificate = certificate }
}

/// How connections to a cluster are made in TLS.
package struct ClusterTLSConfiguration: Sendable, Equatable {
  /// The name asked for and checked; nil = the endpoint's own name, or its address.
  package var serverName: String? = nil
  package var trust: TrustSource = .system
  /// The client certificate; nil = none.
  package var certificate: CertificateSource? = nil
  /// Names of which the server's certificate must have one, in place of the endpoint's name; empty = that name.
  package var match: [PeerPattern] = []
  /// False: nothing about the server's certificate is checked.
  package var verify = true
  package init() {}
}
