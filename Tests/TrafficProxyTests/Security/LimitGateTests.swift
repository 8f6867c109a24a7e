import Glibc
import HTTP1
import HTTP2
import NIOCore
import Telemetry
import Testing
import Traffic
import Vocabulary

@testable import TrafficProxy

/// Rate limits, failures on purpose and rules, on real sockets.
@Suite(.timeLimit(.minutes(2))) struct LimitGateTests {
  private static func rate(
    _ requests: Int, per seconds: Int = 3600, _ key: RateLimitConfiguration.Key = .all
  ) -> RateLimitConfiguration {
    RateLimitConfiguration(requests: requests, period: .seconds(seconds), burst: requests, key: key)
  }

  @Test func aboveTheRateIs429() async throws {
    let upstream = Upstream.answering()
    let harness = try await Harness(to: [upstream.port]) { listener, _, _ in listener.security.rates = [Self.rate(3)] }
    let client = Wire.connect(harness.port)
    for _ in 0..<3 {
      client.send(get())
      #expect(client.message()?.head.hasPrefix("HTTP/1.1 200") == true)
    }
    client.send(get())
    let reply = try #require(client.message())
    #expect(reply.head.hasPrefix("HTTP/1.1 429 Too Many Requests"))
    #expect(reply.head.contains("Retry-After: 1200\r\n") && reply.head.contains("error=http_request_denied"))
    #expect(reply.body.contains("\"reason\":\"rate_limited\",\"blame\":\"client\",\"status\":429"))
    // The connection goes on.
    client.send(get())
    #expect(client.message()?.head.hasPrefix("HTTP/1.1 429") == true)
    client.close()
    #expect(await harness.records.lines(5).last?.contains("\"flags\":\"RL\"") == true)
    #expect(harness.metric("outrider_rate_limited_total{direction=\"outbound\",listener=\"web\",route=\"\"}") == 2)
    #expect(upstream.requests.count == 3)
    // What is left of the bucket is kept over a reload that does not touch it, and is fresh after one that does.
    var configuration = harness.configuration
    configuration.outbound[0].timeout = .seconds(7)
    try harness.proxy.reload(configuration, app: nil)
    try await harness.turn()
    #expect(harness.ask().status == 429)
    configuration.outbound[0].security.rates = [Self.rate(2)]
    try harness.proxy.reload(configuration, app: nil)
    try await harness.turn()
    #expect([harness.ask().status, harness.ask().status, harness.ask().status] == [200, 200, 429])
    await harness.stop()
    upstream.stop()
  }

  @Test func keysAndRoutesHaveBucketsOfTheirOwn() async throws {
    let upstream = Upstream.answering()
    let harness = try await Harness(to: [upstream.port]) { listener, _, _ in
      var route = RouteConfiguration(action: .cluster("up"))
      route.name = "slow"
      route.match.path = .prefix("/slow/")
      route.security.rates = [Self.rate(1, .header("x-key"))]
      listener.routes.insert(route, at: 0)
      listener.security.rates = [Self.rate(5, .path)]
    }
    #expect(harness.ask("/slow/a", "X-Key: 1\r\n").status == 200)
    #expect(harness.ask("/slow/b", "X-Key: 1\r\n").status == 429)
    // Another spelling of the route's path does not lead around it.
    #expect(harness.ask("/%73low/b", "X-Key: 1\r\n").status == 429)
    #expect(harness.ask("/x/..//slow/b", "X-Key: 1\r\n").status == 429)
    #expect(harness.ask("/slow%2fb", "X-Key: 1\r\n").status == 403)
    #expect(harness.ask("/slow/b", "X-Key: 2\r\n").status == 200)
    #expect(harness.ask("/slow/c").status == 200 && harness.ask("/slow/d").status == 429)
    for number in 0..<6 { #expect(harness.ask("/p?\(number)").status == (number < 5 ? 200 : 429)) }
    #expect(harness.ask("/q").status == 200)
    #expect(harness.metric("outrider_rate_limited_total{direction=\"outbound\",listener=\"web\",route=\"slow\"}") == 4)
    await harness.stop()
    upstream.stop()
  }

  @Test func http2AndGRPCAreToldInTheirWay() async throws {
    let harness = try await Harness(to: [closedPort()]) { listener, _, _ in listener.security.rates = [Self.rate(1)] }
    let client = HTTP2Peer.client(harness.port)
    _ = try #require(client.message(of: try client.ask()))
    let reply = try #require(client.message(of: try client.ask("POST", "/", body: "x")))
    #expect(
      reply.message.head.hasPrefix("HTTP/1.1 429") && reply.message.head.lowercased().contains("retry-after: 3600"))
    let call = "content-type: application/grpc\r\nte: trailers\r\n"
    let refused = try #require(client.message(of: try client.ask("POST", "/a.B/C", call, body: "x")))
    #expect(refused.message.head.hasPrefix("HTTP/1.1 200") && refused.message.head.contains("grpc-status: 8"))
    client.wire.close()
    await harness.stop()
  }

  @Test func faultsAreMadeAsConfigured() async throws {
    let upstream = Upstream.answering()
    let harness = try await Harness(to: [upstream.port]) { listener, _, _ in
      var abort = RouteConfiguration(action: .cluster("up"))
      abort.name = "abort"
      abort.match.path = .prefix("/abort/")
      abort.security.fault = FaultConfiguration()
      abort.security.fault?.abort = .init(status: 418, fraction: 1)
      var delay = RouteConfiguration(action: .cluster("up"))
      delay.name = "delay"
      delay.match.path = .prefix("/delay/")
      delay.security.fault = FaultConfiguration()
      delay.security.fault?.delay = .init(duration: .milliseconds(150), fraction: 1)
      listener.routes = [abort, delay] + listener.routes
    }
    #expect(harness.ask("/").status == 200)
    let aborted = harness.ask("/abort/x")
    #expect(aborted.status == 418 && aborted.body.contains("\"reason\":\"fault_injected\",\"blame\":\"sidecar\""))
    let start = ContinuousClock.now
    #expect(harness.ask("/delay/x").status == 200)
    #expect(ContinuousClock.now - start >= .milliseconds(150))
    // A body that arrives meanwhile is held, and goes on.
    let poster = Wire.connect(harness.port)
    poster.send("POST /delay/y HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nab")
    poster.send("cde")
    #expect(poster.message()?.head.hasPrefix("HTTP/1.1 200") == true)
    #expect(upstream.requests.contains { $0.hasPrefix("POST /delay/y") && $0.hasSuffix("abcde") })
    poster.close()
    let records = await harness.records.lines(4)
    #expect(
      records.contains {
        $0.contains("/abort/x") && $0.contains("\"flags\":\"FI\"") && $0.contains("\"blame\":\"sidecar\"")
      })
    #expect(
      records.contains { $0.contains("/delay/x") && $0.contains("\"flags\":\"DI\"") && !$0.contains("blame\":\"side") })
    let place = "outrider_faults_injected_total{direction=\"outbound\",listener=\"web\",route="
    #expect(
      harness.metric(place + "\"abort\",fault=\"abort\"}") == 1
        && harness.metric(place + "\"delay\",fault=\"delay\"}") == 2)
    await harness.stop()
    upstream.stop()
  }

  @Test func aClientThatLeavesDuringADelayLeavesNothingBehind() async throws {
    let upstream = Upstream.answering()
    let harness = try await Harness(to: [upstream.port]) { listener, _, _ in
      listener.security.fault = FaultConfiguration()
      listener.security.fault?.delay = .init(duration: .seconds(3600), fraction: 1)
    }
    let client = Wire.connect(harness.port)
    client.send(get("/gone"))
    let streams = HTTP2Peer.client(harness.port)
    let key = try streams.ask("GET", "/reset")
    await until { harness.proxy.inFlight == 2 }
    #expect(harness.proxy.inFlight == 2)
    client.close()
    streams.reset(key, .cancel)
    await until { harness.proxy.inFlight == 0 }
    let records = await harness.records.lines(2)
    #expect(records.count == 2 && records.allSatisfy { $0.contains("\"flags\":\"D") && $0.contains("\"status\":0") })
    #expect(harness.proxy.inFlight == 0 && upstream.connectionCount == 0)
    streams.wire.close()
    await harness.stop()
    upstream.stop()
  }

  private static func rules(allow: [RBACConfiguration.Rule]? = nil, deny: [RBACConfiguration.Rule] = [])
    -> RBACConfiguration
  {
    var rules = RBACConfiguration()
    rules.allow = allow
    rules.deny = deny
    return rules
  }

  @Test func listenerAndRouteMustBothAllow() async throws {
    let upstream = Upstream.answering()
    let harness = try await Harness(to: [upstream.port]) { listener, _, _ in
      var get = RBACConfiguration.Rule()
      get.methods = ["GET", "HEAD"]
      var local = RBACConfiguration.Rule()
      local.sources = [AddressRange("127.0.0.0/8")].compactMap { $0 }
      local.methods = ["HEAD", "PUT"]
      listener.security.rules = Self.rules(allow: [get])
      var route = RouteConfiguration(action: .cluster("up"))
      route.name = "strict"
      route.match.path = .prefix("/strict/")
      route.security.rules = Self.rules(allow: [local])
      listener.routes.insert(route, at: 0)
    }
    #expect(harness.ask("/").status == 200 && harness.ask("/", method: "PUT").status == 403)
    #expect(harness.ask("/strict/a").status == 403 && harness.ask("/strict/a", method: "PUT").status == 403)
    #expect(harness.ask("/strict/a", "X-Forwarded-For: 10.0.0.1\r\n", method: "HEAD").status == 200)
    let denied = harness.ask("/strict/a")
    #expect(denied.head.contains("error=http_request_denied") && denied.body.contains("\"reason\":\"access_denied\""))
    #expect(denied.body.contains("no rule of `allow` matches"))
    let counter = "outrider_authorization_total{direction=\"outbound\",listener=\"web\",filter=\"rbac\",result="
    #expect(harness.metric(counter + "\"denied\"}") == 4)
    #expect(await harness.records.lines(6).filter { $0.contains("\"flags\":\"UAEX\"") }.count == 4)
    await harness.stop()
    upstream.stop()
  }

  /// The address is that of the PROXY header, where the listener takes one; never of a field.
  @Test func clientsAreKnownByThePROXYHeader() async throws {
    let upstream = Upstream.answering()
    let harness = try await Harness(to: [upstream.port]) { listener, _, _ in
      listener.proxyProtocol = .v1
      var rule = RBACConfiguration.Rule()
      rule.sources = [AddressRange("10.0.0.0/8")].compactMap { $0 }
      listener.security.rules = Self.rules(allow: [rule])
      listener.security.rates = [Self.rate(1, .source)]
    }
    func ask(_ source: String) -> String? {
      let client = Wire.connect(harness.port)
      defer { client.close() }
      client.send("PROXY TCP4 \(source) 127.0.0.1 4000 80\r\n" + get("/", "X-Forwarded-For: 10.0.0.1\r\n"))
      return client.message().map { String($0.head.split(separator: " ")[1]) }
    }
    #expect(ask("10.0.0.1") == "200" && ask("10.0.0.1") == "429" && ask("10.0.0.2") == "200")
    #expect(ask("127.0.0.1") == "403" && ask("11.0.0.1") == "403")
    await harness.stop()
    upstream.stop()
  }

  @Test func streamsAboveTheRateAreClosed() async throws {
    let upstream = Upstream { wire, _, _ in wire.send("hello") }
    let harness = try await Harness(to: [upstream.port]) { listener, _, _ in
      listener.listenerProtocol = .tcp
      listener.security.rates = [Self.rate(2, .source)]
    }
    let received = (0..<3).map { _ in
      let client = Wire.connect(harness.port)
      defer { client.close() }
      return client.take(5).count
    }
    #expect(received == [5, 5, 0] && upstream.connectionCount == 2)
    #expect(await harness.records.lines(3).contains { $0.contains("\"flags\":\"RL\"") })
    await harness.stop()
    upstream.stop()
  }

  @Test func streamsAreJudgedWhenTheyAreAccepted() async throws {
    let upstream = Upstream { wire, _, _ in
      wire.send("hello")
      _ = wire.takeAll()
    }
    func connect(_ source: String) async throws -> [UInt8] {
      let harness = try await Harness(to: [upstream.port]) { listener, _, _ in
        listener.listenerProtocol = .tcp
        var rule = RBACConfiguration.Rule()
        rule.sources = [AddressRange(source)].compactMap { $0 }
        listener.security.rules = Self.rules(allow: [rule])
      }
      let client = Wire.connect(harness.port)
      let received = client.take(5)
      client.close()
      if received.isEmpty {
        #expect(await harness.records.lines(1).first?.contains("\"flags\":\"UAEX\"") == true)
      }
      await harness.stop()
      return received
    }
    #expect(try await connect("127.0.0.0/8") == Array("hello".utf8))
    let before = upstream.connectionCount
    #expect(try await connect("10.0.0.0/8").isEmpty)
    #expect(upstream.connectionCount == before)
    upstream.stop()
  }

  @Test func octetsThatAreNoHTTPDoNotLeadAroundTheChecks() async throws {
    let upstream = Upstream { wire, _, upstream in
      upstream.note(String(decoding: wire.receive(), as: UTF8.self))
    }
    let harness = try await Harness(to: [upstream.port]) { listener, _, _ in
      var rule = RBACConfiguration.Rule()
      rule.methods = ["GET"]
      listener.security.rules = Self.rules(allow: [rule])
    }
    let client = Wire.connect(harness.port)
    client.send([0x00, 0x01, 0x02, 0x03, 0x0D, 0x0A, 0x0D, 0x0A])
    #expect(client.message()?.head.hasPrefix("HTTP/1.1 400") == true)
    client.close()
    #expect(upstream.requests.isEmpty && upstream.connectionCount == 0)
    await harness.stop()
    upstream.stop()
  }

  @Test func connectionsAboveTheLimitAreCounted() async throws {
    let upstream = Upstream.answering()
    let harness = try await Harness(to: [upstream.port]) { listener, _, _ in listener.maxConnections = 1 }
    let first = Wire.connect(harness.port)
    first.send(get())
    #expect(first.message() != nil)
    let second = Wire.connect(harness.port)
    second.send(get())
    #expect(second.message() == nil)
    let counter = "outrider_downstream_refused_total{direction=\"outbound\",listener=\"web\"}"
    await until { harness.metric(counter) == 1 }
    #expect(harness.metric(counter) == 1)
    first.close()
    second.close()
    await harness.stop()
    upstream.stop()
  }
}
