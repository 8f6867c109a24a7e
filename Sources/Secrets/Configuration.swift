package import Vocabulary

/// Everything the secrets part is told: validated, defaults filled in.
package struct SecretsConfiguration: Sendable, Equatable {
  package var stores: [SecretStoreConfiguration] = []
  package var values: [SecretValueConfiguration] = []
  package var files: [SecretFileConfiguration] = []
  package var sharedMemory: SharedMemoryConfiguration? = nil
  package var socket: SecretSocketConfiguration? = nil
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
    /// The secret id is wrapped: the credential is a wrapping token, made at `creationPath`; nil = by any role of the mount.
    case wrappedApprole(mount: String, roleID: Credential, wrapping: Credential, creationPath: String?)
    /// `jwt` and `kubernetes`: a signed token from a file that is read at every login.
    case jwt(mount: String, role: String, file: String)
    /// The client certificate of `tls`; `name` = the role, nil = whichever fits.
    case certificate(mount: String, name: String?)
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
  /// Leases, and the token when it came from a login, are revoked at stop.
  package var revokesAtStop = true
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
    /// `MOUNT/creds/ROLE`: credentials of their own with a lease.
    case lease(path: String)
    /// `MOUNT/static-creds/ROLE`: credentials that the server rotates.
    case staticRole(path: String)
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

extension SecretValueConfiguration.Source {
  package var isLeased: Bool { if case .lease = self { true } else { false } }

  /// For people: what is asked of the store.
  package var summary: String {
    switch self {
    case .kv(let path): "kv \(path)"
    case .key(let key): "key \(key)"
    case .pki(let request): "pki \(request.path)"
    case .lease(let path): "database \(path)"
    case .staticRole(let path): "database_static \(path)"
    }
  }
}

/// What a PKI secret asks the server for. Empty lists leave it to the role.
package struct CertificateRequest: Sendable, Equatable {
  /// `MOUNT/issue/ROLE`, or `MOUNT/sign/ROLE` for a key that is made here and never leaves.
  package var path: String
  package var commonName: String
  /// DNS names and mail addresses.
  package var altNames: [String] = []
  package var ipSANs: [String] = []
  package var uriSANs: [String] = []
  /// nil = the role's.
  package var ttl: Duration? = nil
  /// The key is made here; the server sees a signing request only.
  package var isLocal: Bool { path.split(separator: "/").dropLast().last == "sign" }
  package init(path: String, commonName: String) {
    self.path = path
    self.commonName = commonName
  }
}

package enum ChangeAction: Sendable, Hashable {
  /// A signal's number, for the app's process group.
  case signal(Int32)
  case restart
  /// A program with its arguments, run by the sidecar; it must end with 0 within the time.
  case exec([String], timeout: Duration)
  /// A POST that must be answered with 2xx within the time.
  case http(String, timeout: Duration)
}

extension ChangeAction: CustomStringConvertible {
  /// For metrics.
  package var kind: String {
    switch self {
    case .signal: "signal"
    case .restart: "restart"
    case .exec: "exec"
    case .http: "http"
    }
  }

  /// Without arguments, and URLs without user and query: they may hold credentials.
  package var description: String {
    switch self {
    case .signal(let number): return "signal \(number)"
    case .restart: return "restart"
    case .exec(let command, _): return "exec \(command.first ?? "")"
    case .http(let url, _):
      var shown = url.prefix { $0 != "?" && $0 != "#" }
      if let scheme = shown.firstRange(of: "://") {
        let rest = shown[scheme.upperBound...]
        let host = rest.prefix { $0 != "/" }
        if let at = host.lastIndex(of: "@") { shown = shown[..<scheme.upperBound] + rest[rest.index(after: at)...] }
      }
      return "http \(shown)"
    }
  }
}

/// `secrets.shared_memory`: secrets in memory that the app maps.
package struct SharedMemoryConfiguration: Sendable, Equatable {
  /// Names of secrets.
  package var values: [String]
  /// A file, in /dev/shm or another tmpfs; nil = the inherited descriptor and the socket only.
  package var path: String? = nil
  /// The file's owner, a name or number: the app's user; nil = the sidecar's.
  package var owner: String? = nil
  package init(values: [String]) { self.values = values }
}

/// `secrets.socket`: an HTTP API on a Unix socket.
package struct SecretSocketConfiguration: Sendable, Equatable {
  package var path: String
  /// Users whose processes may ask, names or numbers, besides root and the sidecar's own.
  package var users: [String] = []
  package init(path: String) { self.path = path }
}

package struct SecretFileConfiguration: Sendable, Equatable {
  package var path: String
  /// Text with `${secrets.NAME.FIELD}` references.
  package var content: SecretTemplate
  /// A template with `{{ … }}` blocks, in place of `content`.
  package var blocks: SecretBlocks? = nil
  package var mode: UInt32 = 0o600
  /// A user name or number; nil = as is.
  package var owner: String? = nil
  package var group: String? = nil
  /// Files of the same set switch together; they are in one directory.
  package var set: String? = nil
  package var onChange: [ChangeAction] = []
  package init(path: String, content: SecretTemplate) {
    self.path = path
    self.content = content
  }
}
