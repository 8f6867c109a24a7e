import NIOHTTP1
import Secrets
import Telemetry
import Testing
import Vocabulary

@testable import SecretAgent

@Suite(.serialized) struct CertificateIssuingTests {
  /// A root at `pki` with the role `web`, and a token that may issue and nothing else.
  private func prepare(_ bao: Bao) async throws {
    try await bao.post("sys/mounts/pki", #"{"type":"pki"}"#)
    try await bao.post("pki/root/generate/internal", #"{"common_name":"lab root","ttl":"700h","key_type":"ec"}"#)
    try await bao.post(
      "pki/roles/web",
      #"{"allow_any_name":true,"enforce_hostnames":false,"allowed_uri_sans":"spiffe://*","key_type":"ec","max_ttl":"72h"}"#
    )
    try await bao.makeRole(ttl: "1h")
    try await bao.post(
      "sys/policies/acl/app", #"{"policy":"path \"pki/issue/*\" {capabilities=[\"create\",\"update\"]}"}"#)
  }

  private func configuration(_ bao: Bao, _ edit: (inout CertificateRequest) -> Void) -> SecretsConfiguration {
    var request = CertificateRequest(path: "pki/issue/web", commonName: "web.lab")
    edit(&request)
    var configuration = bao.configuration([:])
    configuration.values = [SecretValueConfiguration(name: "web", store: "vault", source: .pki(request))]
    return configuration
  }

  private func issued(_ bao: Bao) async throws -> Int {
    let list = try await bao.client.request(HTTPMethod(rawValue: "LIST"), "pki/certs", token: bao.root)
    guard case .array(let keys)? = list["data"]?["keys"] else { return 0 }
    return keys.count
  }

  @Test func oneSetWithEverythingAskedForAndNothingMoreIsIssued() async throws {
    guard let bao = try await Bao.start() else { return }
    try await prepare(bao)
    let before = try await issued(bao)
    let agent = makeAgent(
      configuration(bao) { request in
        request.altNames = ["a.lab"]
        request.ipSANs = ["127.0.0.1"]
        request.uriSANs = ["spiffe://lab/web"]
        request.ttl = .seconds(3600)
      }, bao.folder)
    try await agent.start()
    let fields = try #require(agent.book.fields("web"))
    #expect(fields.keys.sorted() == ["ca_chain", "certificate", "issuing_ca", "private_key"])
    try bao.folder.write("leaf.pem", String(decoding: try #require(fields["certificate"]).copy(), as: UTF8.self))
    try run(
      "/usr/bin/env", ["openssl", "x509", "-in", "\(bao.folder.path)/leaf.pem", "-noout", "-text"],
      output: "\(bao.folder.path)/text")
    let text = try #require(bao.folder.read("text"))
    for wanted in ["CN = web.lab", "DNS:a.lab", "IP Address:127.0.0.1", "URI:spiffe://lab/web"] {
      #expect(text.contains(wanted), "\(wanted)")
    }
    let status = try #require(agent.status().first)
    #expect(status.version == agent.book.version("web") && (3500...3600).contains(status.ttl ?? 0))

    // Neither a poll of everything nor a new login issues another one.
    agent.refreshNow()
    let accessors = try await bao.client.request(HTTPMethod(rawValue: "LIST"), "auth/token/accessors", token: bao.root)
    if case .array(let items)? = accessors["data"]?["keys"] {
      for item in items.compactMap(\.string) {
        let found = try? await bao.post("auth/token/lookup-accessor", "{\"accessor\":\"\(item)\"}")
        guard found?["data"]?["path"]?.string == "auth/approle/login" else { continue }
        try await bao.post("auth/token/revoke-accessor", "{\"accessor\":\"\(item)\"}")
      }
    }
    #expect(try await issued(bao) == before + 1)
    #expect(agent.book.version("web") == status.version)
    await agent.stop()
    await bao.stop()
  }

  @Test func renewedInTimeAndKeptThroughAnOutage() async throws {
    guard let bao = try await Bao.start() else { return }
    try await prepare(bao)
    let log = LogLines()
    let agent = makeAgent(configuration(bao) { $0.ttl = .seconds(3) }, bao.folder, log: log)
    try await agent.start()
    let first = try #require(agent.book.fields("web"))
    #expect(await eventually { agent.book.fields("web") != first }, "issued anew at 2/3 of 3 s")
    let second = try #require(agent.book.fields("web"))
    #expect(second["private_key"] != first["private_key"], "key and certificate change together")
    try await bao.post("pki/roles/web", "{}", .DELETE)
    #expect(await eventually { agent.status().first?.lastError != nil })
    let last = agent.book.fields("web")
    #expect(last != nil && log.text.contains("the last certificate stays in use, valid until 20"))
    #expect(!log.text.contains("BEGIN"))
    try await bao.post(
      "pki/roles/web", #"{"allow_any_name":true,"enforce_hostnames":false,"key_type":"ec","max_ttl":"72h"}"#)
    #expect(await eventually { agent.status().first?.lastError == nil && agent.book.fields("web") != last })
    await agent.stop()
    await bao.stop()
  }
}
