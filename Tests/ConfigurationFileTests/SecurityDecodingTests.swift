import Testing
import Traffic
import Vocabulary

@testable import ConfigurationFile

@Suite struct SecurityDecodingTests {
  private static let full = """
    app: { port: 1 }
    inbound:
      web:
        listen: ":2"
        tls: { certificate: c.pem, key: k.pem, client_ca: ca.pem }
        limits: { connections: 9, rate: { requests: 50, per: 1m, burst: 5 } }
        fault: { delay: { duration: 20ms, fraction: 10% }, abort: { status: 503, fraction: 0.5 } }
        authorize:
          rbac:
            allow:
              - { principals: ["spiffe://shop/ns/*/sa/*", dns:cart.shop], methods: [get, POST] }
              - { sources: 10.0.0.0/8, paths: [/api/*, /health], headers: { X-Team: a }, jwt: { role: [a, b], level: 3 } }
            deny: [{ paths: /admin/* }]
          jwt:
            issuer: https://issuer
            audiences: shop
            jwks: { file: keys.json }
            from: [{ header: X-Token }, { cookie: session }]
            forward: true
            claims_to_headers: { sub: X-User }
            required: false
            leeway: 5s
            algorithms: [ES256]
          external:
            url: http://auth:9000
            path_prefix: /check/
            timeout: 1s
            headers: [Cookie]
            allowed_headers: X-Who
            fail: open
        routes:
          - match: { path: /slow/* }
            to: app
            limits: { rate: [{ requests: 1 }, { requests: 2, by: source }, { requests: 3, by: { header: X-Key } }, { requests: 4, by: path }] }
            authorize: { rbac: { allow: [] } }
      api: { listen: ":3", authorize: { jwt: { issuer: i, jwks: { url: "https://i/keys?x=1", ca: ca.pem } } } }

    """

