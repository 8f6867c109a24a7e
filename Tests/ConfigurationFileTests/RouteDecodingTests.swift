import RegularExpressions
import Testing
import Traffic
import Vocabulary

@testable import ConfigurationFile

@Suite struct RouteDecodingTests {
  /// The routes of one outbound listener; `text` begins with `- `.
  func routes(_ text: String) throws -> ArraySlice<RouteConfiguration> {
    try Workspace.value(Self.file(text)).traffic.outbound[0].routes.dropLast()
  }

  static func file(_ routes: String) -> String {
    """
    outbound:
      web:
        listen: ":1"
        to: "http://a:1"
        routes:
          \(routes)
    """
  }

  @Test func everyWayToMatch() throws {
    let match = try routes(
      """
      - to: "http://b:2"
              match:
                regex: '/users/\\d+'
                headers: { X-A: a, X-B: { prefix: b, not: true }, X-C: { present: false }, X-D: { suffix: d } }
                query: { v: "2", w: { regex: "x|y" }, z: { contains: z }, u: { exact: "" , not: true } }
                fraction: 10%
      """)[0].match
    #expect(try match.path == .regex(RegularExpression("/users/\\d+", .whole)))
    #expect(
      match.headers == [
        .init("X-A", "a"), .init("X-B", ValueMatch(.prefix("b"), isNegated: true)),
        .init("X-C", ValueMatch(.present, isNegated: true)), .init("X-D", ValueMatch(.suffix("d"))),
      ])
    #expect(
      try match.query == [
        .init("v", "2"), .init("w", ValueMatch(.regex(RegularExpression("x|y", .whole)))),
        .init("z", ValueMatch(.contains("z"))), .init("u", ValueMatch(.exact(""), isNegated: true)),
      ])
    #expect(match.fraction == 0.1)
  }

  @Test func splitsRedirectsAndRewrites() throws {
    let value = try Workspace.value(
      """
      outbound:
        web:
          listen: ":1"
          to: "http://a:1"
          routes:
            - { name: halves, split: { stable: 95, "http://b:2": 5 } }
            - { match: { path: "/old/*" }, redirect: { scheme: https, host: "c:3", prefix: /new/, code: 308 } }
            - { to: stable, mirror: { to: ["http://m:1"], fraction: 5% } }
            - { split: { stable: 1 }, mirror: stable }
            - { rewrite: { regex: { pattern: '^/(\\w+)/', substitution: '/x/\\1/' } }, to: stable }
      clusters: { stable: { endpoints: ["s:1"] } }
      """)
    let routes = value.traffic.outbound[0].routes
    #expect(
      routes[0].action == .split([.init(cluster: "stable", weight: 95), .init(cluster: "web/halves/b:2", weight: 5)]))
    #expect(value.traffic.clusters.contains { $0.name == "web/halves/b:2" && $0.discovery == .dns(host: "b", port: 2) })
    #expect(
      routes[1].action == .redirectPart(RedirectEdits(scheme: "https", host: "c:3", prefix: "/new/"), code: 308))
    #expect(routes[2].mirror == MirrorConfiguration(cluster: "web/route-3/mirror", fraction: 0.05))
    #expect(routes[3].mirror == MirrorConfiguration(cluster: "stable"))
    let expression = try RegularExpression("^/(\\w+)/")
    #expect(try routes[4].rewriteRegex == RegexRewrite(expression, Substitution("/x/\\1/", groups: 1)))
  }

  @Test(arguments: [
    (
      "respond: { status: 200 }, mirror: \"http://b\"",
      "6:45: error: `outbound.web.routes[0].mirror` has nothing to copy: the route answers itself"
    ),
    (
      "to: \"http://b\", mirror: nowhere", "6:35: error: `outbound.web.routes[0].mirror`: there is no cluster `nowhere`"
    ),
    ("split: {}", "6:18: error: `outbound.web.routes[0].split` is empty"),
    ("split: { \"http://b:2\": 0 }", "6:18: error: every weight of `outbound.web.routes[0].split` is 0"),
    ("split: { nowhere: 1 }", "6:20: error: `outbound.web.routes[0].split.nowhere`: there is no cluster `nowhere`"),
    ("split: { \"http://b:2\": -1 }", "6:34: error: `outbound.web.routes[0].split.http://b:2`: `-1` is not a whole"),
    ("split: { \"http://b:2\": 1 }, to: \"http://c\"", "6:9: error: `outbound.web.routes[0]` has 2 actions"),
    ("redirect: { code: 301 }", "6:21: error: `outbound.web.routes[0].redirect` does not say where to"),
    ("redirect: { to: /a, host: b }", "6:37: error: `outbound.web.routes[0].redirect` has both `to` and `host`"),
    ("redirect: { host: a/b }", "6:29: error: `outbound.web.routes[0].redirect.host` is not a host"),
    (
      "match: { regex: a }, redirect: { prefix: /b }",
      "6:52: error: `outbound.web.routes[0].redirect.prefix` needs `match.path`"
    ),
    (
      "to: \"http://b\", rewrite: { regex: { pattern: a, substitution: '\\1' } }",
      "6:73: error: `outbound.web.routes[0].rewrite.regex.substitution` cannot be used: there is no group 1"
    ),
    (
      "to: \"http://b\", rewrite: { prefix: /a, regex: { pattern: a, substitution: b } }",
      "6:57: error: `outbound.web.routes[0].rewrite` has both `prefix` and `regex`"
    ),
  ])
  func mistakesInWhatToDo(route: String, expected: String) {
    let rendered = Workspace.problems(Self.file("- { \(route) }"))
    #expect(rendered.contains(expected), "\(rendered)")
    #expect(rendered.components("outrider.yaml:") == 2, "\(rendered)")
  }

  @Test func reportsWhereARequestGoes() throws {
    let traffic = try Workspace.value(
      """
      app: { port: 8000 }
      inbound: { web: { listen: ":8080" } }
      outbound:
        pay:
          listen: "127.0.0.1:9000"
          to: stable
          timeout: 2s
          routes:
            - { name: health, match: { path: /healthz }, respond: { status: 204 } }
            - { name: beta, match: { path: "/v2/*", fraction: 10% }, split: { stable: 3, next: 1 }, rewrite: { prefix: / } }
            - { name: tls, match: { headers: { X-Plain: { present: true } } }, redirect: { scheme: https } }
      clusters: { stable: { endpoints: ["10.0.0.1:80", "10.0.0.2:80"] }, next: { dns: "next:81" } }
      """
    ).traffic
    let report = try RouteReport(
      traffic, method: "GET", url: "http://pay.test:9000/v2/x?y=1", fields: [], listener: nil)
    #expect(
      report.text() == """
        GET /v2/x?y=1, host `pay.test`, on outbound.pay
          rule 1 `health` does not match: path is /v2/x, not /healthz
          rule 2 `beta` takes 10 % of such requests
          rule 3 `tls` does not match: header X-Plain is absent, not any value
          rule 4 `default` matches
        `beta`, 10 % of such requests:
          action: split
          targets: share 75 % cluster stable endpoints 10.0.0.1:80, 10.0.0.2:80 host each endpoint's own name, share 25 % \
        cluster next endpoints every address of next:81 host each endpoint's own name
          target: /x?y=1
          timeout: 2s
          retries: 1
          retry_on: connect-failure, refused-stream, reset-before-request
        `default`, 90 % of such requests:
          action: cluster
          cluster: stable
          endpoints: 10.0.0.1:80, 10.0.0.2:80
          host: each endpoint's own name
          target: /v2/x?y=1
          timeout: 2s
          retries: 1
          retry_on: connect-failure, refused-stream, reset-before-request

        """)
    let redirected = try RouteReport(
      traffic, method: "GET", url: "/a", fields: [.init("Host", "pay.test"), .init("x-plain", "")],
      listener: "outbound.pay")
    #expect(redirected.text().contains("  location: https://pay.test/a\n"))
    #expect(redirected.json().contains("\"location\": \"https://pay.test/a\""))
    #expect(redirected.json().contains("\"expected\": \"/healthz\""))
    for (url, listener) in [("http://a:7/", nil), ("ftp://a/", nil), ("/", "none"), ("/ä", "pay")]
      as [(String, String?)]
    {
      #expect(throws: RouteReport.Problem.self) {
        try RouteReport(traffic, method: "GET", url: url, fields: [], listener: listener)
      }
    }
  }

  @Test(arguments: [
    ("regex: '/a(b'", "6:32: error: `outbound.web.routes[0].match.regex` is not an expression: missing closing"),
    ("regex: /a(b", "6:31: error: `outbound.web.routes[0].match.regex` is not an expression: missing closing"),
    ("path: /a, regex: b", "6:37: error: `outbound.web.routes[0].match` has both `path` and `regex`"),
    ("path: /a*b", "6:26: error: `*` may only end a path, after `/`"),
    ("headers: { a b: c }", "6:31: error: `a b` is not a header field's name"),
    ("headers: { a: { exact: b, prefix: c } }", "6:34: error: `outbound.web.routes[0].match.headers.a` has 2 kinds"),
    ("query: { a: { not: true } }", "6:32: error: `outbound.web.routes[0].match.query.a` does not say what"),
    ("query: { a: { regx: b } }", "6:34: error: unknown key `regx` in `outbound.web.routes[0].match.query.a`"),
    ("query: { a: { present: maybe } }", "6:43: error: `outbound.web.routes[0].match.query.a.present`: `maybe`"),
    ("fraction: 101%", "6:30: error: `outbound.web.routes[0].match.fraction`: `101%` is not a fraction"),
  ])
  func mistakes(match: String, expected: String) {
    let rendered = Workspace.problems(Self.file("- { match: { \(match) }, to: \"http://b:2\" }"))
    #expect(rendered.contains(expected), "\(rendered)")
    #expect(rendered.components("outrider.yaml:") == 2, "\(rendered)")
  }
}

extension String {
  /// How many pieces the text falls into at that word.
  fileprivate func components(_ word: String) -> Int {
    var count = 1
    var rest = self[...]
    while let range = rest.firstRange(of: word) {
      count += 1
      rest = rest[range.upperBound...]
    }
    return count
  }
}
