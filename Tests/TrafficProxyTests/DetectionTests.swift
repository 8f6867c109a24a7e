import Foundation
import Telemetry
import Testing
import Traffic
import Vocabulary

@testable import TrafficProxy

/// `protocol: auto` on real sockets.
@Suite struct DetectionTests {
  /// Greets, then answers each octet; or answers requests.
  static func greeter() -> Upstream {
    Upstream { wire, _, _ in
      wire.send("220 ready\r\n")
      while true {
        let piece = wire.receive()
        if piece.isEmpty { return }
        wire.send(piece)
      }
    }
  }

  @Test func theServerMayGreetFirst() async throws {
    let upstream = Self.greeter()
    let harness = try await Harness(to: [upstream.port])
    for _ in 0..<5 {
      let client = Wire.connect(harness.port)
      #expect(client.take(until: "\r\n") == "220 ready\r\n")
      client.send("GET / HTTP/1.1\r\n")
      #expect(client.take(until: "\r\n") == "GET / HTTP/1.1\r\n")
      client.close()
    }
    #expect(upstream.connectionCount == 5)
    #expect(await harness.records.lines(5).allSatisfy { $0.contains("\"status\":0") && !$0.contains("blame") })
    await harness.stop()
    upstream.stop()
  }

  @Test func aSilentClientsRequestUsesTheConnectionThatWasOpenedForIt() async throws {
    let upstream = Upstream.answering()
    let harness = try await Harness(to: [upstream.port])
    let client = Wire.connect(harness.port)
    await until { upstream.connectionCount > 0 }
    for _ in 0..<3 {
      client.send(get())
      #expect(client.message()?.body == "ok")
    }
    #expect(upstream.connectionCount == 1)
    client.close()
    // Nobody speaks, and the client leaves: nothing is recorded, nothing stays in flight.
    let silent = Wire.connect(harness.port)
    await until { upstream.connectionCount > 1 }
    silent.close()
    #expect(await harness.records.lines(3).count == 3)
    #expect(harness.proxy.inFlight == 0)
    await harness.stop()
    upstream.stop()
  }

  @Test(arguments: [
    [0x16, 3, 1, 0, 5, 1, 0, 0, 1, 0], [0, 0, 0, 8, 4, 0xD2, 0x16, 0x2F], Array("*1\r\n$4\r\nPING\r\n".utf8),
  ])
  func whatIsNotHTTPPasses(octets: [UInt8]) async throws {
    let upstream = Upstream { wire, _, _ in wire.send(wire.take(octets.count)) }
    let harness = try await Harness(to: [upstream.port])
    let client = Wire.connect(harness.port)
    client.send(octets)
    #expect(client.take(octets.count) == octets)
    client.close()
    await harness.stop()
    upstream.stop()
  }

  /// Silent clients cannot make more than a handful of connections to the upstream, and a request still gets through.
  @Test func silentClientsAreManyAndTheirConnectionsFew() async throws {
    let upstream = Upstream.answering()
    let harness = try await Harness(to: [upstream.port])
    let clients = (0..<150).map { _ in Wire.connect(harness.port) }
    await until { upstream.connectionCount >= 64 }
    clients[149].send(get())
    #expect(clients[149].message()?.body == "ok")
    clients[0].send(get())
    #expect(clients[0].message()?.body == "ok")
    // Two have spoken: two more may have got one of their own.
    #expect((64...67).contains(upstream.connectionCount))
    for client in clients { client.close() }
    await harness.stop()
    upstream.stop()
  }

  @Test func theFirstOctetsMayComeOneByOne() async throws {
    let upstream = Upstream.answering()
    let harness = try await Harness(to: [upstream.port])
    let client = Wire.connect(harness.port)
    for octet in get().utf8 { client.send([octet]) }
    #expect(client.message()?.body == "ok")
    client.close()
    await harness.stop()
    upstream.stop()
  }

  @Test func withSeveralDestinationsItIsRefused() async throws {
    let upstream = Self.greeter()
    let harness = try await Harness(to: [upstream.port]) { listener, _, _ in
      var rule = RouteConfiguration(action: .respond(status: 204, body: "", headers: []))
      rule.match.path = .exact("/ping")
      listener.routes.insert(rule, at: 0)
    }
    for (text, word) in [("\u{16}\u{3}\u{1}\u{2}", "TLS"), ("EHLO me\r\n", "one cluster")] {
      let client = Wire.connect(harness.port)
      client.send(text)
      let reply = try #require(client.message())
      #expect(reply.head.hasPrefix("HTTP/1.1 400 ") && reply.body.contains("\"reason\":\"not_http\""))
      #expect(reply.body.contains(word))
      client.close()
    }
    #expect(upstream.connectionCount == 0)
    await harness.stop()
    upstream.stop()
  }

  @Test func whatOnlyHTTPAllowsIsNotSlippedPast() async throws {
    let upstream = Self.greeter()
    let harness = try await Harness(to: [upstream.port]) { listener, _, _ in
      listener.requestHeaders.set = [.init("X-Team", "shop")]
    }
    let client = Wire.connect(harness.port)
    client.send("\u{0}\u{1}\u{2}")
    #expect(client.message()?.head.hasPrefix("HTTP/1.1 400 ") == true)
    client.close()
    await harness.stop()
    upstream.stop()
  }

  @Test func aServerThatCannotBeReachedAnswersTheRequestOfASilentClient() async throws {
    let harness = try await Harness(to: [closedPort()])
    let client = Wire.connect(harness.port)
    await until {
      harness.metrics.prometheusText().contains("outrider_upstream_connect_failures_total{cluster=\"up\"} 1")
    }
    client.send(get())
    #expect(client.message()?.head.hasPrefix("HTTP/1.1 503 ") == true)
    client.close()
    await harness.stop()
  }
}
