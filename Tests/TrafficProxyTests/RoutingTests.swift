import RegularExpressions
import Telemetry
import Testing
import Traffic
import Vocabulary

@testable import TrafficProxy

/// What routes do, with clients of both versions of HTTP.
@Suite(.timeLimit(.minutes(2))) struct RoutingTests {
  /// A client that tells the status and the body of an answer.
  enum Client: CaseIterable, Sendable { case http1, http2 }

  static func ask(
    _ client: Client, _ port: Int, _ path: String, _ fields: String = ""
  ) throws -> (head: String, body: String) {
    switch client {
    case .http1:
      let wire = Wire.connect(port)
      defer { wire.close() }
      wire.send(get(path, fields))
      return try #require(wire.message())
    case .http2:
      let peer = HTTP2Peer.client(port)
      let answer = try #require(peer.message(of: try peer.ask("GET", path, fields)))
      return (answer.message.head, answer.message.text)
    }
  }

  static func respond(_ body: String, _ edit: (inout RouteConfiguration.Match) -> Void) -> RouteConfiguration {
    var route = RouteConfiguration(action: .respond(status: 200, body: body, headers: []))
    edit(&route.match)
    return route
  }

  @Test(arguments: Client.allCases) func choosesByEverything(client: Client) async throws {
    let costly = try RegularExpression("/(a+)+\\d", .whole)
    let harness = try await Harness(to: []) { listener, _, _ in
      listener.routes = [
        Self.respond("costly") { $0.path = .regex(costly) },
        Self.respond("query") { $0.query = [.init("who", "a b")] },
        Self.respond("field") { $0.headers = [.init("x-a", ValueMatch(.prefix("yes")))] },
        Self.respond("never") { $0.fraction = 0 },
        Self.respond("rest") { $0.headers = [.init("x-b", ValueMatch(.present, isNegated: true))] },
      ]
    }
    func body(_ path: String, _ fields: String = "") throws -> String {
      try Self.ask(client, harness.port, path, fields).body
    }
    #expect(try body("/aa1") == "costly")
    #expect(try body("/x?b=1&who=a+%62") == "query")
    #expect(try body("/", "x-a: no\r\nx-a: yes, indeed\r\n") == "field")
    #expect(try body("/?who=b", "x-a: no\r\n") == "rest")
    #expect(try Self.ask(client, harness.port, "/", "x-b: 1\r\n").head.hasPrefix("HTTP/1.1 404"))
    let limits = "outrider_route_match_limits_total{direction=\"outbound\",listener=\"web\"}"
    #expect(harness.metrics.prometheusText().contains("\(limits) 0\n"))
    #expect(try body("/" + String(repeating: "a", count: 60)) == "rest")
    #expect(harness.metrics.prometheusText().contains("\(limits) 1\n"))
    await harness.stop()
  }

  @Test(arguments: Client.allCases) func splitsBetweenClusters(client: Client) async throws {
    let one = Upstream.answering("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\none")
    let two = Upstream.answering("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\ntwo")
    let harness = try await Harness(to: [one.port]) { listener, _, configuration in
      configuration.clusters = [Self.cluster("two", two.port), Self.cluster("none", two.port)]
      listener.routes = [
        RouteConfiguration(
          action: .split([
            .init(cluster: "up", weight: 1), .init(cluster: "two", weight: 1), .init(cluster: "none", weight: 0),
          ]))
      ]
    }
    var counts = ["one": 0, "two": 0]
    for _ in 0..<60 { counts[try Self.ask(client, harness.port, "/").body, default: 0] += 1 }
    #expect(counts.count == 2 && counts["one", default: 0] > 5 && counts["two", default: 0] > 5)
    for (name, count) in [("up", counts["one"]), ("two", counts["two"])] {
      let labels = "direction=\"outbound\",listener=\"web\",route=\"default\",cluster=\"\(name)\""
      let line = "outrider_http_requests_total{\(labels),code_class=\"2xx\",blame=\"none\"} \(count ?? 0)\n"
      await until { harness.metrics.prometheusText().contains(line) }
      #expect(harness.metrics.prometheusText().contains(line))
    }
    await harness.stop()
    one.stop()
    two.stop()
  }

  /// On a kept connection, and back again.
  @Test(arguments: Client.allCases) func aReloadMovesASplit(client: Client) async throws {
    let one = Upstream.answering("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\none")
    let two = Upstream.answering("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\ntwo")
    func split(_ weights: (Int, Int)) -> RouteConfiguration {
      RouteConfiguration(
        action: .split([.init(cluster: "up", weight: weights.0), .init(cluster: "two", weight: weights.1)]))
    }
    let harness = try await Harness(to: [one.port]) { listener, _, configuration in
      configuration.clusters = [Self.cluster("two", two.port)]
      listener.routes = [split((1, 0))]
    }
    for (weights, body) in [((1, 0), "one"), ((0, 1), "two"), ((1, 0), "one")] {
      var configuration = harness.configuration
      configuration.outbound[0].routes = [split(weights)]
      try await harness.reload(configuration)
      for _ in 0..<5 { #expect(try Self.ask(client, harness.port, "/").body == body) }
    }
    await harness.stop()
    one.stop()
    two.stop()
  }

  static func cluster(_ name: String, _ port: Int) -> ClusterConfiguration {
    ClusterConfiguration(
      name: name, discovery: .fixed([EndpointConfiguration(address: .tcp(host: "127.0.0.1", port: port))]))
  }

  @Test(arguments: Client.allCases) func redirectsAndRewrites(client: Client) async throws {
    let upstream = Upstream.answering()
    let costly = RegexRewrite(try RegularExpression("(a+)+\\d"), try Substitution("x", groups: 1))
    let users = try RegularExpression("^/users/(\\d+)")
    let harness = try await Harness(to: [upstream.port]) { listener, _, _ in
      var old = RouteConfiguration(action: .redirectPart(RedirectEdits(scheme: "https", prefix: "/new/"), code: 308))
      old.match.path = .prefix("/old/")
      var user = RouteConfiguration(action: .cluster("up"))
      user.match.path = .prefix("/users/")
      user.rewriteRegex = try? RegexRewrite(users, Substitution("/u/\\1/profile", groups: 1))
      var bounded = RouteConfiguration(action: .cluster("up"))
      bounded.rewriteRegex = costly
      listener.routes = [old, user, bounded]
    }
    let moved = try Self.ask(client, harness.port, "/old/a?b=c").head.lowercased()
    #expect(moved.hasPrefix("http/1.1 308"))
    #expect(moved.contains("location: https://shop.test/new/a?b=c\r\n"))
    #expect(try Self.ask(client, harness.port, "/users/17/x?q=%2F").body == "ok")
    #expect(upstream.requests.last?.hasPrefix("GET /u/17/profile/x?q=%2F HTTP/1.1\r\n") == true)
    let refused = try Self.ask(client, harness.port, "/" + String(repeating: "a", count: 60))
    #expect(refused.head.hasPrefix("HTTP/1.1 400") && refused.body.contains("cannot be rewritten"))
    #expect(upstream.requests.count == 1)
    #expect(
      harness.metrics.prometheusText().contains(
        "outrider_route_match_limits_total{direction=\"outbound\",listener=\"web\"} 1\n"))
    await harness.stop()
    upstream.stop()
  }
}
