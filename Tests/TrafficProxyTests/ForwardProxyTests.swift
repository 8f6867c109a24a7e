import Foundation
import Telemetry
import Testing
import Traffic
import Vocabulary

@testable import TrafficProxy

/// Absolute-form requests and CONNECT on real sockets.
@Suite struct ForwardProxyTests {
  static func proxy(
    _ policy: DestinationPolicy = DestinationPolicy(),
    _ edit: (inout ListenerConfiguration, inout TrafficConfiguration) -> Void = { _, _ in }
  ) async throws -> Harness {
    try await Harness(to: []) { listener, _, configuration in
      listener.routes = []
      listener.forwardProxy = policy
      edit(&listener, &configuration)
    }
  }

  static func ask(_ harness: Harness, _ text: String) -> (head: String, body: String)? {
    let client = Wire.connect(harness.port)
    defer { client.close() }
    client.send(text)
    return client.message()
  }

  @Test func absoluteTargetsGoWhereTheySay() async throws {
    let upstreams = [Upstream.answering(), Upstream.answering("HTTP/1.1 201 Two\r\nContent-Length: 3\r\n\r\ntwo")]
    let harness = try await Self.proxy()
    let client = Wire.connect(harness.port)
    for index in 0..<6 {
      let upstream = upstreams[index % 2]
      let host = index % 3 == 0 ? "127.0.0.1" : "LocalHost"
      client.send(
        "GET http://\(host):\(upstream.port)/p?q=1 HTTP/1.1\r\nHost: other\r\nProxy-Connection: keep-alive\r\n\r\n")
      #expect(client.message()?.body == (index % 2 == 0 ? "ok" : "two"))
      let seen = try #require(upstream.requests.last)
      #expect(seen.hasPrefix("GET /p?q=1 HTTP/1.1\r\nHost: \(host):\(upstream.port)\r\n") && !seen.contains("Proxy-"))
    }
    // Pooled for each destination.
    #expect(upstreams.allSatisfy { $0.connectionCount == 2 })
    let records = await harness.records.lines(6)
    #expect(
      records[1].contains("\"cluster\":\"localhost:\(upstreams[1].port)\"") && records[1].contains("\"status\":201"))
    let text = harness.metrics.prometheusText()
    #expect(text.contains("cluster=\"web/destinations\",code_class=\"2xx\",blame=\"none\"} 6"))
    #expect(!text.contains("localhost"))
    client.close()
    await harness.stop()
    for upstream in upstreams { upstream.stop() }
  }

  @Test func connectMakesATunnelWithItsEnds() async throws {
    let upstream = Upstream { wire, _, _ in
      let all = wire.takeAll()
      wire.send(all + all)
    }
    let harness = try await Self.proxy()
    let client = Wire.connect(harness.port)
    client.send("CONNECT localhost:\(upstream.port) HTTP/1.1\r\nHost: localhost:\(upstream.port)\r\n\r\nearly ")
    #expect(client.take(until: "\r\n\r\n") == "HTTP/1.1 200 Connection Established\r\n\r\n")
    client.send("late")
    client.finishSending()
    #expect(String(decoding: client.takeAll(), as: UTF8.self) == "early lateearly late")
    client.close()
    let record = try #require(await harness.records.lines(1).first)
    #expect(record.contains("\"method\":\"CONNECT\",\"path\":\"localhost:\(upstream.port)\""))
    #expect(record.contains("\"status\":200,"))
    #expect(harness.proxy.inFlight == 0)
    await harness.stop()
    upstream.stop()
  }

  @Test func failuresAreAttributed() async throws {
    let harness = try await Self.proxy()
    let closed = closedPort()
    for (text, status, word) in [
      ("GET http://127.0.0.1:\(closed)/ HTTP/1.1\r\nHost: a\r\n\r\n", "503", "connection_refused"),
      ("CONNECT 127.0.0.1:\(closed) HTTP/1.1\r\nHost: a\r\n\r\n", "503", "connection_refused"),
      ("GET http://no-such-name.invalid/ HTTP/1.1\r\nHost: a\r\n\r\n", "503", "dns_failure"),
      ("CONNECT no-such-name.invalid:443 HTTP/1.1\r\nHost: a\r\n\r\n", "503", "dns_failure"),
      ("CONNECT a HTTP/1.1\r\nHost: a\r\n\r\n", "400", "bad_request"),
      ("CONNECT a:99999 HTTP/1.1\r\nHost: a\r\n\r\n", "400", "bad_request"),
      ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", "400", "forward proxy"),
      ("GET https://a/ HTTP/1.1\r\nHost: a\r\n\r\n", "403", "CONNECT"),
    ] {
      let reply = try #require(Self.ask(harness, text))
      #expect(reply.head.hasPrefix("HTTP/1.1 \(status) "), "\(text) \(reply.head)")
      #expect(
        reply.body.contains(word) && reply.head.contains("Proxy-Status: outrider; error="), "\(text) \(reply.body)")
    }
    await harness.stop()
  }

  @Test func theSidecarItselfIsOutOfReach() async throws {
    let admin = Upstream.answering()
    let harness = try await Self.proxy { _, configuration in
      configuration.reserved = [.tcp(host: "127.0.0.1", port: admin.port)]
    }
    for port in [admin.port, harness.port] {
      // 2130706433 is 127.0.0.1 for the resolver; names are judged by where they lead.
      for host in ["127.0.0.1", "localhost", "[::1]", "127.1.2.3", "0.0.0.0", "[::ffff:127.0.0.1]", "2130706433"] {
        for text in [
          "GET http://\(host):\(port)/ HTTP/1.1\r\nHost: a\r\n\r\n",
          "CONNECT \(host):\(port) HTTP/1.1\r\nHost: a\r\n\r\n",
        ] {
          let reply = try #require(Self.ask(harness, text))
          #expect(reply.head.hasPrefix("HTTP/1.1 403 ") && reply.body.contains("destination_denied"), "\(text)")
        }
      }
    }
    #expect(admin.connectionCount == 0)
    await harness.stop()
    admin.stop()
  }

  @Test func thePolicyAndTheRoutesComeFirst() async throws {
    let upstream = Upstream.answering()
    var policy = DestinationPolicy()
    policy.hosts = [.name("localhost")]
    policy.ports = [upstream.port]
    let harness = try await Self.proxy(policy) { listener, _ in
      var rule = RouteConfiguration(action: .respond(status: 418, body: "mine", headers: []))
      rule.match.host = "blocked.test"
      listener.routes = [rule]
    }
    let port = upstream.port
    #expect(Self.ask(harness, "GET http://localhost:\(port)/ HTTP/1.1\r\nHost: a\r\n\r\n")?.body == "ok")
    #expect(
      Self.ask(harness, "GET http://127.0.0.1:\(port)/ HTTP/1.1\r\nHost: a\r\n\r\n")?.head.contains(" 403 ") == true)
    #expect(Self.ask(harness, "CONNECT localhost:1 HTTP/1.1\r\nHost: a\r\n\r\n")?.head.contains(" 403 ") == true)
    #expect(Self.ask(harness, "GET http://blocked.test/ HTTP/1.1\r\nHost: a\r\n\r\n")?.body == "mine")
    await harness.stop()
    upstream.stop()
  }

  /// More destinations than there is room for, one after another: the unused make room.
  @Test func destinationsAreBounded() async throws {
    let closed = closedPort()
    let harness = try await Self.proxy { listener, _ in listener.retries.attempts = 0 }
    let client = Wire.connect(harness.port)
    for index in 0..<(Destinations.limit * 2) {
      client.send("GET http://127.1.\(index / 200).\(index % 200 + 1):\(closed)/ HTTP/1.1\r\nHost: a\r\n\r\n")
      #expect(client.message()?.body.contains("connection_refused") == true)
    }
    client.close()
    await harness.stop()
  }
}
