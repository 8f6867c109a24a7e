import Testing
import Traffic
import Vocabulary

@Suite struct RBACPolicyTests {
  private static func rule(
    principals: [String] = [], sources: [String] = [], paths: [String] = [], methods: [String] = [],
    headers: [(String, String)] = [], claims: [(String, [String])] = []
  ) -> RBACConfiguration.Rule {
    var rule = RBACConfiguration.Rule()
    rule.principals = principals.compactMap { PrincipalPattern($0) }
    rule.sources = sources.compactMap { AddressRange($0) }
    rule.paths = paths.map { $0.hasSuffix("/*") ? .prefix(String($0.dropLast())) : .exact($0) }
    rule.methods = methods
    rule.headers = headers.map { HeaderEdits.Field($0.0, $0.1) }
    rule.claims = claims.map { RBACConfiguration.Rule.Claim($0.0, $0.1) }
    return rule
  }

  private static func policy(allow: [RBACConfiguration.Rule]? = nil, deny: [RBACConfiguration.Rule] = []) -> RBACPolicy
  {
    var configuration = RBACConfiguration()
    configuration.allow = allow
    configuration.deny = deny
    return RBACPolicy(configuration)
  }

  private func isAllowed(
    _ policy: RBACPolicy, names: PeerNames? = nil, source: String? = "10.0.0.1", _ path: String = "/",
    method: String = "GET",
    fields: [(String, String)] = [], claims: String? = nil
  ) throws -> Bool {
    let claims = try claims.map { try JSONParser.parse(Array($0.utf8)) }
    let verdict = Array(method.utf8).withUnsafeBytes { method in
      let values = fields.map { ($0.0, Array($0.1.utf8)) }
      return withExtendedLifetime(values) {
        let subject = SecuritySubject(
          names: names, source: source.flatMap { IPAddress($0) }, method: method, path: NormalPath(path), claims: claims
        )
        return policy.decide(subject) { name in
          values.filter { $0.0.utf8.elementsEqual(name) }.map { value in
            // Lives as long as the test: a copy is handed out.
            let copy = UnsafeMutableRawBufferPointer.allocate(byteCount: max(1, value.1.count), alignment: 1)
            copy.copyBytes(from: value.1)
            return UnsafeRawBufferPointer(rebasing: copy[..<value.1.count])
          }
        }
      }
    }
    return verdict == .allowed
  }

  @Test func denyWinsOverAllow() throws {
    let policy = Self.policy(
      allow: [Self.rule(sources: ["10.0.0.0/8"])], deny: [Self.rule(paths: ["/admin/*"], methods: ["POST"])])
    #expect(try isAllowed(policy, "/x"))
    #expect(try isAllowed(policy, "/admin/x"))
    #expect(try !isAllowed(policy, "/admin/x", method: "POST"))
    #expect(try !isAllowed(policy, "/admin", method: "POST"))
    #expect(try isAllowed(policy, "/administrator", method: "POST"))
    #expect(try !isAllowed(policy, source: "11.0.0.1", "/x"))
    #expect(try !isAllowed(policy, source: nil, "/x"))
  }

  @Test func anEmptyAllowDeniesAllAndNoAllowDeniesNothing() throws {
    #expect(try !isAllowed(Self.policy(allow: [])))
    #expect(try isAllowed(Self.policy(deny: [Self.rule(methods: ["PUT"])])))
  }

