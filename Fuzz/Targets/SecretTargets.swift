import Secrets
import Vocabulary

/// What stores of secrets answer.
enum SecretTargets {
  /// A success or a failure with one line for people; lives are within what clocks can bear.
  static func vaultReply(_ input: UnsafeRawBufferPointer) -> String? {
    let body = Array(input)
    for status in [200, 204, 400, 403, 404, 503] {
      do throws(VaultFailure) {
        let reply = try VaultReply.decode(status: status, body)
        if let complaint = check(reply) { return complaint }
      } catch {
        if error.description.contains("\n") { return "a failure has more than one line" }
      }
    }
    return nil
  }

  private static func check(_ reply: JSONNode) -> String? {
    let most = Duration.seconds(3_155_760_000)
    if let lease = try? VaultLease(reply) {
      if lease.ttl < .zero || lease.ttl > most { return "a lease of \(lease.ttl)" }
      if lease.id.isEmpty { return "a lease without a name" }
    }
    if let token = try? VaultToken(login: reply), token.ttl < .zero || token.ttl > most {
      return "a token of \(token.ttl)"
    }
    if let role = try? VaultSecret(staticRole: reply), let wait = role.rotatesIn, wait < .zero || wait > most {
      return "a rotation in \(wait)"
    }
    if let certificate = try? VaultCertificate(issue: reply), certificate.expires < 0 { return "an end before 1970" }
    _ = try? VaultSecret(kv: reply, versioned: true)
    _ = try? VaultMount(preflight: reply)
    return nil
  }
}
