import Foundation
import HTTP2
import Synchronization
import Telemetry
import Testing
import Traffic

@testable import TrafficProxy

@Suite struct RetryTests {
  /// The first answer of all, then another.
  private static func first(_ answer: String, then other: String) -> Upstream {
    let count = Counted()
    return Upstream { wire, _, upstream in
      while upstream.request(wire) != nil {
        count.add(1)
        wire.send(count.value == 1 ? answer : other)
      }
    }
  }

  private static let ok = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

  private static func empty(_ status: Int, _ fields: String = "") -> String {
    "HTTP/1.1 \(status) X\r\n\(fields)Content-Length: 0\r\n\r\n"
  }

  @Test(arguments: ["1", "date"]) func theWaitThatAResponseAsksForIsKept(value: String) async throws {
    var text = value
    if value == "date" {
      let form = DateFormatter()
      form.locale = Locale(identifier: "en_US_POSIX")
      form.timeZone = TimeZone(identifier: "GMT")
      form.dateFormat = "EEE, dd MMM yyyy HH:mm:ss 'GMT'"
      text = form.string(from: Date().addingTimeInterval(2))
    }
    let upstream = Self.first(Self.empty(503, "Retry-After: \(text)\r\n"), then: Self.ok)
    let harness = try await Harness(to: [upstream.port]) { listener, _, _ in
      listener.retries.conditions.insert(.gatewayError)
    }
    let client = Wire.connect(harness.port)
    let start = ContinuousClock.now
    client.send(get())
    #expect(client.message()?.body == "ok")
    // A date two seconds from now is at least one away.
    #expect(ContinuousClock.now - start > .milliseconds(900))
    client.close()
    await harness.stop()
    upstream.stop()
  }

  @Test(arguments: ["6", "3600", "Fri, 31 Dec 2100 23:59:59 GMT"])
  func aResponseThatAsksForTooLongAWaitIsPassedOn(value: String) async throws {
    let upstream = Self.first(Self.empty(503, "Retry-After: \(value)\r\n"), then: Self.ok)
    let harness = try await Harness(to: [upstream.port]) { listener, _, _ in
      listener.retries.conditions.insert(.gatewayError)
    }
    let client = Wire.connect(harness.port)
    client.send(get())
    let reply = try #require(client.message())
    #expect(reply.head.hasPrefix("HTTP/1.1 503") && reply.head.contains("Retry-After: \(value)"))
    #expect(upstream.requests.count == 1)
    client.close()
    await harness.stop()
    upstream.stop()
  }

  @Test func aWaitThatEndsBehindTheRouteTimeoutIsNotBegun() async throws {
    let upstream = Self.first(Self.empty(503, "Retry-After: 2\r\n"), then: Self.ok)
    let harness = try await Harness(to: [upstream.port]) { listener, _, _ in
      listener.retries.conditions.insert(.gatewayError)
      listener.timeout = .seconds(1)
    }
    let client = Wire.connect(harness.port)
    client.send(get())
    #expect(client.message()?.head.hasPrefix("HTTP/1.1 503") == true)
    client.close()
    await harness.stop()
    upstream.stop()
  }

  @Test(arguments: [
    empty(409), empty(302, "Location: /\r\n"), empty(200, "X-Retry: 1\r\n"), empty(404, "X-Kind: busy\r\n"),
  ])
  func namedStatusesAndFieldsAreRetried(answer: String) async throws {
    for method in ["GET", "PATCH"] {
      let upstream = Self.first(answer, then: Self.ok)
      let harness = try await Harness(to: [upstream.port]) { listener, _, _ in
        listener.retries.conditions.formUnion([.retriableStatusCodes, .retriableHeaders])
        listener.retries.statuses = [409, 302]
        listener.retries.responseHeaders = [.init(name: "X-Retry", value: nil), .init(name: "x-kind", value: "busy")]
      }
      let client = Wire.connect(harness.port)
      client.send(get("/", method: method))
      let reply = try #require(client.message())
      #expect((reply.body == "ok") == (method == "GET"), "\(method): \(reply.head)")
      #expect(upstream.requests.count == (method == "GET" ? 2 : 1))
      client.close()
      await harness.stop()
      upstream.stop()
    }
  }

  @Test(arguments: [reset(), empty(503), empty(500)]) func aPostThatWasSeenIsSentOnce(answer: String) async throws {
    let upstream = Upstream { wire, _, upstream in
      while upstream.request(wire) != nil {
        if answer.isEmpty { return wire.reset() }
        wire.send(answer)
      }
    }
    let harness = try await Harness(to: [upstream.port]) { listener, _, _ in
      listener.retries.attempts = 3
      listener.retries.conditions.formUnion([.reset, .serverError])
      listener.retries.hedgeAfter = .milliseconds(1)
    }
    let client = Wire.connect(harness.port)
    for index in 0..<4 {
      client.send(post("b\(index)"))
      #expect(client.message()?.head.hasPrefix(answer.isEmpty ? "HTTP/1.1 502" : "HTTP/1.1 50") == true)
    }
    #expect(upstream.requests.count == 4)
    client.close()
    await harness.stop()
    upstream.stop()
  }

