import Testing
import Vocabulary

@testable import Secrets

struct VaultReplyTests {
  /// A recorded exchange: its status and body; nil where the recordings are not there.
  private func recorded(_ name: String) throws -> (Int, [UInt8])? {
    let bytes = Vectors.read(Vectors.folder + "/vault/\(name).json")
    guard !bytes.isEmpty else {
      print("skipped: no recording \(name) in \(Vectors.folder)/vault")
      return nil
    }
    let node = try JSONParser.parse(bytes)
    return (Int(try #require(node["status"]?.integer)), Array(try #require(node["body"]).json.utf8))
  }

  private func failure(_ name: String) throws -> VaultFailure? {
    guard let (status, body) = try recorded(name) else { return nil }
    return #expect(throws: VaultFailure.self) { try VaultReply.decode(status: status, body) }
  }

  @Test func loginsAndRenewals() throws {
    for name in ["01-approle-login", "07-renew-self"] {
      guard let (status, body) = try recorded(name) else { return }
      let token = try VaultToken(login: try VaultReply.decode(status: status, body))
      #expect(token.ttl == .seconds(3600) && token.renewable && !token.isBatch && token.secret.count > 10)
      #expect(!"\(token)".contains("s."))
    }
    guard let (status, body) = try recorded("06-lookup-self") else { return }
    let token = try VaultToken(SecretBytes("t"), lookup: try VaultReply.decode(status: status, body))
    #expect(token.ttl == .seconds(3599) && token.renewable)
  }

  @Test func secretsOfBothVersions() throws {
    guard let two = try recorded("09-kv2-read"), let one = try recorded("18-kv1-read") else { return }
    let versioned = try VaultSecret(kv: VaultReply.decode(status: two.0, two.1), versioned: true)
    #expect(versioned.version == "14" && versioned.fields["username"] == SecretBytes("app"))
    let plain = try VaultSecret(kv: VaultReply.decode(status: one.0, one.1), versioned: false)
    #expect(plain.version == nil && plain.fields["password"] == SecretBytes("v1pass"))
  }

  @Test func mountsTellTheirVersion() throws {
    guard let two = try recorded("16-mount-preflight"), let one = try recorded("17-mount-preflight-kv1") else { return }
    let versioned = try VaultMount(preflight: VaultReply.decode(status: two.0, two.1))
    #expect(versioned.readPath("secret/app/config") == "secret/data/app/config")
    let plain = try VaultMount(preflight: VaultReply.decode(status: one.0, one.1))
    #expect(plain.readPath("kv1/app") == "kv1/app")
  }

  @Test func failuresAreToldApart() throws {
    guard let deleted = try failure("14-kv2-deleted") else { return }
    guard case .deleted = deleted else {
      Issue.record("\(deleted)")
      return
    }
    #expect(try failure("13-kv2-absent") == .absent)
    #expect(try failure("15-kv2-forbidden") == .forbidden("1 error occurred: * permission denied"))
    #expect(try failure("02-approle-login-bad") == .refused(status: 400, "invalid role or secret ID"))
    #expect(throws: VaultFailure.self) { try VaultReply.decode(status: 200, Array("<html>".utf8)) }
  }
}
