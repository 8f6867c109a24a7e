import RegularExpressions
import Resilience
import Testing

@testable import Traffic

@Suite struct RouteActionTests {
  @Test func splitsByWeight() {
    let split = WeightedSplit([1, 0, 3])
    var random = SeededRandom(seed: 5)
    var counts = [0, 0, 0]
    for _ in 0..<4000 { counts[split.pick(&random)] += 1 }
    #expect((930...1070).contains(counts[0]))
    #expect(counts[1] == 0)
    #expect(counts.reduce(0, +) == 4000)
    #expect(WeightedSplit([0, 1]).pick(&random) == 1)
  }

  func rewritten(_ pattern: String, _ substitution: String, _ target: String) throws -> String? {
    let expression = try RegularExpression(pattern)
    let rewrite = RegexRewrite(expression, try Substitution(substitution, groups: expression.groups))
    let count = target.utf8.prefix { $0 != 0x3F }.count
    return Array(target.utf8).withUnsafeBytes {
      rewrite.apply($0, pathCount: count, RouteScratch(seed: 1)).map { String(decoding: $0, as: UTF8.self) }
    }
  }

  @Test func substitutesInThePath() throws {
    #expect(try rewritten("^/v1/(.*)$", "/api/\\1", "/v1/a?x=/v1/") == "/api/a?x=/v1/")
    #expect(try rewritten("/user/(\\d+)/(\\w+)", "/\\2/of/\\1", "/user/7/cart") == "/cart/of/7")
    #expect(try rewritten("o", "0", "/foo/boo?o") == "/f00/b00?o")
    #expect(try rewritten("none", "x", "/a?b") == "/a?b")
    #expect(try rewritten("^/a", "b", "/ac") == "/bc")
    #expect(try rewritten("^/", "", "/") == "/")
    #expect(try rewritten("x*", "-", "/ab") == "/-/-a-b-")
    #expect(try rewritten("(a)|b", "<\\1>\\\\\\0", "/ab") == "/<a>\\a<>\\b")
  }

  @Test func whatWouldCostTooMuchIsNotRewritten() throws {
    #expect(try rewritten("(a+)+\\d", "x", "/" + String(repeating: "a", count: 60)) == nil)
    #expect(try rewritten("a", "x", "/" + String(repeating: "a", count: 40)) == nil)
    #expect(try rewritten("a", String(repeating: "x", count: 2000), "/" + String(repeating: "a", count: 20)) == nil)
  }

  @Test(arguments: [
    ("/\\2", "there is no group 2; the expression has 1"), ("/\\", "it ends with `\\`"),
    ("/\\x", "behind `\\` stands neither a digit nor `\\`"), ("/a b", "it may hold no spaces"),
    ("/?a", "it may hold no"),
  ])
  func substitutionsThatCannotBe(text: String, reason: String) {
    #expect {
      try Substitution(text, groups: 1)
    } throws: {
      ($0 as? Substitution.Invalid)?.reason.hasPrefix(reason) == true
    }
  }

  func location(
    _ edits: RedirectEdits, _ authority: String, _ target: String, isSecure: Bool = false,
    _ path: RouteConfiguration.Match.Path = .any
  ) -> String? {
    Array(authority.utf8).withUnsafeBytes { authority in
      Array(target.utf8).withUnsafeBytes { target in
        CompiledRedirect(edits, path).location(
          isSecure: isSecure, authority: authority, target: target, pathCount: target.prefix { $0 != 0x3F }.count)
      }
    }.map { String(decoding: $0, as: UTF8.self) }
  }

  @Test func redirectsKeepWhatTheyDoNotChange() {
    let https = RedirectEdits(scheme: "https")
    #expect(location(https, "shop.test", "/a?b=c") == "https://shop.test/a?b=c")
    #expect(location(https, "shop.test:80", "/") == "https://shop.test/")
    #expect(location(https, "[::1]:8080", "/") == "https://[::1]:8080/")
    #expect(location(https, "", "/") == nil)
    let host = RedirectEdits(host: "new.test:8443")
    #expect(location(host, "old.test:81", "/a", isSecure: true) == "https://new.test:8443/a")
    #expect(location(host, "", "", isSecure: false) == "http://new.test:8443/")
    let prefix = RedirectEdits(prefix: "/v2/")
    #expect(location(prefix, "a:81", "/v1/x?q", .prefix("/v1/")) == "http://a:81/v2/x?q")
    #expect(location(prefix, "a", "/v1?q", .prefix("/v1/")) == "http://a/v2/?q")
    #expect(location(prefix, "a", "/old?q", .exact("/old")) == "http://a/v2/?q")
  }

  @Test func explainsEachRule() throws {
    let expression = try RegularExpression("/(a+)+\\d", .whole)
    let routes = [
      route { $0.host = "api.test" }, route { $0.path = .prefix("/api/") }, route { $0.path = .regex(expression) },
      route { $0.methods = ["POST", "PUT"] }, route { $0.headers = [.init("X-A", ValueMatch(.prefix("b")))] },
      route { $0.query = [.init("q", ValueMatch(.exact("1"), isNegated: true))] }, route { $0.fraction = 0.25 },
      route { _ in }, route { _ in },
    ]
    let asked = AskedRequest(
      "/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa?q=%31", authority: "shop.test:81", [.init("x-a", "c")])
    let rules = RouteTable(routes).explain(asked, routes)
    #expect(rules.map(\.index) == Array(0...7))
    let verdicts = rules.map(\.verdict)
    #expect(verdicts[0] == .misses(condition: "host", expected: "api.test", got: "shop.test"))
    #expect(verdicts[1] == .misses(condition: "path", expected: "/api/*", got: asked.path))
    #expect(
      verdicts[2]
        == .misses(
          condition: "regex", expected: "/(a+)+\\d", got: "beyond the limits of matching: \(asked.path)"))
    #expect(verdicts[3] == .misses(condition: "method", expected: "POST or PUT", got: "GET"))
    #expect(verdicts[4] == .misses(condition: "header X-A", expected: "prefix `b`", got: "`c`"))
    #expect(verdicts[5] == .misses(condition: "query q", expected: "not exact `1`", got: "`1`"))
    #expect(verdicts[6] == .sometimes(0.25))
    #expect(verdicts[7] == .matches)
  }
}
