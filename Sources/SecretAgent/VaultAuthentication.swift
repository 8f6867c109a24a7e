import NIOHTTP1
import Secrets
import Vocabulary

/// Secret ids that were unwrapped, kept for workers to come: nobody can unwrap them again.
package struct KeptLogins: Sendable {
  /// By the name of the store.
  package var known: @Sendable (String) -> [UInt8]?
  package var keep: @Sendable (String, [UInt8]) -> Void

  package init(
    known: @escaping @Sendable (String) -> [UInt8]?, keep: @escaping @Sendable (String, [UInt8]) -> Void
  ) {
    self.known = known
    self.keep = keep
  }
}

/// The ways to log in. Credential files are read at every login and never deleted.
extension VaultStore {
  func authenticate() async throws(VaultFailure) -> VaultToken {
    switch configuration.auth {
    case .tokenFile(let path): return try await lookUp(try credential(.file(path)))
    case .token(let template):
      guard let bytes = book.resolve(template) else {
        throw .credentials(book.reason(template) ?? "the token's secret is not there")
      }
      return try await lookUp(String(decoding: bytes, as: UTF8.self))
    case .approle(let mount, let roleID, let secretID):
      return try await login(
        mount, [("role_id", try credential(roleID)), ("secret_id", try credential(secretID))])
    case .wrappedApprole(let mount, let roleID, let wrapping, let path):
      let role = try credential(roleID)
      let secret = try await unwrap(SecretBytes(try credential(wrapping)), mount, path)
      return try await login(
        mount, [("role_id", role), ("secret_id", String(decoding: secret.copy(), as: UTF8.self))])
    case .jwt(let mount, let role, let file):
      return try await login(mount, [("role", role), ("jwt", try credential(.file(file)))])
    case .certificate(let mount, let name): return try await login(mount, name.map { [("name", $0)] } ?? [])
    }
  }

  private func login(_ mount: String, _ members: [(key: String, value: String)]) async throws(VaultFailure)
    -> VaultToken
  {
    let body = JSONNode.object(members.map { ($0.key, .string($0.value)) }).json
    return try VaultToken(login: await client.request(.POST, "auth/\(mount)/login", body: Array(body.utf8)))
  }

  private func lookUp(_ text: String) async throws(VaultFailure) -> VaultToken {
    let token = SecretBytes(text)
    return try VaultToken(token, lookup: await client.request(.GET, "auth/token/lookup-self", token: token))
  }

  /// The secret id behind a wrapping token: unwrapped once and kept for later logins, until the file holds another one.
  /// What was not wrapped where it should have been, or was opened by somebody else, is not used.
  private func unwrap(
    _ wrapping: SecretBytes, _ mount: String, _ expected: String?
  ) async throws(VaultFailure) -> SecretBytes {
    if unwrapped == nil { unwrapped = logins?.known(name).flatMap(Self.unwrapped) }
    if let unwrapped, unwrapped.wrapping == wrapping { return unwrapped.secretID }
    let place: JSONNode
    do throws(VaultFailure) {
      place = try await client.request(.GET, "sys/wrapping/lookup", token: wrapping)
    } catch {
      throw Self.spent(error)
    }
    let path = place["data"]?["creation_path"]?.string ?? ""
    guard WrappingPath.fits(path, mount: mount, expected: expected) else {
      throw .tampered(
        "the wrapping token was made at `\(path.prefix(200))`, not at `\(WrappingPath.wanted(mount, expected))`: it may "
          + "be a forgery and was not opened; have a new secret id wrapped, and find out who put this one there")
    }
    let reply: JSONNode
    do throws(VaultFailure) {
      reply = try await client.request(.POST, "sys/wrapping/unwrap", token: wrapping, body: Array("{}".utf8))
    } catch {
      throw Self.spent(error)
    }
    guard let secret = reply["data"]?["secret_id"], secret.isText else {
      throw .tampered("what was wrapped is no secret id; have a new one wrapped")
    }
    let bytes = SecretBytes(secret)
    unwrapped = (wrapping, bytes)
    logins?.keep(name, wrapping.copy() + [0x0A] + bytes.copy())
    return bytes
  }

  /// What was kept: the wrapping token, a line feed and the secret id.
  private static func unwrapped(_ kept: [UInt8]) -> (wrapping: SecretBytes, secretID: SecretBytes)? {
    guard let end = kept.firstIndex(of: 0x0A) else { return nil }
    return (SecretBytes(kept[..<end]), SecretBytes(kept[(end + 1)...]))
  }

  private static func spent(_ failure: VaultFailure) -> VaultFailure {
    switch failure {
    case .refused(400, _), .forbidden, .absent:
      .tampered(
        "the wrapping token is not valid (any more): it ended, or somebody else has opened it and has the secret id; "
          + "revoke that secret id and have a new one wrapped")
    default: failure
    }
  }

  /// Spaces around the credential do not count.
  private func credential(_ credential: VaultConfiguration.Credential) throws(VaultFailure) -> String {
    switch credential {
    case .literal(let text): return text
    case .file(let path):
      do throws(FileFailure) {
        let words = String(decoding: try PlainFile.read(absolute(path)), as: UTF8.self).split { $0.isWhitespace }
        guard words.count == 1 else {
          throw FileFailure("\(path) must hold one credential and nothing else")
        }
        return String(words[0])
      } catch {
        throw .credentials(error.description)
      }
    }
  }
}
