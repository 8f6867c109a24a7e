package import Vocabulary

/// Replies of the Vault / OpenBao API, decoded. Source: the API's reference and recorded exchanges.
package enum VaultReply {
  /// The body of a success with its texts hidden, or the failure that a status and body stand for.
  package static func decode(status: Int, _ body: [UInt8]) throws(VaultFailure) -> JSONNode {
    if (200...299).contains(status) {
      if body.isEmpty { return .null }
      guard let node = try? JSONParser.parse(body, hides: true) else { throw .malformed("the reply is not JSON") }
      return node
    }
    let node = (try? JSONParser.parse(body)) ?? .null
    let errors = messages(node)
    switch status {
    case 403: throw .forbidden(errors)
    case 404:
      if let deleted = node["data"]?["metadata"]?["deletion_time"]?.string, !deleted.isEmpty {
        throw .deleted(at: String(deleted.prefix(40).filter { !$0.isNewline }))
      }
      if node["data"]?["metadata"]?["destroyed"]?.bool == true { throw .deleted(at: "unknown (destroyed)") }
      throw errors.isEmpty ? .absent : .refused(status: 404, errors)
    default: throw .refused(status: status, errors)
    }
  }

  private static func messages(_ node: JSONNode) -> String {
    guard case .array(let items)? = node["errors"] else { return "" }
    let text = items.compactMap(\.string).joined(separator: "; ")
    let line = text.split { $0.isNewline || $0 == "\t" }.joined(separator: " ")
    return String(line.prefix(300))
  }
}

/// Why a request brought nothing. The texts come from the server's `errors` and hold no values.
package enum VaultFailure: Error, Equatable, CustomStringConvertible {
  /// No connection, no reply in time, or a reply that broke off.
  case unreachable(String)
  case forbidden(String)
  case absent
  /// RFC 3339 time of the deletion.
  case deleted(at: String)
  case refused(status: Int, String)
  case malformed(String)
  /// A credential or token file that cannot be read.
  case credentials(String)
  /// A credential that somebody else has touched: a security event.
  case tampered(String)

  package var description: String {
    switch self {
    case .unreachable(let detail): detail
    case .forbidden(let errors): "403 \(errors.isEmpty ? "permission denied" : errors): check the policies of the token"
    case .absent: "404: there is no secret at this path (or the token may not see the mount)"
    case .deleted(let time): "the latest version was deleted at \(time): undelete it or write a new one"
    case .refused(503, let errors): "503 \(errors.isEmpty ? "the server is sealed or a standby" : errors)"
    case .refused(let status, let errors): errors.isEmpty ? "status \(status)" : "\(status) \(errors)"
    case .malformed(let detail), .credentials(let detail), .tampered(let detail): detail
    }
  }
}

/// A token from a login or a renewal.
package struct VaultToken: Equatable, Sendable, CustomStringConvertible {
  package var secret: SecretBytes
  /// Zero: it never ends.
  package var ttl: Duration
  package var renewable: Bool
  package var isBatch: Bool
  package var description: String { "<token, TTL \(ttl), renewable \(renewable), batch \(isBatch)>" }

  package init(secret: SecretBytes, ttl: Duration, renewable: Bool, isBatch: Bool) {
    self.secret = secret
    self.ttl = ttl
    self.renewable = renewable
    self.isBatch = isBatch
  }

  /// From the reply of `auth/<method>/login` or `auth/token/renew-self`.
  package init(login reply: JSONNode) throws(VaultFailure) {
    guard let auth = reply["auth"], let token = auth["client_token"], token.isText,
      let ttl = auth["lease_duration"]?.integer
    else { throw .malformed("the login reply has no `auth.client_token`") }
    self.init(
      secret: SecretBytes(token), ttl: VaultLease.duration(ttl), renewable: auth["renewable"]?.bool ?? false,
      isBatch: auth["token_type"]?.string == "batch")
  }

  /// From the reply of `auth/token/lookup-self`, for a token that was given.
  package init(_ token: SecretBytes, lookup reply: JSONNode) throws(VaultFailure) {
    guard let data = reply["data"], let ttl = data["ttl"]?.integer else {
      throw .malformed("the reply of lookup-self has no `data.ttl`")
    }
    self.init(
      secret: token, ttl: VaultLease.duration(ttl), renewable: data["renewable"]?.bool ?? false,
      isBatch: data["type"]?.string == "batch")
  }
}

