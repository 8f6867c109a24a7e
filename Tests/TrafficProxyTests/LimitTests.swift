import Glibc
import Telemetry
import Testing
import Traffic
import Vocabulary

@testable import TrafficProxy

/// Limits of clusters, and what happens when nothing moves.
@Suite(.serialized) struct LimitTests {
  /// Takes requests and never answers.
  static func silent() -> Upstream {
    Upstream { wire, _, upstream in
      while upstream.request(wire) != nil {}
    }
  }

  @Test func oneConnectionAboveTheLimitIs503() async throws {
    let upstream = Self.silent()
    let harness = try await Harness(to: [upstream.port]) { _, cluster, _ in cluster.maxConnections = 2 }
    let held = (0..<2).map { _ in Wire.connect(harness.port) }
    for client in held { client.send(get()) }
    while upstream.requests.count < 2 { await Task.yield() }
    let third = Wire.connect(harness.port)
    third.send(get())
    let reply = try #require(third.message())
    #expect(reply.head.hasPrefix("HTTP/1.1 503") && reply.head.contains("error=connection_limit_reached"))
    #expect(reply.body.contains("\"reason\":\"overflow\"") && reply.body.contains("2 connections, its limit"))
    #expect(await harness.records.lines(1).first?.contains("\"flags\":\"UO\"") == true)
    #expect(upstream.connectionCount == 2)
    for client in held + [third] { client.close() }
    await harness.stop()
    upstream.stop()
  }

  @Test func oneConnectAboveTheLimitIs503() async throws {
    // A backlog of one that is full: further connects neither succeed nor fail.
    let (fd, port) = listeningSocket(backlog: 0)
    let full = Wire.connect(port)
    let harness = try await Harness(to: [port]) { _, cluster, _ in
      cluster.maxPending = 1
      cluster.connectTimeout = .seconds(60)
    }
    let first = Wire.connect(harness.port)
    first.send(get())
    while harness.proxy.inFlight == 0 { await Task.yield() }
    let second = Wire.connect(harness.port)
    second.send(get())
    let reply = try #require(second.message())
    #expect(reply.head.hasPrefix("HTTP/1.1 503") && reply.body.contains("1 pending requests, its limit"))
    #expect(await harness.records.lines(1).first?.contains("\"flags\":\"UO\"") == true)
    for client in [full, first, second] { client.close() }
    await harness.stop()
    close(fd)
  }

  @Test func aTryThatTakesTooLongGoesToTheNext() async throws {
    let upstream = Upstream { wire, number, upstream in
      while upstream.request(wire) != nil {
        if number > 0 { wire.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok") }
      }
    }
    let harness = try await Harness(to: [upstream.port]) { listener, _, _ in
      listener.retries.perTryTimeout = .milliseconds(100)
      listener.retries.conditions.insert(.gatewayError)
      listener.retries.backoffBase = .zero
    }
    let client = Wire.connect(harness.port)
    client.send(get())
    #expect(client.message()?.body == "ok")
    #expect(await harness.records.lines(1).first?.contains("\"tries\":2") == true)
    // A POST may have been seen: its try is not made again.
    let other = Self.silent()
    let strict = try await Harness(to: [other.port]) { listener, _, _ in
      listener.retries.perTryTimeout = .milliseconds(100)
      listener.retries.conditions.insert(.gatewayError)
    }
    let poster = Wire.connect(strict.port)
    poster.send(post("once"))
    let reply = try #require(poster.message())
    #expect(reply.head.hasPrefix("HTTP/1.1 504") && reply.body.contains("try_timeout"))
    #expect(other.requests.count == 1)
    client.close()
    poster.close()
    await harness.stop()
    await strict.stop()
    upstream.stop()
    other.stop()
  }

  @Test func aResponseThatStandsStillIsCut() async throws {
    let upstream = Upstream { wire, _, upstream in
      guard upstream.request(wire) != nil else { return }
      wire.send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nbegun")
      _ = wire.receive()
    }
    let harness = try await Harness(to: [upstream.port]) { listener, _, _ in listener.idleTimeout = .milliseconds(100) }
    let client = Wire.connect(harness.port)
    client.send(get())
    #expect(client.take(until: "begun") != nil)
    #expect(client.takeAll().isEmpty, "the connection ends before the length is reached")
    #expect(await harness.records.lines(1).first?.contains("\"flags\":\"SI\"") == true)
    client.close()
    await harness.stop()
    upstream.stop()
  }

  @Test func aResponseThatMovesIsNotCut() async throws {
    let upstream = Upstream { wire, _, upstream in
      guard upstream.request(wire) != nil else { return }
      wire.send("HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n")
      // In all several times the timeout, each piece within it.
      for _ in 0..<8 {
        wire.send("x")
        usleep(100_000)  // between two looks
      }
    }
    let harness = try await Harness(to: [upstream.port]) { listener, _, _ in
      listener.idleTimeout = .milliseconds(400)
      listener.timeout = .milliseconds(400)
    }
    let client = Wire.connect(harness.port)
    client.send(get())
    #expect(client.message()?.body == "xxxxxxxx")
    client.close()
    await harness.stop()
    upstream.stop()
  }

  @Test func aRequestBodyThatStandsStillIs504AndATunnelIsClosed() async throws {
    let upstream = Self.silent()
    let harness = try await Harness(to: [upstream.port]) { listener, _, _ in listener.idleTimeout = .milliseconds(100) }
    let client = Wire.connect(harness.port)
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf")
    let reply = try #require(client.message())
    #expect(reply.head.hasPrefix("HTTP/1.1 504") && reply.body.contains("stream_idle"))
    client.close()
    await harness.stop()

    let tunnel = try await Harness(to: [upstream.port]) { listener, _, _ in
      listener.listenerProtocol = .tcp
      listener.idleTimeout = .milliseconds(100)
    }
    let end = Wire.connect(tunnel.port)
    end.send("x")
    #expect(end.takeAll().isEmpty)
    end.close()
    await tunnel.stop()
    upstream.stop()
  }

  @Test func aConnectionWithoutARequestIsClosed() async throws {
    let upstream = Upstream.answering()
    let harness = try await Harness(to: [upstream.port]) { listener, _, _ in
      listener.downstreamIdle = .milliseconds(100)
    }
    let client = Wire.connect(harness.port)
    client.send(get())
    #expect(client.message()?.body == "ok")
    #expect(client.takeAll().isEmpty)
    #expect(harness.proxy.inFlight == 0)
    client.close()
    await harness.stop()
    upstream.stop()
  }
}
