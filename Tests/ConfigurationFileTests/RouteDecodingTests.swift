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