  private static func reset() -> String { "" }

  @Test func theLastResponseIsPassedOnAndItsRecordSaysSo() async throws {
    let upstream = Upstream.answering(Self.empty(503))
    let harness = try await Harness(to: [upstream.port]) { listener, _, _ in
      listener.retries.attempts = 2
      listener.retries.conditions.insert(.gatewayError)
    }
    let client = Wire.connect(harness.port)
    client.send(get())
    #expect(client.message()?.head.hasPrefix("HTTP/1.1 503") == true)
    #expect(upstream.requests.count == 3)
    let record = await harness.records.lines(1).first
    #expect(record?.contains("\"flags\":\"URX\"") == true && record?.contains("\"tries\":3") == true)
    client.close()
    await harness.stop()
    upstream.stop()
  }

  @Test func aSlowTryGoesToAnotherEndpoint() async throws {
    let slow = Upstream { wire, _, upstream in while upstream.request(wire) != nil {} }
    let fast = Upstream.answering()
    let harness = try await Harness(to: [slow.port, fast.port]) { listener, cluster, _ in
      listener.retries.perTryTimeout = .milliseconds(100)
      listener.retries.conditions.insert(.gatewayError)
      cluster.outliers = nil
    }
    let client = Wire.connect(harness.port)
    for _ in 0..<6 {
      client.send(get())
      #expect(client.message()?.body == "ok")
    }
    client.close()
    await harness.stop()
    slow.stop()
    fast.stop()
  }

  @Test func theBudgetBoundsRetries() async throws {
    let upstream = Upstream.answering(Self.empty(503))
    let harness = try await Harness(to: [upstream.port]) { listener, cluster, _ in
      listener.retries.attempts = 3
      listener.retries.conditions.insert(.gatewayError)
      cluster.retryBudgetMinimum = 0
    }
    let client = Wire.connect(harness.port)
    client.send(get())
    #expect(client.message()?.head.hasPrefix("HTTP/1.1 503") == true)
    #expect(upstream.requests.count == 1)
    let text = harness.metrics.prometheusText()
    #expect(text.contains("outrider_upstream_retry_overflow_total{cluster=\"up\"} 1"))
    #expect(text.contains("outrider_upstream_pending{cluster=\"up\"} 0"))
    client.close()
    await harness.stop()
    upstream.stop()
  }

  // MARK: Circuit breaker

  @Test func tunnelsCountAsConnections() async throws {
    let upstream = Upstream { wire, _, _ in
      wire.send("hello")
      _ = wire.takeAll()
    }
    let harness = try await Harness(to: [upstream.port]) { listener, cluster, _ in
      listener.listenerProtocol = .tcp
      cluster.maxConnections = 1
    }
    let first = Wire.connect(harness.port)
    #expect(first.take(5).count == 5)
    let second = Wire.connect(harness.port)
    #expect(second.takeAll().isEmpty)
    #expect(
      harness.metrics.prometheusText().contains(
        "outrider_upstream_overflow_total{cluster=\"up\",limit=\"connections\"} 1"))
    #expect(await harness.records.lines(1).first?.contains("\"flags\":\"UO\"") == true)
    first.close()
    second.close()
    await harness.stop()
    upstream.stop()
  }

  @Test(arguments: [false, true]) func aKeptConnectionMakesRoomForOneThatIsNeeded(http2: Bool) async throws {
    let server = {
      http2
        ? Upstream.http2 { peer, _, _ in
          while let (key, _) = peer.message() {
            try peer.respond(key, "HTTP/1.1 200 \r\ncontent-length: 2\r\n\r\n")
            try peer.send(key, "ok")
          }
        } : Upstream.answering()
    }
    let (one, two) = (server(), server())
    let harness = try await Harness(to: [one.port, two.port]) { _, cluster, _ in
      if http2 { cluster.spoken = .http2 }
      cluster.maxConnections = 1
      cluster.balance = .roundRobin
    }
    for _ in 0..<10 {
      let client = Wire.connect(harness.port)
      client.send(get())
      #expect(client.message()?.body == "ok")
      client.close()
      // What was closed is counted out at the next turn.
      try await harness.turn()
    }
    #expect(one.connectionCount > 1 && two.connectionCount > 1)
    await harness.stop()
    one.stop()
    two.stop()
  }
}
