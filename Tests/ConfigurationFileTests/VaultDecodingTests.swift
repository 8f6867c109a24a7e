import Secrets
import Testing
import Vocabulary

@testable import ConfigurationFile

@Suite struct VaultDecodingTests {
  private func text(auth: String = "{ token_file: t }", more: String = "", values: String = "{ a: { kv: secret/a } }")
    -> String
  {
    "secrets: { stores: { vault: { address: \"https://v:8200\", auth: \(auth)\(more) } }, values: \(values) }"
  }

  private func vault(_ text: String) throws -> VaultConfiguration? {
    guard case .vault(let vault)? = try Workspace.value(text).secrets.stores.first?.kind else { return nil }
    return vault
  }

  @Test func waysToLogIn() throws {
    #expect(
      try vault(text(auth: "{ kubernetes: { role: app } }"))?.auth
        == .jwt(mount: "kubernetes", role: "app", file: "/var/run/secrets/kubernetes.io/serviceaccount/token"))
    #expect(
      try vault(text(auth: "{ jwt: { mount: oidc, role: app, jwt_file: /t } }"))?.auth
        == .jwt(mount: "oidc", role: "app", file: "/t"))
    let certificate = ", tls: { certificate: /c, key: /k }"
    #expect(
      try vault(text(auth: "{ cert: {} }", more: certificate))?.auth == .certificate(mount: "cert", name: nil))
    #expect(
      try vault(text(auth: "{ cert: { name: app } }", more: certificate))?.auth
        == .certificate(mount: "cert", name: "app"))
    for (wrapped, path) in [("true", nil), ("auth/approle/role/r/secret-id", "auth/approle/role/r/secret-id")] {
      let auth = "{ approle: { role_id: r, secret_id_file: /s, wrapped: \(wrapped) } }"
      #expect(
        try vault(text(auth: auth))?.auth
          == .wrappedApprole(mount: "approle", roleID: .literal("r"), wrapping: .file("/s"), creationPath: path))
    }
    #expect(
      try vault(text(auth: "{ approle: { role_id: r, secret_id_file: /s, wrapped: false } }"))?.auth
        == .approle(mount: "approle", roleID: .literal("r"), secretID: .file("/s")))
    #expect(try vault(text())?.revokesAtStop == true)
    #expect(try vault(text(more: ", revoke_at_stop: false"))?.revokesAtStop == false)
  }

  @Test func whatIsRead() throws {
    let values = try Workspace.value(
      text(
        values: "{ a: { database: team/db/creds/app, refresh: 5s }, b: { database_static: db/static-creds/app }, "
          + "c: { pki: pki/sign/web, common_name: c } }")
    ).secrets.values
    #expect(
      values.map(\.source)[..<2] == [.lease(path: "team/db/creds/app"), .staticRole(path: "db/static-creds/app")])
    #expect(values[0].refresh == .seconds(5))
    guard case .pki(let request) = values[2].source else {
      Issue.record("not a certificate")
      return
    }
    #expect(request.isLocal)
  }

  @Test(arguments: [
    ("{ a: { database: db/roles/app } }", "is not `MOUNT/creds/ROLE`"),
    ("{ a: { database: db/creds/ } }", "is not `MOUNT/creds/ROLE`"),
    ("{ a: { database: creds/app } }", "is not `MOUNT/creds/ROLE`"),
    ("{ a: { database_static: db/creds/app } }", "is not `MOUNT/static-creds/ROLE`"),
    ("{ a: { database: db/creds/app, kv: secret/a } }", "says twice what to read"),
    ("{ a: { database: db/creds/app, ttl: 1h } }", "is for `pki`"),
    ("{ a: { pki: pki/sign-verbatim/web, common_name: a } }", "or `MOUNT/sign/ROLE`"),
  ]) func values(_ values: String, _ message: String) {
    let rendered = Workspace.problems(text(values: values))
    #expect(rendered.contains(message), "\(rendered)")
    #expect(rendered.split(separator: "\n").count { $0.contains(": error: ") } == 1, "\(rendered)")
  }

  @Test(arguments: [
    ("{ jwt: { role: app } }", "jwt_file"), ("{ kubernetes: {} }", "role"),
    ("{ cert: {} }", "has no certificate"), ("{ cert: {}, token_file: t }", "names 2 ways to log in"),
    ("{ approle: { role_id: r, secret_id: s, wrapped: yes-please } }", "neither `true` nor a path"),
  ]) func logins(_ auth: String, _ message: String) {
    let rendered = Workspace.problems(text(auth: auth))
    #expect(rendered.contains(message), "\(rendered)")
    #expect(rendered.split(separator: "\n").count { $0.contains(": error: ") } == 1, "\(rendered)")
  }

  @Test func aDatabaseNeedsAVault() {
    let rendered = Workspace.problems("secrets: { stores: { env: {} }, values: { a: { database: db/creds/a } } }")
    #expect(rendered.contains("is for vault stores"), "\(rendered)")
  }
}
