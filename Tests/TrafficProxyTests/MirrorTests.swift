import Telemetry
import Testing
import Traffic

@testable import TrafficProxy

/// Copies of requests, from and to both versions of HTTP.
@Suite(.timeLimit(.minutes(2))) struct MirrorTests {
  enum Side: CaseIterable, Sendable { case http1, http2 }

  /// An upstream that notes each request with its body, and answers with a body of its own.
  static func noting(_ side: Side) -> Upstream {
    switch side {
    case .http1: Upstream.answering("HTTP/1.1 500 Oops\r\nContent-Length: 6\r\n\r\nshadow")
    case .http2:
      Upstream.http2 { peer, _, upstream in
        while let (key, asked) = peer.message() {
          upstream.note(asked.head + asked.text)
          try peer.respond(key, "HTTP/1.1 500 Oops\r\ncontent-length: 6\r\n\r\n")
          try peer.send(key, "shadow")
        }
      }
    }
  }

  static func harness(
    to upstream: Upstream, mirror port: Int, _ side: Side = .http1, fraction: Double = 1,
    _ edit: @escaping (inout ListenerConfiguration, inout ClusterConfiguration, inout TrafficConfiguration) -> Void = {
      _, _, _ in
    }
  ) async throws -> Harness {
    try await Harness(to: [upstream.port]) { listener, _, configuration in
      listener.routes[0].mirror = MirrorConfiguration(cluster: "shadow", fraction: fraction)
      listener.routes[0].requestHeaders.set = [.init("X-Set", "yes")]
      var cluster = RoutingTests.cluster("shadow", port)
      if side == .http2 { cluster.spoken = .http2 }
      edit(&listener, &cluster, &configuration)
      configuration.clusters.append(cluster)
    }
  }

  static func count(_ harness: Harness, _ result: String) -> Int {
    let name =
      "outrider_mirror_requests_total{direction=\"outbound\",listener=\"web\",route=\"default\",cluster=\"shadow\","
      + "result=\"\(result)\"} "
    let text = harness.metrics.prometheusText()
    guard let found = text.firstRange(of: name) else { return 0 }
    return Int(text[found.upperBound...].prefix { $0.isNumber }) ?? -1
  }

  @Test(arguments: Side.allCases) func fromHTTP1(to side: Side) async throws {
    let upstream = Upstream.answering()
    let shadow = Self.noting(side)
    let harness = try await Self.harness(to: upstream, mirror: shadow.port, side)
    let client = Wire.connect(harness.port)
    client.send(get("/a?b=c", "X-Mine: 1\r\nX-Request-Id: r1\r\n"))
    #expect(client.message()?.body == "ok")
    client.send(post("hello"))
    #expect(client.message()?.body == "ok")
    client.send("POST /c HTTP/1.1\r\nHost: shop.test\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n")
    client.send("1\r\nc\r\n0\r\n\r\n")
    #expect(client.message()?.body == "ok")
    await until { Self.count(harness, "answered") == 3 }
    #expect(Self.count(harness, "answered") == 3)
    let seen = shadow.requests.map { $0.lowercased() }
    try #require(seen.count == 3)
    let first = try #require(seen.first { $0.hasPrefix("get /a?b=c http/1.1\r\n") })
    #expect(
      first.contains("x-mine: 1\r\n") && first.contains("x-set: yes\r\n") && first.contains("x-request-id: r1\r\n"))
    #expect(seen.contains { $0.hasPrefix("post / ") && $0.hasSuffix("\r\n\r\nhello") })
    let ending = side == .http1 ? "\r\n\r\n3\r\nabc\r\n0\r\n\r\n" : "\r\n\r\nabc"
    #expect(seen.contains { $0.hasPrefix("post /c ") && $0.hasSuffix(ending) }, "\(seen)")
    // The client's requests alone are recorded and counted.
    #expect(await harness.records.lines(3).count == 3)
    let counted = "cluster=\"up\",code_class=\"2xx\",blame=\"none\"} 3\n"
    await until { harness.metrics.prometheusText().contains(counted) }
    let text = harness.metrics.prometheusText()
    #expect(text.contains(counted))
    #expect(!text.contains("cluster=\"shadow\",code_class"))
    #expect(harness.proxy.inFlight == 0)
    client.close()
    await harness.stop()
    upstream.stop()
    shadow.stop()
  }

  @Test(arguments: Side.allCases) func fromHTTP2(to side: Side) async throws {
    let upstream = Upstream.answering()
    let shadow = Self.noting(side)
    let harness = try await Self.harness(to: upstream, mirror: shadow.port, side)
    let client = HTTP2Peer.client(harness.port)
    #expect(client.message(of: try client.ask("GET", "/a"))?.message.text == "ok")
    #expect(
      client.message(of: try client.ask("POST", "/b", "content-length: 5\r\n", body: "hello"))?.message.text == "ok")
    let open = try client.ask("POST", "/c", body: "ab", ends: false)
    try client.send(open, "c")
    #expect(client.message(of: open)?.message.text == "ok")
    await until { Self.count(harness, "answered") == 3 }
    #expect(Self.count(harness, "answered") == 3)
    let seen = shadow.requests.map { $0.lowercased() }
    #expect(seen.contains { $0.hasPrefix("get /a ") && $0.contains("x-set: yes\r\n") })
    #expect(seen.contains { $0.hasPrefix("post /b ") && $0.hasSuffix("\r\n\r\nhello") })
    let ending = side == .http1 ? "\r\n\r\n3\r\nabc\r\n0\r\n\r\n" : "\r\n\r\nabc"
    #expect(seen.contains { $0.hasPrefix("post /c ") && $0.hasSuffix(ending) }, "\(seen)")
    await harness.stop()
    upstream.stop()
    shadow.stop()
  }

  @Test func aMirrorThatFailsOrIsSilentTroublesNobody() async throws {
    let upstream = Upstream.answering()
    let refusing = try await Self.harness(to: upstream, mirror: closedPort())
    let client = Wire.connect(refusing.port)
    client.send(get())
    #expect(client.message()?.body == "ok")
    await until { Self.count(refusing, "failed") == 1 }
    #expect(Self.count(refusing, "failed") == 1)
    client.close()
    await refusing.stop()

    // It reads, and never answers: the route's timeout ends the copy, and its place is free again.
    let silent = Upstream { wire, _, upstream in
      while upstream.request(wire) != nil {}
    }
    let harness = try await Self.harness(to: upstream, mirror: silent.port) { listener, cluster, _ in
      listener.timeout = .milliseconds(300)
      cluster.maxRequests = 1
    }
    let other = Wire.connect(harness.port)
    for _ in 0..<3 {
      other.send(get())
      #expect(other.message()?.body == "ok")
    }
    #expect(Self.count(harness, "overflow") >= 1)
    await until { Self.count(harness, "failed") == 1 }
    #expect(Self.count(harness, "failed") == 1)
    let overflows = Self.count(harness, "overflow")
    other.send(get())
    #expect(other.message()?.body == "ok")
    await until { Self.count(harness, "failed") == 2 }
    #expect(Self.count(harness, "failed") == 2 && Self.count(harness, "overflow") == overflows)
    other.close()
    await harness.stop()
    upstream.stop()
    silent.stop()
  }

  @Test func whatCannotBeCopiedIsCounted() async throws {
    let upstream = Upstream.answering()
    let shadow = Self.noting(.http1)
    let harness = try await Self.harness(to: upstream, mirror: shadow.port) { _, _, configuration in
      configuration.replayLimit = 1000
    }
    let client = Wire.connect(harness.port)
    client.send(post(String(repeating: "x", count: 2000)))
    #expect(client.message()?.body == "ok")
    await until { Self.count(harness, "too_large") == 1 }
    #expect(Self.count(harness, "too_large") == 1)
    client.send("POST / HTTP/1.1\r\nHost: shop.test\r\nContent-Length: 10\r\n\r\nhalf")
    client.close()
    await until { Self.count(harness, "incomplete") == 1 }
    #expect(Self.count(harness, "incomplete") == 1)
    #expect(shadow.requests.isEmpty)
    await harness.stop()
    upstream.stop()
    shadow.stop()
  }

  @Test func aFractionIsDrawn() async throws {
    let upstream = Upstream.answering()
    let shadow = Self.noting(.http1)
    let harness = try await Self.harness(to: upstream, mirror: shadow.port, fraction: 0.5)
    let client = Wire.connect(harness.port)
    for _ in 0..<60 {
      client.send(get())
      #expect(client.message()?.body == "ok")
    }
    await until { (6...54).contains(Self.count(harness, "answered")) }
    #expect((6...54).contains(Self.count(harness, "answered")))
    client.close()
    await harness.stop()
    upstream.stop()
    shadow.stop()
  }

  @Test func aReloadTakesTheMirrorAwayAndGivesItBack() async throws {
    let upstream = Upstream.answering()
    let shadow = Self.noting(.http1)
    let harness = try await Self.harness(to: upstream, mirror: shadow.port)
    let client = Wire.connect(harness.port)
    var without = harness.configuration
    without.outbound[0].routes[0].mirror = nil
    var copies = 0
    for (configuration, copied) in [(harness.configuration, true), (without, false), (harness.configuration, true)] {
      try await harness.reload(configuration)
      for _ in 0..<3 {
        client.send(get())
        #expect(client.message()?.body == "ok")
      }
      if copied { copies += 3 }
      await until { Self.count(harness, "answered") == copies }
      #expect(Self.count(harness, "answered") == copies && shadow.requests.count == copies)
    }
    client.close()
    await harness.stop()
    upstream.stop()
    shadow.stop()
  }
}
