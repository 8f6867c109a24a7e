package import Vocabulary

/// Everything the secrets part is told: validated, defaults filled in.
package struct SecretsConfiguration: Sendable, Equatable {
  package var stores: [SecretStoreConfiguration] = []
  package var values: [SecretValueConfiguration] = []
  package var files: [SecretFileConfiguration] = []
  package init() {}
}

package struct SecretStoreConfiguration: Sendable, Equatable {
  package enum Kind: Sendable, Equatable {
    case vault(VaultConfiguration)
    /// An age-encrypted YAML, JSON or dotenv file and the identity that opens it.
    case age(file: String, identity: String)
    /// A directory of files, one a field or one directory a secret (mounted Kubernetes Secrets).
    case directory(String)
    case environment
  }
  package var name: String
  package var kind: Kind
  package init(name: String, kind: Kind) {
    self.name = name
    self.kind = kind
  }
}

package struct VaultConfiguration: Sendable, Equatable {
  package enum Auth: Sendable, Equatable {
    case tokenFile(String)
    case token(SecretTemplate)
    case approle(mount: String, roleID: Credential, secretID: Credential)
  }
  /// A credential given in the file or, better, in a file of its own that is read at every login.
  package enum Credential: Sendable, Equatable {
    case literal(String)
    case file(String)
  }
  /// `https://host:port`, no trailing slash.
  package var address: String
  package var namespace: String? = nil
  package var auth: Auth
  package var tls = ClientTLSConfiguration()
  package init(address: String, auth: Auth) {
    self.address = address
    self.auth = auth
  }
}

package struct SecretValueConfiguration: Sendable, Equatable {
  package enum Source: Sendable, Equatable {
    /// `MOUNT/PATH`, never with `data/`: the mount's version is asked of the server.
    case kv(path: String)
    /// A name in an age, file or env store.
    case key(String)
    /// A certificate that the server issues.
    case pki(CertificateRequest)
  }
  package var name: String
  package var store: String
  package var source: Source
  package var refresh: Duration = .seconds(30)
  package var required = true
  package var onChange: [ChangeAction] = []
  package init(name: String, store: String, source: Source) {
    self.name = name
    self.store = store
    self.source = source
  }
}

/// What a PKI secret asks the server for. Empty lists leave it to the role.
package struct CertificateRequest: Sendable, Equatable {
  /// `MOUNT/issue/ROLE`.
  package var path: String
  package var commonName: String
  /// DNS names and mail addresses.
  package var altNames: [String] = []
  package var ipSANs: [String] = []
  package var uriSANs: [String] = []
  /// nil = the role's.
  package var ttl: Duration? = nil
  package init(path: String, commonName: String) {
    self.path = path
    self.commonName = commonName
  }
}

package enum ChangeAction: Sendable, Hashable {
  /// A signal's number, for the app's process group.
  case signal(Int32)
  case restart
}

package struct SecretFileConfiguration: Sendable, Equatable {
  package var path: String
  /// Text with `${secrets.NAME.FIELD}` references.
  package var content: SecretTemplate
  package var mode: UInt32 = 0o600
  /// A user name or number; nil = as is.
  package var owner: String? = nil
  package var group: String? = nil
  package var onChange: [ChangeAction] = []
  package init(path: String, content: SecretTemplate) {
    self.path = path
    self.content = content
  }
}
