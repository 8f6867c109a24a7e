import Glibc
import HTTP2
import NIOCore
import Synchronization
import Telemetry
import Testing
import Traffic
import Vocabulary

@testable import TrafficProxy

/// Tokens and their keys, on real sockets.
@Suite(.timeLimit(.minutes(2))) struct TokenGateTests {
  private static func harness(
    _ upstream: Int, _ jwt: JWTConfiguration, _ edit: (inout ListenerConfiguration) -> Void = { _ in }
  ) async throws -> Harness {
    try await Harness(to: [upstream]) { listener, _, _ in
      listener.security.jwt = jwt
      edit(&listener)
    }
  }

  @Test func onlyGoodTokensPass() async throws {
    let (issuer, stranger, file) = (Issuer(), Issuer(), KeyFile())
    try file.write(Issuer.keySet([issuer]))
    let upstream = Upstream.answering()
    var jwt = JWTConfiguration.of(.file(file.path))
    jwt.audiences = ["shop"]
    jwt.claimHeaders = [.init(claim: "sub", header: "X-User")]
    let harness = try await Self.harness(upstream.port, jwt)
    let good = try issuer.token("\"sub\":\"ann\",\"aud\":\"shop\"")
    #expect(harness.ask("/a", "Authorization: Bearer \(good)\r\nX-User: root\r\nx_user: admin\r\n").status == 200)
    let passed = try #require(upstream.requests.last)
    #expect(passed.contains("X-User: ann\r\n") && !passed.contains("root") && !passed.contains("admin"))
    // It has done its work, and does not go on.
    #expect(!passed.lowercased().contains("authorization"))

    let missing = harness.ask("/b", "X-User: root\r\n")
    #expect(missing.status == 401 && missing.head.contains("WWW-Authenticate: Bearer\r\n"))
    #expect(
      missing.head.contains("HTTP/1.1 401 Unauthorized") && missing.body.contains("\"reason\":\"unauthenticated\""))
    let cases: [(String, Int, String)] = [
      (try issuer.token("\"aud\":\"shop\"", age: 7200), 401, "has expired"),
      (try issuer.token("\"aud\":\"cart\""), 403, "another audience"),
      (try issuer.token("\"aud\":\"shop\"", issuer: "https://other"), 401, "another issuer"),
      (try stranger.token("\"aud\":\"shop\""), 401, "signature is not valid"),
      (good.dropLast(4) + "AAAA", 401, "signature is not valid"),
      ("nonsense", 401, "no signed JWT"),
    ]
    for (token, status, expected) in cases {
      let reply = harness.ask("/c", token: String(token))
      #expect(reply.status == status && reply.body.contains(expected), "\(reply)")
      if status == 401 { #expect(reply.head.contains("error=\"invalid_token\"")) }
      #expect(!reply.head.contains(token) && !reply.body.contains(token))
    }
    #expect(upstream.requests.count == 1)
    let records = await harness.records.lines(8)
    #expect(records.filter { $0.contains("\"flags\":\"UAEX\",\"blame\":\"client\"") }.count == 7)
    #expect(!records.joined().contains(good))
    let counter = "outrider_authorization_total{direction=\"outbound\",listener=\"web\",filter=\"jwt\",result="
    #expect(harness.metric(counter + "\"allowed\"}") == 1 && harness.metric(counter + "\"denied\"}") == 7)
    #expect(harness.metric("outrider_jwks_keys{jwks=\"\(file.path)\"}") == 1)

    let client = HTTP2Peer.client(harness.port)
    let call = "content-type: application/grpc\r\nte: trailers\r\n"
    let refused = try #require(client.message(of: try client.ask("POST", "/a.B/C", call, body: "x")))
    #expect(refused.message.head.contains("grpc-status: 16"))
    let fine = try #require(client.message(of: try client.ask("GET", "/h2", "authorization: Bearer \(good)\r\n")))
    #expect(fine.message.head.hasPrefix("HTTP/1.1 200"))
    client.wire.close()
    await harness.stop()
    upstream.stop()
  }

  @Test func rulesLookAtClaims() async throws {
    let (issuer, file) = (Issuer(), KeyFile())
    try file.write(Issuer.keySet([issuer]))
    let upstream = Upstream.answering()
    let harness = try await Self.harness(upstream.port, .of(.file(file.path))) { listener in
      var route = RouteConfiguration(action: .cluster("up"))
      route.name = "admin"
      route.match.path = .prefix("/admin/")
      var rule = RBACConfiguration.Rule()
      rule.claims = [.init("roles", ["admin"])]
      route.security.rules = RBACConfiguration()
      route.security.rules?.allow = [rule]
      listener.routes.insert(route, at: 0)
    }
    let (user, admin) = (try issuer.token("\"roles\":[\"user\"]"), try issuer.token("\"roles\":[\"user\",\"admin\"]"))
    #expect(harness.ask("/", token: user).status == 200 && harness.ask("/admin/", token: user).status == 403)
    #expect(harness.ask("/%61dmin/", token: user).status == 403 && harness.ask("/admin/", token: admin).status == 200)
    await harness.stop()
    upstream.stop()
  }

  @Test func optionalTokensAndOtherPlaces() async throws {
    let (issuer, file) = (Issuer(), KeyFile())
    try file.write(Issuer.keySet([issuer]))
    let upstream = Upstream.answering()
    var jwt = JWTConfiguration.of(.file(file.path))
    jwt.required = false
    jwt.forwards = true
    jwt.places = [.header("x-token"), .query("t"), .cookie("session")]
    let harness = try await Self.harness(upstream.port, jwt)
    let token = try issuer.token()
    #expect(harness.ask("/").status == 200)
    #expect(harness.ask("/", "X-Token: \(token)\r\n").status == 200)
    #expect(upstream.requests.last?.contains("X-Token: \(token)\r\n") == true)
    #expect(harness.ask("/?a=1&t=\(token)").status == 200)
    #expect(harness.ask("/", "Cookie: a=b; session=\(token)\r\n").status == 200)
    // What is there and not good never passes.
    #expect(harness.ask("/", "X-Token: x\r\n").status == 401 && harness.ask("/?t=x").status == 401)
    #expect(harness.ask("/?t=\(token)&t=\(token)").status == 401)
    let records = await harness.records.lines(7)
    #expect(
      records.count == 7 && !records.joined().contains(token) && records.allSatisfy { $0.contains("\"path\":\"/\"") })
    await harness.stop()
    upstream.stop()
  }

  @Test func withoutKeysNothingPassesAndANewFileHeals() async throws {
    let (old, new, file) = (Issuer("old"), Issuer("new"), KeyFile())
    let upstream = Upstream.answering()
    let harness = try await Self.harness(upstream.port, .of(.file(file.path)))
    let closed = harness.ask("/", token: try old.token())
    #expect(closed.status == 503 && closed.body.contains("\"reason\":\"keys_unavailable\",\"blame\":\"config\""))
    try file.write(Issuer.keySet([old]))
    let oldToken = try old.token()
    let newToken = try new.token()
    #expect(await eventually { harness.ask("/", token: oldToken).status == 200 })
    #expect(harness.ask("/", token: newToken).status == 401)
    // A broken file changes nothing.
    try file.write("{")
    let failures = "outrider_jwks_failures_total{jwks=\"\(file.path)\"}"
    #expect(await eventually { harness.metric(failures) == 2 })
    #expect(harness.ask("/", token: oldToken).status == 200)
    // A key that is taken away is gone for tokens that were verified before, too.
    try file.write(Issuer.keySet([new]))
    #expect(await eventually { harness.ask("/", token: newToken).status == 200 })
    #expect(harness.ask("/", token: oldToken).status == 401)
    await harness.stop()
    upstream.stop()
  }

  /// A new key is taken over without a lost request: the first token that is signed with it waits for the fetch.
  @Test func unknownKeysAreFetchedAtOnceAndThenAtMostEachThirtySeconds() async throws {
    let (first, second, stranger) = (Issuer("first"), Issuer("second"), Issuer("stranger"))
    let published = Mutex(Issuer.keySet([first]))
    let keys = Upstream { wire, _, upstream in
      while upstream.request(wire) != nil {
        let text = published.withLock { $0 }
        wire.send("HTTP/1.1 200 OK\r\nContent-Length: \(text.utf8.count)\r\n\r\n\(text)")
      }
    }
    let upstream = Upstream.answering()
    let source = JWTConfiguration.Keys.url("http://127.0.0.1:\(keys.port)/keys", refresh: .seconds(3600))
    let harness = try await Self.harness(upstream.port, .of(source))
    let firstToken = try first.token()
    #expect(await eventually { harness.ask("/", token: firstToken).status == 200 })
    #expect(keys.requests.count == 1)
    published.withLock { $0 = Issuer.keySet([first, second]) }
    #expect(harness.ask("/", token: try second.token()).status == 200)
    #expect(keys.requests.count == 2)
    for _ in 0..<5 { #expect(harness.ask("/", token: try stranger.token()).status == 401) }
    #expect(keys.requests.count == 2)
    keys.stop()
    await harness.stop()
    upstream.stop()
  }

  @Test func verifiedTokensAreRemembered() throws {
    var memory = TokenMemory()
    let token = Array("token".utf8)
    let verified = VerifiedToken(claims: .object([]), expires: 100, fields: [])
    memory.keep(verified, of: token, gate: 1, version: 1)
    #expect(memory.find(token, gate: 1, version: 1, now: 100) != nil)
    #expect(memory.find(token, gate: 2, version: 1, now: 100) == nil)
    #expect(memory.find(Array("tokem".utf8), gate: 1, version: 1, now: 100) == nil)
    #expect(memory.find(token, gate: 1, version: 1, now: 101) == nil)
    memory.keep(verified, of: token, gate: 1, version: 1)
    #expect(memory.find(token, gate: 1, version: 2, now: 100) == nil)
    #expect(memory.find(token, gate: 1, version: 1, now: 100) == nil)
  }
}
