import Secrets
import Testing
import Traffic

@testable import ConfigurationFile

@Suite struct TLSDecodingTests {
  private static let vault = """
    secrets:
      stores: { vault: { address: "http://v", auth: { token_file: t } } }
      values:
        web: { pki: pki/issue/web, common_name: web.shop, alt_names: a.shop, ip_sans: [10.0.0.1, "::1"], uri_sans: ["spiffe://shop/web"], ttl: 1h }
        kv: { kv: secret/tls }

    """

  @Test func listenersAndClusters() throws {
    let workspace = Workspace()
    workspace.write(
      "outrider.yaml",
      Self.vault + """
        app: { port: 8080 }
        inbound:
          short: { listen: ":1", tls: { certificate: web.pem, key: /k.pem } }
          pki: { listen: ":2", tls: { from: secrets.web, client_certificate: optional } }
          full:
            listen: ":3"
            tls:
              from: secrets.kv
              client_ca: secrets.web
              match: ["spiffe://shop/*", dns:cart.shop]
              min_version: 1.3
              permissive: true
              sni: { API.shop: { from: secrets.web }, "*.eu.shop": { certificate: eu.pem, key: eu.pem } }
        outbound:
          url: { listen: "127.0.0.1:4", to: "https://pay.shop" }
          urls: { listen: "127.0.0.1:5", to: ["https://10.0.0.1", "https://10.0.0.2:8443"] }
          plain: { listen: "127.0.0.1:6", to: "http://pay.shop" }
        clusters:
          yes: { endpoints: ["a:1"], tls: true }
          no: { endpoints: ["a:1"], tls: false }
          full: { endpoints: ["10.0.0.1:1"], tls: { sni: a.shop, ca: ca.pem, from: secrets.web, match: dns:a.shop } }
          lax: { endpoints: ["a:1"], tls: { certificate: c.pem, key: c.key, verify: false } }
        """)
    let value = try ConfigurationLoader.load(workspace.input()).value
    let listeners = value.traffic.inbound.map(\.tls)
    var short = ListenerTLSConfiguration(
      certificate: .files(certificate: workspace.path + "/web.pem", key: "/k.pem"))
    #expect(listeners[0] == short)
    short.certificate = .secret("web")
    short.clientCA = .secret("web")
    short.clientCertificate = .optional
    #expect(listeners[1] == short)
    let full = try #require(listeners[2])
    #expect(full.certificate == .secret("kv") && full.clientCA == .secret("web") && full.clientCertificate == .required)
    #expect(full.match == [.spiffePrefix("spiffe://shop/"), .dns("cart.shop")])
    #expect(full.minimumVersion == .tls13 && full.permissive)
    let eu = workspace.path + "/eu.pem"
    #expect(
      full.hosts == [
        .init(pattern: "api.shop", certificate: .secret("web")),
        .init(pattern: "*.eu.shop", certificate: .files(certificate: eu, key: eu)),
      ])

    let clusters = value.traffic.clusters
    func tls(_ name: String) -> ClusterTLSConfiguration? { clusters.first { $0.name == name }?.tls }
    #expect(tls("yes") == ClusterTLSConfiguration() && tls("no") == nil && tls("plain") == nil)
    #expect(tls("url") == ClusterTLSConfiguration() && tls("urls") == ClusterTLSConfiguration())
    #expect(clusters.first { $0.name == "url" }?.discovery == .dns(host: "pay.shop", port: 443))
    #expect(clusters.first { $0.name == "url" }?.hostHeader == "pay.shop")
    let strict = try #require(tls("full"))
    #expect(strict.serverName == "a.shop" && strict.trust == .file(workspace.path + "/ca.pem"))
    #expect(strict.certificate == .secret("web") && strict.match == [.dns("a.shop")] && strict.verify)
    #expect(tls("lax")?.verify == false && tls("lax")?.certificate != nil)

