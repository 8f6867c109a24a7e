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

  @Test func leasesAndStaticRoles() throws {
    guard let fetched = try recorded("20-db-creds"), let renewed = try recorded("21-lease-renew"),
      let rotated = try recorded("25-db-static")
    else { return }
    let lease = try VaultLease(VaultReply.decode(status: fetched.0, fetched.1))
    #expect(lease.id.hasPrefix("database/creds/dyn/") && lease.ttl == .seconds(20) && lease.renewable)
    #expect(lease.fields.keys.sorted() == ["password", "username"])
    let again = try VaultLease(VaultReply.decode(status: renewed.0, renewed.1))
    #expect(again.id == lease.id && again.fields.isEmpty)
    let role = try VaultSecret(staticRole: VaultReply.decode(status: rotated.0, rotated.1))
    #expect(role.rotatesIn == .seconds(2) && role.version?.hasPrefix("2026-") == true && role.fields.count == 2)
    #expect(try failure("24-lease-renew-gone") == .refused(status: 400, "lease not found"))
    guard let secret = try recorded("09-kv2-read") else { return }
    #expect(throws: VaultFailure.self) { try VaultLease(VaultReply.decode(status: secret.0, secret.1)) }
  }

  @Test func wrappedSecretIDsComeFromTheRightPlace() throws {
    guard let (status, body) = try recorded("30-wrapping-lookup-GET") else { return }
    let path = try VaultReply.decode(status: status, body)["data"]?["creation_path"]?.string ?? ""
    #expect(WrappingPath.fits(path, mount: "approle", expected: nil))
    #expect(WrappingPath.fits(path, mount: "approle", expected: "auth/approle/role/app/secret-id"))
    #expect(!WrappingPath.fits(path, mount: "approle", expected: "auth/approle/role/other/secret-id"))
    #expect(!WrappingPath.fits(path, mount: "other", expected: nil))
    #expect(WrappingPath.fits("auth/a/b/role/r/secret-id", mount: "a/b", expected: nil))
    for path in [
      "", "sys/wrapping/wrap", "auth/approle/role//secret-id", "auth/approle/role/a/b/secret-id",
      "auth/approle/role/a/secret-id/", "auth/approle/role/a/custom-secret-id", "cubbyhole/response",
    ] { #expect(!WrappingPath.fits(path, mount: "approle", expected: nil), "\(path)") }
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