  @Test func noSpellingLeadsAroundAPathRule() throws {
    let policy = Self.policy(deny: [Self.rule(paths: ["/admin/*"])])
    for path in [
      "/admin", "/admin/", "/admin/x", "//admin/x", "/%61dmin/x", "/x/../admin/x", "/x/%2e%2e/admin", "/admin%2fx",
      "/admin;a/x",
      "/x/..;/admin", "/x/..%2fadmin", "/x\\..\\admin", "/%2561dmin/x", "/../admin", "/admin%00",
    ] { #expect(try !isAllowed(policy, path), "\(path)") }
    #expect(try isAllowed(policy, "/public/admin"))
    let allow = Self.policy(allow: [Self.rule(paths: ["/public/*"])])
    for path in ["/public/../admin", "/public/..%2fadmin", "/public/%2e%2e/admin", "/public/..;/admin", "/publicx"] {
      #expect(try !isAllowed(allow, path), "\(path)")
    }
    #expect(try isAllowed(allow, "/public") && isAllowed(allow, "/public/a//b"))
  }

  @Test func whoShowsNoCertificateIsNobody() throws {
    let policy = Self.policy(allow: [Self.rule(principals: ["spiffe://shop/ns/*/sa/*", "dns:cart.shop"])])
    #expect(try !isAllowed(policy))
    #expect(try isAllowed(policy, names: PeerNames(uris: ["spiffe://shop/ns/a/sa/b"])))
    #expect(try isAllowed(policy, names: PeerNames(uris: ["spiffe://shop/ns/a/sa/b/c"])))
    #expect(try !isAllowed(policy, names: PeerNames(uris: ["spiffe://shop/ns/a/b/sa/c"])))
    #expect(try !isAllowed(policy, names: PeerNames(uris: ["spiffe://shop/ns/a/sa/"])))
    #expect(try !isAllowed(policy, names: PeerNames(uris: ["spiffe://shop/ns//sa/b"])))
    #expect(try !isAllowed(policy, names: PeerNames(uris: ["spiffe://other/ns/a/sa/b"])))
    #expect(try !isAllowed(policy, names: PeerNames(uris: ["spiffe://shop/ns/a/sa/b", "spiffe://shop/x"])))
    #expect(try isAllowed(policy, names: PeerNames(dns: ["Cart.shop."])))
    #expect(try !isAllowed(policy, names: PeerNames(dns: ["*.shop"])))
    let anybody = Self.policy(allow: [Self.rule(principals: ["*"])])
    #expect(try isAllowed(anybody, names: PeerNames(dns: ["x"])) && !isAllowed(anybody, names: PeerNames()))
  }

  @Test func aSecondFieldOpensNothing() throws {
    let allow = Self.policy(allow: [Self.rule(headers: [("x-team", "a")])])
    #expect(try isAllowed(allow, fields: [("x-team", "a")]))
    #expect(try !isAllowed(allow, fields: [("x-team", "a"), ("x-team", "b")]))
    #expect(try !isAllowed(allow))
    let deny = Self.policy(deny: [Self.rule(headers: [("x-team", "a")])])
    #expect(try !isAllowed(deny, fields: [("x-team", "b"), ("x-team", "a")]))
    #expect(try isAllowed(deny, fields: [("x-team", "b")]))
    let any = Self.policy(allow: [Self.rule(headers: [("x-team", "*")])])
    #expect(try isAllowed(any, fields: [("x-team", "whatever")]) && !isAllowed(any))
  }

  @Test func claimsAreComparedByTheirTexts() throws {
    let policy = Self.policy(allow: [Self.rule(claims: [("realm.roles", ["admin", "ops"])])])
    #expect(try isAllowed(policy, claims: #"{"realm":{"roles":["dev","ops"]}}"#))
    #expect(try isAllowed(policy, claims: #"{"realm.roles":"admin"}"#))
    #expect(try !isAllowed(policy, claims: #"{"realm":{"roles":["dev"]}}"#))
    #expect(try !isAllowed(policy, claims: #"{"realm":{"roles":{"admin":true}}}"#))
    #expect(try !isAllowed(policy))
    let scope = Self.policy(allow: [Self.rule(claims: [("scope", ["write"])])])
    #expect(
      try isAllowed(scope, claims: #"{"scope":"read write"}"#) && !isAllowed(scope, claims: #"{"scope":"rewrite"}"#))
    let level = Self.policy(allow: [Self.rule(claims: [("level", ["3"])])])
    #expect(try isAllowed(level, claims: #"{"level":3}"#) && !isAllowed(level, claims: #"{"level":null}"#))
  }

  @Test func theConnectionAloneDecidesWhereItCan() throws {
    let policy = Self.policy(
      allow: [Self.rule(sources: ["10.0.0.0/8"], paths: ["/a"])],
      deny: [Self.rule(sources: ["10.6.6.6"]), Self.rule(methods: ["PUT"])])
    #expect(policy.decide(names: nil, source: IPAddress("10.0.0.1")) == nil)
    #expect(policy.decide(names: nil, source: IPAddress("10.6.6.6")) == .denied("a rule of `deny` matches"))
    #expect(policy.decide(names: nil, source: IPAddress("11.0.0.1")) == .denied("no rule of `allow` matches"))
    let plain = Self.policy(allow: [Self.rule(sources: ["10.0.0.0/8"])])
    #expect(plain.decide(names: nil, source: IPAddress("10.0.0.1")) == .allowed && !plain.needsHTTP)
  }

  @Test func principalsAreWrittenInOneWay() {
    for text in ["spiffe://a/b", "spiffe://a/*/c", "spiffe://a/ns/*/sa/*", "dns:x", "dns:*.x", "*"] {
      #expect(PrincipalPattern(text)?.description == text)
    }
    for text in ["", "spiffe://", "spiffe://*/a", "spiffe://a/b*c/d", "spiffe://a//*/b", "http://x", "dns:", "a"] {
      #expect(PrincipalPattern(text) == nil, "\(text)")
    }
  }
}