    guard case .pki(let request) = value.secrets.values[0].source else {
      Issue.record("not pki")
      return
    }
    #expect(request.path == "pki/issue/web" && request.commonName == "web.shop" && request.altNames == ["a.shop"])
    #expect(request.ipSANs == ["10.0.0.1", "::1"] && request.uriSANs == ["spiffe://shop/web"])
    #expect(request.ttl == .seconds(3600))
  }

  private static func listener(_ tls: String) -> String {
    "app: { port: 8080 }\ninbound: { web: { listen: \":1\", tls: \(tls) } }\n" + vault
  }

  private static func cluster(_ tls: String) -> String {
    "clusters: { a: { endpoints: [\"a:1\"], tls: \(tls) } }\n" + vault
  }

  private static func secret(_ value: String) -> String {
    "secrets: { stores: { vault: { address: \"http://v\", auth: { token_file: t } } }, values: { a: \(value) } }"
  }

  @Test(arguments: [
    (listener("{}"), "has no certificate"),
    (listener("{ certificate: a.pem }"), "has no `key`"),
    (listener("{ key: a.pem }"), "has no `certificate`"),
    (listener("{ from: secrets.web, key: a }"), "has both `from` and files"),
    (listener("{ from: web }"), "write `secrets.NAME`"),
    (listener("{ from: secrets.web.certificate }"), "without a field"),
    (listener("{ from: secrets.wep }"), "did you mean `web`?"),
    (listener("{ from: secrets.web, match: \"dns:a\" }"), "none is asked for"),
    (listener("{ from: secrets.web, client_ca: a, client_certificate: none }"), "none is asked for"),
    (listener("{ from: secrets.kv, client_certificate: required }"), "does not say who signs them"),
    (listener("{ from: secrets.web, client_ca: secrets.nix }"), "the secret `nix` is not declared"),
    (listener("{ from: secrets.web, client_ca: a, match: cart }"), "is not a peer's name"),
    (listener("{ from: secrets.web, min_version: \"1.1\" }"), "allowed: `1.2`, `1.3`"),
    (listener("{ sni: { \"a/b\": { from: secrets.web } } }"), "is not a host"),
    (listener("{ sni: { a: { from: secrets.web, permissive: true } } }"), "unknown key `permissive`"),
    (listener("{ from: secrets.web, sni: { a: {} } }"), "has no certificate"),
    (cluster("maybe"), "neither `true` nor `false`"),
    (cluster("{ sni: \"10.0.0.1\" }"), "is not a host name"),
    (cluster("{ verify: false, match: \"dns:a\" }"), "has no effect"),
    (cluster("{ from: secrets.nix }"), "the secret `nix` is not declared"),
    (cluster("{ ca: \"\" }"), "a path is missing"),
    (
      "secrets: { stores: { env: {} }, values: { a: {} } }\nclusters: { a: { endpoints: [\"a:1\"], tls: { from: secrets.a } } }",
      "is one value of the environment"
    ),
    ("outbound: { a: { listen: \":1\", to: [\"https://a\", \"http://b\"] } }", "mixes `https` with other URLs"),
    (secret("{ pki: pki/web, common_name: a }"), "is not `MOUNT/issue/ROLE`"),
    (secret("{ pki: pki/roles/web, common_name: a }"), "is not `MOUNT/issue/ROLE`"),
    (secret("{ pki: pki/issue/web }"), "has no `common_name`"),
    (secret("{ pki: pki/issue/web, common_name: a, kv: a/b }"), "says twice what to read"),
    (secret("{ pki: pki/issue/web, common_name: a, ip_sans: a.shop }"), "is not an IP address"),
    (secret("{ pki: pki/issue/web, common_name: a, alt_names: \"a,b\" }"), "holds a comma"),
    (secret("{ kv: a/b, common_name: a }"), "is for `pki`"),
    ("secrets: { stores: { env: {} }, values: { a: { pki: a/issue/b } } }", "is for vault stores"),
  ])
  func refusals(text: String, message: String) {
    let rendered = Workspace.problems(text)
    #expect(rendered.contains(message), "\(rendered)")
    #expect(rendered.split(separator: "\n").count { $0.contains(": error: ") } == 1, "\(rendered)")
  }
}