  @Test func everythingThatCanBeWritten() throws {
    let workspace = Workspace()
    workspace.write("outrider.yaml", Self.full)
    let loaded = try ConfigurationLoader.load(workspace.input())
    let web = loaded.value.traffic.inbound[0]
    let security = web.security
    #expect(web.maxConnections == 9)
    #expect(security.rates == [RateLimitConfiguration(requests: 50, period: .seconds(60), burst: 5)])
    #expect(security.fault?.delay == .init(duration: .milliseconds(20), fraction: 0.1))
    #expect(security.fault?.abort == .init(status: 503, fraction: 0.5))
    let rules = try #require(security.rules)
    let allow = try #require(rules.allow)
    #expect(allow[0].principals.map(\.description) == ["spiffe://shop/ns/*/sa/*", "dns:cart.shop"])
    #expect(allow[0].methods == ["GET", "POST"])
    #expect(
      allow[1].sources.map(\.description) == ["10.0.0.0/8"] && allow[1].paths == [.prefix("/api/"), .exact("/health")])
    #expect(allow[1].headers == [.init("X-Team", "a")])
    #expect(allow[1].claims == [.init("role", ["a", "b"]), .init("level", ["3"])])
    #expect(rules.deny[0].paths == [.prefix("/admin/")])
    let jwt = try #require(security.jwt)
    #expect(
      jwt.issuer == "https://issuer" && jwt.audiences == ["shop"] && jwt.keys == .file(workspace.path + "/keys.json"))
    #expect(jwt.places == [.header("x-token"), .cookie("session")] && jwt.forwards && !jwt.required)
    #expect(jwt.claimHeaders == [.init(claim: "sub", header: "X-User")] && jwt.leeway == .seconds(5))
    #expect(jwt.algorithms == [.es256])
    let external = try #require(security.external)
    #expect(external.url == "http://auth:9000" && external.pathPrefix == "/check" && external.timeout == .seconds(1))
    #expect(external.headers == ["cookie"] && external.allowedHeaders == ["X-Who"] && external.failsOpen)
    let route = web.routes[0].security
    #expect(
      route.rates.map(\.key) == [.all, .source, .header("x-key"), .path] && route.rates.map(\.burst) == [1, 2, 3, 4])
    #expect(route.rules?.allow?.isEmpty == true && web.routes[1].security.isEmpty)

    let plain = try #require(loaded.value.traffic.inbound[1].security.jwt)
    #expect(plain.keys == .url("https://i/keys?x=1", refresh: .seconds(300), authorities: workspace.path + "/ca.pem"))
    #expect(
      plain.places == [.header("authorization")] && !plain.forwards && plain.required && plain.leeway == .seconds(60))
    #expect(plain.algorithms == Set(JWTAlgorithm.allCases))

    // What is explained loads as the same.
    workspace.write("again.yaml", loaded.explain(json: false))
    var input = workspace.input()
    input.path = workspace.path + "/again.yaml"
    #expect(try ConfigurationLoader.load(input).value.traffic == loaded.value.traffic)
  }

  @Test(arguments: [
    ("rbac: {}", "has no rule"),
    ("rbac: { allow: [{}] }", "a rule without a condition"),
    ("rbac: { deny: [{ methods: [] }] }", "is empty"),
    ("rbac: { deny: [{ principals: [cart] }] }", "`cart` is not a principal"),
    ("rbac: { deny: [{ principals: [\"spiffe://a/b\"] }] }", "its clients show no certificates"),
    ("rbac: { deny: [{ sources: [10.0.0.0/99] }] }", "`10.0.0.0/99` is not an address"),
    ("rbac: { deny: [{ paths: [/a/../b] }] }", "write `/b`"),
    ("rbac: { deny: [{ paths: [/a%2fb] }] }", "normal form"),
    ("rbac: { deny: [{ paths: [/*/b] }] }", "`*` may only end a path"),
    ("rbac: { deny: [{ jwt: { sub: a } }] }", "no token is verified"),
    ("rbac: { deny: [{ path: /a }] }", "did you mean `paths`?"),
    ("jwt: { issuer: i }", "needs `jwks`"),
    ("jwt: { jwks: { file: f } }", "needs `issuer`"),
    ("jwt: { issuer: i, jwks: {} }", "needs either `file` or `url`"),
    ("jwt: { issuer: i, jwks: { file: f, url: \"http://a\" } }", "needs either `file` or `url`"),
    ("jwt: { issuer: i, jwks: { file: f }, algorithms: [HS256] }", "`HS256` is not allowed here"),
    ("jwt: { issuer: i, jwks: { file: f }, algorithms: [] }", "is empty"),
    ("jwt: { issuer: i, jwks: { file: f }, from: [{ query: t }] }", "add `forward: true`"),
    ("jwt: { issuer: i, jwks: { file: f }, from: [{ query: t, cookie: u }], forward: true }", "several places"),
    ("jwt: { issuer: i, jwks: { file: f }, claims_to_headers: { sub: Host } }", "the proxy's own field"),
    ("external: { url: \"http://a\", ca: ca.pem }", "is not `https`"),
    ("external: { url: \"http://a/b\" }", "write it as `path_prefix`"),
    ("external: { url: \"http://a\", fail: maybe }", "`maybe` is not allowed here"),
  ])
  func whatCannotBeMeantIsRefused(text: String, expected: String) {
    let rendered = Workspace.problems(
      "app: { port: 1 }\ninbound: { web: { listen: \":2\", authorize: { \(text) } } }\n")
    #expect(rendered.contains(expected), "\(text): \(rendered)")
  }

  /// What is left empty must not open anything.
  @Test(arguments: [
    "authorize: {}", "authorize:", "authorize: { rbac: }",
    "authorize: { rbac: { allow: [{ paths: , methods: [GET] }] } }",
    "authorize: { rbac: { allow: [~] } }", "authorize: { rbac: { deny: [{ headers: }] } }", "authorize: { jwt: }",
    "authorize: { jwt: { issuer: i, jwks: } }", "authorize: { jwt: { issuer: , jwks: { file: f } } }",
    "authorize: { jwt: { issuer: i, jwks: { file: f }, audiences: } }", "authorize: { external: }",
    "limits: { rate: [] }",
    "limits: { rate: }", "limits: { rate: { requests: 1, by: } }", "fault:",
  ])
  func emptyIsNotOpen(text: String) {
    let rendered = Workspace.problems("app: { port: 1 }\ninbound: { web: { listen: \":2\", \(text) } }\n")
    #expect(rendered.contains(": error: "), "\(text) is taken")
  }

  @Test func anAllowWithoutAValueDeniesEverything() throws {
    let text =
      "app: { port: 1 }\ninbound: { web: { listen: \":2\", authorize: { rbac: { allow: , deny: [{ methods: PUT }] } } } }\n"
    #expect(try Workspace.value(text).traffic.inbound[0].security.rules?.allow == [])
  }

  @Test func limitsFaultsAndStreams() {
    func problems(_ listener: String) -> String {
      Workspace.problems("app: { port: 1 }\ninbound: { web: { listen: \":2\", \(listener) } }\n")
    }
    #expect(problems("limits: { rate: { per: 1s } }").contains("needs `requests`"))
    #expect(problems("limits: { rate: { requests: 0 } }").contains("not a whole number"))
    #expect(problems("limits: { rate: { requests: 1, by: cookie } }").contains("`cookie` is not allowed here"))
    #expect(problems("fault: {}").contains("makes no failure"))
    #expect(problems("fault: { abort: { status: 503, fraction: 110% } }").contains("is not a fraction"))
    #expect(problems("fault: { delay: { fraction: 0.1 } }").contains("needs `duration`"))
    let stream =
      "protocol: tcp, authorize: { rbac: { allow: [{ sources: [10.0.0.0/8] }] } }, limits: { rate: { requests: 1, by: source } }"
    #expect(problems(stream) == "")
    #expect(
      problems("protocol: tcp, authorize: { rbac: { deny: [{ methods: [GET] }] } }").contains("passes octets unread"))
    #expect(problems("protocol: tcp, fault: { abort: { status: 500 } }").contains("passes octets unread"))
    #expect(problems("protocol: tcp, limits: { rate: { requests: 1, by: path } }").contains("passes octets unread"))
    // A token's field may not be recorded.
    let recorded = "access_log: { fields: { t: \"%REQ(X-TOKEN)%\" } }"
    let token = "authorize: { jwt: { issuer: i, jwks: { file: f }, from: [{ header: X-Token }] } }"
    #expect(problems(recorded) == "" && problems("\(recorded), \(token)").contains("holds a secret"))
    // A route may look at the claims of its listener's token.
    let route =
      "authorize: { jwt: { issuer: i, jwks: { file: f } } }, routes: [{ to: app, authorize: { rbac: { allow: [{ jwt: { a: b } }] } } }]"
    #expect(problems(route) == "")
  }
}
