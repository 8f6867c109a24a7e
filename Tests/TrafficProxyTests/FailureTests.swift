import Foundation
import Telemetry
import Testing
import Traffic
import Vocabulary

@testable import TrafficProxy

@Suite struct FailureTests {
  /// Answers the first request of each connection and resets on the second.
  static func resettingSecond() -> Upstream {
    Upstream { wire, _, upstream in
      guard upstream.request(wire) != nil else { return }
      wire.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
      guard upstream.request(wire) != nil else { return }
      wire.reset()
      // The script's own close then finds nothing to close.
    }
  }

  @Test func noGetFailsOnAStaleConnection() async throws {
    let upstream = Self.resettingSecond()
    let harness = try await Harness(to: [upstream.port])
    let client = Wire.connect(harness.port)
    for _ in 0..<40 {
      client.send(get())
      #expect(client.message()?.head.hasPrefix("HTTP/1.1 200") == true)
    }
    client.close()
    await harness.stop()
    upstream.stop()
  }

  @Test func aPostIsNeverReplayed() async throws {
    let upstream = Self.resettingSecond()
    let harness = try await Harness(to: [upstream.port]) { listener, _, _ in
      listener.retries.attempts = 5
      listener.retries.conditions = Set(RetryConfiguration.Condition.allCases)
    }
    let client = Wire.connect(harness.port)
    for index in 0..<20 {
      client.send(post("b\(index)"))
      let reply = try #require(client.message())
      #expect(reply.head.hasPrefix(index % 2 == 0 ? "HTTP/1.1 200" : "HTTP/1.1 502"))
    }
    let bodies = upstream.requests.map { $0.suffix(3) }
    #expect(Set(bodies).count == 20 && bodies.count == 20)
    client.close()
    await harness.stop()
    upstream.stop()
  }

  @Test func closedKeptConnectionsAreNotUsed() async throws {
    let upstream = Upstream { wire, _, upstream in
      guard upstream.request(wire) != nil else { return }
      wire.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    }
    let harness = try await Harness(to: [upstream.port])
    let client = Wire.connect(harness.port)
    for _ in 0..<20 {
      client.send(get())
      #expect(client.message()?.head.hasPrefix("HTTP/1.1 200") == true)
    }
    client.close()
    await harness.stop()
    upstream.stop()
  }

