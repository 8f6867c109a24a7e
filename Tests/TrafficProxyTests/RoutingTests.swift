import RegularExpressions
import Telemetry
import Testing
import Traffic

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
}
