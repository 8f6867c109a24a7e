import Logs
import Secrets
import Supervisor
import Testing
import Traffic
import Vocabulary

@testable import ConfigurationFile

@Suite struct TrafficDecodingTests {
  @Test func everythingOfAListener() throws {
    let value = try Workspace.value(
      """
      app: { port: 8080 }
      inbound:
        web:
          listen: [":8000", "unix:/run/web.sock"]
          protocol: http
          timeout: 0
          idle_timeout: 1m
          limits: { connections: 10 }
          access_log: { sample: 0.25 }
          headers: { request: { set: { X-A: "1" }, add: { X-B: b }, remove: [X-C] }, response: { remove: Server } }
          inject: { Authorization: "Bearer ${secrets.api.token}" }
          retries: { attempts: 3, on: [5xx], per_try_timeout: 2s, backoff: { base: 10ms } }
          routes:
            - { match: { host: API.example.com, path: "/api/*", method: get, headers: { X-V: "2" } }, to: backend, rewrite: { prefix: /v2/ } }
            - { name: old, match: { path: /old }, redirect: { to: /new, code: 308 } }
            - { match: { path: /ping, method: [GET, HEAD] }, respond: { status: 204 } }
      clusters:
        backend: { endpoints: ["10.0.0.1:80", { address: "b:81", weight: 3 }], balance: round_robin, pool: { idle: 2s, max_requests: 5 }, limits: { pending: 2 } }
      secrets: { stores: { env: {} } }
      """)
    let web = value.traffic.inbound[0]
    #expect(web.listen == [.tcp(host: "", port: 8000), .unix(path: "/run/web.sock")])
    #expect(web.listenerProtocol == .http)
    #expect(web.timeout == .zero)
    #expect(web.idleTimeout == .seconds(60))
    #expect(web.maxConnections == 10)
    #expect(web.accessLog == .sample(0.25))
    #expect(web.requestHeaders.set == [.init("X-A", "1")])
    #expect(web.requestHeaders.add == [.init("X-B", "b")])
    #expect(web.requestHeaders.remove == ["X-C"])
    #expect(web.responseHeaders.remove == ["Server"])
    #expect(web.inject[0].value.references == [SecretReference(name: "api", field: "token")])
    #expect(web.retries.attempts == 3)
    #expect(web.retries.conditions == [.connectFailure, .refusedStream, .resetBeforeRequest, .serverError])
    #expect(web.retries.perTryTimeout == .seconds(2))
    #expect(web.retries.backoffBase == .milliseconds(10))
    #expect(web.routes.map(\.name) == ["route-1", "old", "route-3", "default"])
    #expect(web.routes[0].match.host == "api.example.com")
    #expect(web.routes[0].match.path == .prefix("/api/"))
    #expect(web.routes[0].match.methods == ["GET"])
    #expect(web.routes[0].match.headers == [.init("X-V", "2")])
    #expect(web.routes[0].rewritePrefix == "/v2/")
    #expect(web.routes[1].action == .redirect(to: "/new", code: 308))
    #expect(web.routes[2].action == .respond(status: 204, body: "", headers: []))
    #expect(web.routes[3].action == .cluster("app"))
    let backend = value.traffic.clusters[0]
    #expect(
      backend.discovery
        == .fixed([
          EndpointConfiguration(address: .tcp(host: "10.0.0.1", port: 80)),
          EndpointConfiguration(address: .tcp(host: "b", port: 81), weight: 3),
        ]))
    #expect(backend.balance == .roundRobin)
    #expect(backend.poolIdle == .seconds(2))
    #expect(backend.maxRequestsPerConnection == 5)
    #expect(backend.maxPending == 2)
    #expect(backend.maxRequests == 1024)
  }

  @Test func whatIsPassedOnUnread() throws {
    let value = try Workspace.value(
      """
      inbound: { web: { listen: ":1", to: "unix:/run/app.sock", proxy_protocol: v2 } }
      outbound:
        db: { listen: ":2", to: "tcp://db:5432" }
        both: { listen: ":3", to: ["unix:/a", "unix:/b"], proxy_protocol: off }
        named: { listen: ":4", to: far }
      clusters: { far: { endpoints: ["unix:/far", { address: "unix:/other", weight: 2 }], proxy_protocol: v1 } }
      """)
    #expect(
      value.traffic.inbound[0].proxyProtocol == .v2 && value.traffic.outbound.allSatisfy { $0.proxyProtocol == nil })
    #expect(value.traffic.outbound.map(\.listenerProtocol) == [.tcp, .auto, .auto])
    func cluster(_ name: String) -> ClusterConfiguration? { value.traffic.clusters.first { $0.name == name } }
    #expect(cluster("web")?.discovery == .fixed([.init(address: .unix(path: "/run/app.sock"))]))
    #expect(
      cluster("both")?.discovery == .fixed([.init(address: .unix(path: "/a")), .init(address: .unix(path: "/b"))]))
    #expect(cluster("db")?.discovery == .dns(host: "db", port: 5432))
    #expect(cluster("far")?.proxyProtocol == .v1 && cluster("db")?.proxyProtocol == nil)
    #expect(
      cluster("far")?.discovery
        == .fixed([.init(address: .unix(path: "/far")), .init(address: .unix(path: "/other"), weight: 2)]))
  }

  @Test func whatIsSpokenToAClusterAndRetriedOfGRPC() throws {
    let value = try Workspace.value(
      """
      outbound:
        calls: { listen: ":1", to: a, retries: { attempts: 2, on: [unavailable, deadline-exceeded, cancelled, internal, resource-exhausted] } }
      clusters:
        a: { endpoints: ["h:1"], protocol: http2, pool: { idle: 1s } }
        b: { endpoints: ["h:1"], protocol: http1 }
        c: { endpoints: ["h:1"] }
      """)
    #expect(value.traffic.clusters.map(\.spoken) == [.http2, .http1, .auto])
    #expect(
      value.traffic.clusters[0].poolIdle == .seconds(1) && value.traffic.clusters[0].multiplexedIdle == .seconds(3600))
    let conditions = value.traffic.outbound[0].retries.conditions
    #expect(
      conditions.isSuperset(of: [.unavailable, .deadlineExceeded, .cancelled, .internalError, .resourceExhausted]))
  }

  @Test func forwardProxies() throws {
    let value = try Workspace.value(
      """
      app: { proxy_env: true }
      admin: { listen: "127.0.0.1:15001" }
      outbound:
        plain: { listen: ":1", to: "http://x" }
        egress: { listen: ["unix:/p", ":3128"], forward_proxy: true, routes: [{ match: { host: a.test }, to: "http://b" }] }
        narrow: { listen: ":3129", forward_proxy: { hosts: [api.test, "*.test", 10.0.0.0/8], ports: 443 } }
        off: { listen: ":3130", forward_proxy: false, to: "http://x" }
      """)
    #expect(
      value.app.proxy == "http://127.0.0.1:3128" && value.traffic.reserved == [.tcp(host: "127.0.0.1", port: 15001)])
    let listeners = value.traffic.outbound
    #expect(listeners[0].forwardProxy == nil && listeners[3].forwardProxy == nil)
    #expect(listeners[1].forwardProxy == DestinationPolicy() && listeners[1].routes.count == 1)
    #expect(listeners[2].forwardProxy?.ports == [443] && listeners[2].routes.isEmpty)
    #expect(listeners[2].forwardProxy?.hosts.first == .name("api.test") && listeners[2].forwardProxy?.hosts.count == 3)
  }

  @Test func transparentListeners() throws {
    let value = try Workspace.value(
      """
      app: { port: 8080 }
      inbound: { all: { listen: ":15006", transparent: true } }
      outbound: { all: { listen: ":15001", transparent: true, routes: [{ match: { host: a }, to: "http://b" }] } }
      """)
    let listeners = value.traffic.inbound + value.traffic.outbound
    #expect(listeners.allSatisfy(\.isTransparent) && listeners.map(\.routes.count) == [0, 1])
  }

  private func cluster(_ to: String) throws -> ClusterConfiguration? {
    try Workspace.value("outbound: { a: { listen: \":1\", to: \(to) } }").traffic.clusters.first
  }

  @Test func impliedClusters() throws {
    #expect(
      try cluster("\"http://10.0.0.1:81\"")?.discovery == .fixed([.init(address: .tcp(host: "10.0.0.1", port: 81))]))
    #expect(try cluster("\"http://[::1]:81/\"")?.hostHeader == "[::1]:81")
    #expect(try cluster("\"http://x:81\"")?.name == "a")
    #expect(
      try cluster("[\"http://x:81\", \"http://y\"]")?.discovery
        == .fixed([.init(address: .tcp(host: "x", port: 81)), .init(address: .tcp(host: "y", port: 80))]))
    let both = try Workspace.value(
      """
      inbound: { a: { listen: ":1", to: "http://x" } }
      outbound: { a: { listen: ":2", to: "http://y", routes: [{ match: { path: /z }, to: "http://z" }] } }
      """)
    #expect(both.traffic.clusters.map(\.name) == ["a", "a/route-1", "outbound.a"])
    #expect(both.traffic.outbound[0].routes.map(\.action) == [.cluster("a/route-1"), .cluster("outbound.a")])
  }

  @Test(arguments: [("0", 0, 3), ("1", 1, 5), ("{ attempts: 2 }", 2, 5), ("{ on: [] }", 1, 3)])
  func retries(text: String, attempts: Int, conditions: Int) throws {
    let value = try Workspace.value("outbound: { a: { listen: \":1\", to: \"http://x\", retries: \(text) } }")
    #expect(value.traffic.outbound[0].retries.attempts == attempts)
    #expect(value.traffic.outbound[0].retries.conditions.count == conditions)
  }

  @Test(arguments: [
    ("inbound: { a: { listen: \":1\" } }", "`app.port` is not set"),
    ("outbound: { a: { listen: \":1\" } }", "does not say where to"),
    ("outbound: { a: { to: \"http://x\" } }", "needs `listen`"),
    ("outbound: { a: { listen: \":1\", to: \"x:80\" } }", "did you mean `http://x:80`?"),
    ("outbound: { a: { listen: \":1\", to: \"http://x/y\" } }", "has a path"),
    ("outbound: { a: { listen: \":1\", to: \"http://x:0\" } }", "is not a URL"),
    (
      "outbound: { a: { listen: \":1\", to: \"http://x\" }, b: { listen: \"127.0.0.1:1\", to: \"http://x\" } }",
      "both listen on"
    ),
    ("outbound: { a: { listen: \":15000\", to: \"http://x\" } }", "`admin` and `outbound.a`"),
    ("app: { port: 80 }\ninbound: { a: { listen: \":80\" } }", "the app (`app.port`)"),
    ("outbound: { a: { listen: \":1\", to: pay } }\nclusters: { pays: { dns: \"a:1\" } }", "did you mean `pays`?"),
    ("clusters: { a: {} }", "needs one of `endpoints`, `dns`, `srv` and `file`"),
    ("clusters: { app: { dns: \"a:1\" } }", "is the app itself"),
    ("clusters: { a: { dns: \":1\" } }", "needs a name and a port"),
    ("app: { proxy_env: true }", "needs an outbound listener with `forward_proxy: true`"),
    ("outbound: { a: { listen: \":1\", forward_proxy: true, to: \"http://x\" } }", "cannot have `to`"),
    ("outbound: { a: { listen: \":1\", forward_proxy: true, protocol: tcp } }", "which speaks HTTP"),
    ("outbound: { a: { listen: \":1\", forward_proxy: { hosts: [\"a:1\"] } } }", "is not a host"),
    ("app: { port: 2 }\ninbound: { a: { listen: \":1\", forward_proxy: true } }", "unknown key `forward_proxy`"),
    ("outbound: { a: { listen: \":1\", transparent: true, proxy_protocol: v1 } }", "cannot be transparent"),
    ("outbound: { a: { listen: \":1\", transparent: true, forward_proxy: true } }", "cannot be transparent"),
    ("outbound: { a: { listen: \":1\", to: [\"unix:/a\", \"http://x\"] } }", "is not a Unix socket"),
    ("outbound: { a: { listen: \":1\", to: \"unix:a\" } }", "is not a Unix socket"),
    ("outbound: { a: { listen: \":1\", protocol: http, to: \"tcp://x:1\" } }", "cannot lead to `tcp://`"),
    ("outbound: { a: { listen: \":1\", to: \"http://x\", proxy_protocol: v3 } }", "`v3` is not allowed here"),
    ("outbound: { a: { listen: \":1\", protocol: tcp, to: \"tcp://x:1\", routes: [] } }", "cannot have routes"),
    (
      "outbound: { a: { listen: \":1\", routes: [{ match: { path: \"/a*b\" }, to: \"http://x\" }] } }",
      "`*` may only end a path"
    ),
    ("outbound: { a: { listen: \":1\", routes: [{ match: { path: /a } }] } }", "has no action"),
    (
      "outbound: { a: { listen: \":1\", to: \"http://x\", headers: { request: { set: { \"a b\": c } } } } }",
      "header field's name"
    ),
    (
      "outbound: { a: { listen: \":1\", to: \"http://x\", headers: { request: { set: { a: \"b\\nc\" } } } } }",
      "line break"
    ),
    ("outbound: { a: { listen: \":1\", to: \"http://x\", retries: { on: [6xx] } } }", "did you mean `5xx`?"),
    ("outbound: { a: { listen: \":1\", to: \"http://x\", timeout: \"${secrets.a.b}\" } }", "cannot hold a secret"),
    ("outbound: { a: { listen: \":1\", to: \"http://x\", inject: { A: \"${secrets.a.b}\" } } }", "is not declared"),
  ])
  func refusals(text: String, message: String) {
    let rendered = Workspace.problems(text)
    #expect(rendered.contains(message), "\(rendered)")
    #expect(rendered.split(separator: "\n").count { $0.contains(": error: ") } == 1, "\(rendered)")
  }

  @Test func accessRecordsByFormatAndWithFields() throws {
    let value = try Workspace.value(
      """
      inbound:
        a: { listen: ":80", to: "http://x", access_log: { sample: 0.5, format: "%RESPONSE_CODE% %REQ(X-A)%" } }
        b: { listen: ":81", to: "http://x", access_log: { format: json, fields: { agent: "%REQ(User-Agent):100%" } } }
        c: { listen: ":82", to: "http://x", access_log: false }
      """)
    let listeners = value.traffic.inbound
    #expect(listeners[0].accessLog == .sample(0.5))
    #expect(listeners[0].accessForm.line == (try AccessFormat("%RESPONSE_CODE% %REQ(X-A)%")))
    #expect(listeners[1].accessLog == .on && listeners[1].accessForm.line == nil)
    #expect(
      listeners[1].accessForm.fields == [.init(name: "agent", format: try AccessFormat("%REQ(User-Agent):100%"))])
    #expect(listeners[2].accessLog == .off)
  }

  @Test(arguments: [
    ("format: \"%RESPONSE_CODES%\"", "did you mean `%RESPONSE_CODE%`?"),
    ("format: \"%REQ(Authorization)%\"", "the field `Authorization` holds a secret, which no record may"),
    ("format: \"%REQ(X-Injected)%\"", "the field `X-Injected` holds a secret, which no record may"),
    ("fields: { a: \"%REQ(x-routed)%\" }", "the field `x-routed` holds a secret, which no record may"),
    ("fields: { status: \"%DURATION%\" }", "`status` is in every access record already"),
    ("format: \"%DURATION%\", fields: { a: \"%DURATION%\" }", "belongs to JSON records"),
    ("format: \"%DURATION\"", "has no closing `%`"), ("format: \"a\\nb\"", "is not one line of text"),
  ])
  func accessFormatsThatAreRefused(_ text: String, _ message: String) {
    let problems = Workspace.problems(
      """
      secrets: { stores: { e: { env: {} } }, values: { k: { key: K } } }
      inbound:
        a:
          listen: ":80"
          to: "http://x"
          inject: { X-Injected: "${secrets.k.value}" }
          routes: [{ match: { path: /a }, to: "http://x", inject: { X-Routed: "${secrets.k.value}" } }]
          access_log: { \(text) }
      """)
    #expect(problems.contains(message), "\(problems)")
    #expect(problems.contains("outrider.yaml:8:"), "\(problems)")
  }
}