  @Test func gatewayErrorsAndResetsAreRetriedWhenAsked() async throws {
    let upstream = Upstream { wire, number, upstream in
      guard upstream.request(wire) != nil else { return }
      if number == 0 { return wire.reset() }
      if number == 1 { wire.send("HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n") }
      if number == 2 { wire.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok") }
    }
    let harness = try await Harness(to: [upstream.port]) { listener, _, _ in
      listener.retries.attempts = 2
      listener.retries.conditions.formUnion([.gatewayError, .reset])
    }
    let client = Wire.connect(harness.port)
    client.send("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody")
    #expect(client.message()?.body == "ok")
    #expect(upstream.requests.count == 3 && upstream.requests.allSatisfy { $0.hasSuffix("body") })
    #expect(await harness.records.lines(1).first?.contains("\"tries\":3") == true)
    #expect(harness.metrics.prometheusText().contains("outrider_upstream_retries_total{cluster=\"up\"} 2"))
    client.close()
    await harness.stop()
    upstream.stop()
  }

  @Test func aConnectFailureGoesToAnotherEndpoint() async throws {
    let upstream = Upstream.answering()
    let harness = try await Harness(to: [closedPort(), upstream.port])
    for _ in 0..<10 {
      let client = Wire.connect(harness.port)
      client.send(post("x"))
      #expect(client.message()?.body == "ok")
      client.close()
    }
    await harness.stop()
    upstream.stop()
  }

  @Test(arguments: [Direction.inbound, .outbound])
  func aRefusedConnectionNamesWhoIsToBlame(direction: Direction) async throws {
    let harness = try await Harness(to: [closedPort()], direction: direction)
    let client = Wire.connect(harness.port)
    client.send(get("/", "X-Request-Id: r1\r\n"))
    let reply = try #require(client.message())
    #expect(reply.head.hasPrefix("HTTP/1.1 503") && reply.head.contains("error=connection_refused; next-hop=\"127"))
    let body = try #require(try JSONSerialization.jsonObject(with: Data(reply.body.utf8)) as? [String: Any])
    #expect(body["blame"] as? String == (direction == .inbound ? "app" : "upstream"))
    #expect(body["reason"] as? String == "connection_refused" && body["request_id"] as? String == "r1")
    client.send(get("/", "Accept: text/plain\r\n"))
    #expect(client.message()?.head.contains("Content-Type: text/plain") == true)
    let record = await harness.records.lines(1).first
    #expect(record?.contains("\"flags\":\"UF,URX\"") == true)
    client.close()
    await harness.stop()
  }

  @Test func timeoutsGive504() async throws {
    let upstream = Upstream { wire, _, upstream in
      while upstream.request(wire) != nil {}
    }
    let harness = try await Harness(to: [upstream.port]) { listener, _, _ in listener.timeout = .milliseconds(150) }
    let client = Wire.connect(harness.port)
    client.send(get())
    let reply = try #require(client.message())
    #expect(reply.head.hasPrefix("HTTP/1.1 504") && reply.head.contains("error=http_response_timeout"))
    #expect(reply.body.contains("route_timeout"))
    client.close()
    await harness.stop()
    upstream.stop()
  }

  @Test func aSlowHeadGets408() async throws {
    let harness = try await Harness(to: [closedPort()]) { listener, _, _ in listener.headTimeout = .milliseconds(150) }
    let client = Wire.connect(harness.port)
    client.send("GET / HT")
    let text = String(decoding: client.takeAll(), as: UTF8.self)
    #expect(text.hasPrefix("HTTP/1.1 408") && text.contains("\"blame\":\"client\""))
    client.close()
    await harness.stop()
  }

  @Test(arguments: [
    ("GET / HTTP/1.1\r\nHost: a\r\nX: " + String(repeating: "a", count: 1 << 20), "431"),
    ("GET / HTTP/1.1\r\nHost: a\r\n" + String(repeating: "A: b\r\n", count: 200) + "\r\n", "431"),
    ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", "400"),
    ("GET / HTTP/1.1\nHost: a\n\n", "400"), ("\u{16}\u{3}\u{1}", "400"),
    ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFFF\r\n", "400"),
    ("CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n", "405"), ("GET / HTTP/3.0\r\nHost: a\r\n\r\n", "505"),
  ])
  func badRequestsAreRefused(text: String, status: String) async throws {
    let upstream = Upstream { wire, _, _ in _ = wire.takeAll() }
    let harness = try await Harness(to: [upstream.port]) { listener, _, _ in listener.listenerProtocol = .http }
    let client = Wire.connect(harness.port)
    Thread.detachNewThread { client.send(text) }
    let reply = try #require(client.message())
    #expect(reply.head.hasPrefix("HTTP/1.1 \(status) ") && reply.head.contains("Proxy-Status: outrider; error="))
    #expect(reply.body.contains("\"blame\":\"client\""))
    client.close()
    await harness.stop()
    upstream.stop()
  }

  @Test func aBadResponseIs502AndACutOneEndsTheConnection() async throws {
    let upstream = Upstream { wire, number, upstream in
      guard upstream.request(wire) != nil else { return }
      wire.send(number == 0 ? "NONSENSE\r\n\r\n" : "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
    }
    let harness = try await Harness(to: [upstream.port])
    let client = Wire.connect(harness.port)
    client.send(get())
    #expect(client.message()?.head.contains("error=http_protocol_error") == true)
    client.send(get())
    let rest = String(decoding: client.takeAll(), as: UTF8.self)
    #expect(rest.hasSuffix("half") || rest.isEmpty)
    #expect(await harness.records.lines(2).last?.contains("\"flags\":\"UC\"") == true)
    client.close()
    await harness.stop()
    upstream.stop()
  }

  @Test func limitsOverflowTo503() async throws {
    let upstream = Upstream { wire, _, upstream in
      while upstream.request(wire) != nil {}
    }
    let harness = try await Harness(to: [upstream.port]) { _, cluster, _ in cluster.maxRequests = 1 }
    let first = Wire.connect(harness.port)
    first.send(get())
    while harness.proxy.inFlight == 0 { await Task.yield() }
    let second = Wire.connect(harness.port)
    second.send(get())
    let reply = try #require(second.message())
    #expect(reply.head.hasPrefix("HTTP/1.1 503") && reply.body.contains("overflow"))
    first.close()
    second.close()
    await harness.stop()
    upstream.stop()
  }

  @Test func listenersCloseConnectionsAboveTheirLimit() async throws {
    let upstream = Upstream.answering()
    let harness = try await Harness(to: [upstream.port]) { listener, _, _ in listener.maxConnections = 1 }
    let first = Wire.connect(harness.port)
    first.send(get())
    #expect(first.message()?.body == "ok")
    let second = Wire.connect(harness.port)
    second.send(get())
    #expect(second.message() == nil)
    first.send(get())
    #expect(first.message()?.body == "ok")
    first.close()
    second.close()
    await harness.stop()
    upstream.stop()
  }

  @Test func unknownNamesAre503AndKnownOnesResolve() async throws {
    let upstream = Upstream.answering()
    for (host, status) in [("localhost", "200"), ("no-such-host.invalid", "503")] {
      let port = upstream.port
      let harness = try await Harness(to: []) { _, cluster, _ in cluster.discovery = .dns(host: host, port: port) }
      let client = Wire.connect(harness.port)
      client.send(get())
      let reply = try #require(client.message())
      #expect(reply.head.hasPrefix("HTTP/1.1 \(status)"))
      #expect(status == "200" || reply.body.contains("dns_failure"))
      client.close()
      await harness.stop()
    }
    upstream.stop()
  }

  @Test func drainWaitsForWhatIsInFlight() async throws {
    let go = Counted()
    let upstream = Upstream { wire, _, upstream in
      guard upstream.request(wire) != nil else { return }
      while go.value == 0 { usleep(1000) }  // between two looks
      wire.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    }
    let harness = try await Harness(to: [upstream.port], direction: .inbound)
    let idle = Wire.connect(harness.port)
    let client = Wire.connect(harness.port)
    client.send(get())
    while upstream.requests.isEmpty { await Task.yield() }
    async let cut = harness.proxy.drain(.inbound, timeout: .seconds(5))
    while !harness.proxy.isDraining(.inbound) { await Task.yield() }
    go.add(1)
    #expect(await cut == 0)
    let reply = try #require(client.message())
    #expect(reply.body == "ok" && reply.head.contains("Connection: close"))
    #expect(idle.takeAll().isEmpty)
    #expect(harness.proxy.inFlight == 0)
    idle.close()
    client.close()
    await harness.stop()
    upstream.stop()
  }

  @Test func reloadChangesRoutesOfLiveConnections() async throws {
    let upstream = Upstream.answering()
    let harness = try await Harness(to: [upstream.port])
    let client = Wire.connect(harness.port)
    client.send(get())
    #expect(client.message()?.body == "ok")
    var configuration = TrafficConfiguration()
    var listener = ListenerConfiguration(name: "web", direction: .outbound, listen: [])
    listener.routes = [RouteConfiguration(action: .respond(status: 200, body: "new", headers: []))]
    configuration.outbound = [listener]
    try harness.proxy.reload(configuration, app: nil)
    // Loops take the snapshot over at their next turn.
    var bodies: [String] = []
    while bodies.last != "new", bodies.count < 100 {
      client.send(get())
      bodies.append(client.message()?.body ?? "none")
    }
    #expect(bodies.last == "new" && bodies.dropLast().allSatisfy { $0 == "ok" })
    client.close()
    await harness.stop()
    upstream.stop()
  }
}