/// A mount that holds a path, from `sys/internal/ui/mounts/<path>`.
package struct VaultMount: Equatable, Sendable {
  /// With a slash at the end.
  package var path: String
  package var isVersioned: Bool

  package init(preflight reply: JSONNode) throws(VaultFailure) {
    guard let data = reply["data"], let path = data["path"]?.string, let type = data["type"]?.string else {
      throw .malformed("the reply about the mount has no `data.path`")
    }
    guard type == "kv" || type == "generic" else {
      throw .malformed("the mount \(path) is of type `\(type)`, not kv")
    }
    self.path = path
    isVersioned = data["options"]?["version"]?.string == "2"
  }

  /// The API path to read a secret that users write as `MOUNT/PATH`.
  package func readPath(_ path: String) -> String {
    guard isVersioned, path.hasPrefix(self.path) else { return path }
    return "\(self.path)data/\(path.dropFirst(self.path.count))"
  }
}

/// One secret as read from KV.
package struct VaultSecret: Equatable, Sendable {
  package var fields: [String: SecretBytes]
  /// KV v2, and static roles: the time of the last rotation.
  package var version: String?
  /// Static roles only: until the server rotates the value.
  package var rotatesIn: Duration? = nil

  /// KV v1's `lease_duration` is not a lease and is ignored.
  package init(kv reply: JSONNode, versioned: Bool) throws(VaultFailure) {
    var data = reply["data"]
    if versioned {
      version = data?["metadata"]?["version"]?.integer.map(String.init)
      data = data?["data"]
    }
    guard case .object(let members)? = data else { throw .malformed("the reply has no `data` object") }
    fields = [:]
    for (key, value) in members where !value.isNull { fields[key] = SecretBytes(value) }
  }

  /// From the reply of `MOUNT/static-creds/ROLE`.
  package init(staticRole reply: JSONNode) throws(VaultFailure) {
    guard let data = reply["data"], let user = data["username"], let password = data["password"], user.isText,
      password.isText,
      let ttl = data["ttl"]?.integer
    else { throw .malformed("the reply has no `data` with `username`, `password` and `ttl`") }
    fields = ["username": SecretBytes(user), "password": SecretBytes(password)]
    version = data["last_vault_rotation"]?.string
    rotatesIn = VaultLease.duration(ttl)
  }
}

/// Credentials with a lease, from `MOUNT/creds/ROLE`.
package struct VaultLease: Equatable, Sendable, CustomStringConvertible {
  package var id: String
  package var ttl: Duration
  package var renewable: Bool
  /// Empty in the reply of a renewal.
  package var fields: [String: SecretBytes]
  package var description: String { "<lease \(id), TTL \(ttl), renewable \(renewable)>" }

  /// Seconds of a server, within what clocks can bear: 0 to a hundred years.
  fileprivate static func duration(_ seconds: Int64) -> Duration { .seconds(min(max(0, seconds), 3_155_760_000)) }

  /// Also from the reply of `sys/leases/renew`.
  package init(_ reply: JSONNode) throws(VaultFailure) {
    guard let id = reply["lease_id"]?.string, !id.isEmpty, let ttl = reply["lease_duration"]?.integer else {
      throw .malformed("the reply has no lease: only engines that lease credentials fit here, for example database")
    }
    self.id = id
    self.ttl = Self.duration(ttl)
    renewable = reply["renewable"]?.bool ?? false
    fields = [:]
    guard case .object(let members)? = reply["data"] else { return }
    for (key, value) in members where !value.isNull { fields[key] = SecretBytes(value) }
  }
}
