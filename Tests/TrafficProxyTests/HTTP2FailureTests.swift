import Foundation
import HTTP1
import HTTP2
import NIOCore
import Synchronization
import Testing
import Traffic

@testable import TrafficProxy

/// Resets, refusals, goodbyes and slow sides of HTTP/2 connections, on real sockets.
@Suite(.timeLimit(.minutes(2))) struct HTTP2FailureTests {
  @Test func errorsOfOurOwnAreResponses() async throws {
    let harness = try await Harness(to: [closedPort()]) { listener, _, _ in listener.retries.attempts = 0 }
    let client = HTTP2Peer.client(harness.port)
    let reply = try #require(client.message(of: try client.ask()))
    #expect(reply.message.head.hasPrefix("HTTP/1.1 503"))
    #expect(reply.message.head.lowercased().contains("proxy-status: outrider; error=connection_refused"))
    #expect(reply.message.text.contains("\"blame\":\"upstream\""))
    client.wire.close()
    await harness.stop()
  }

  @Test func refusedStreamsAreSentAgainWhateverTheMethod() async throws {
    let refusing = Upstream.http2 { peer, _, _ in
      while let (key, asked) = peer.message() {
        if asked.reset != nil { continue }
        if key.id == 1 {
          peer.reset(key, .refusedStream)
          continue
        }
        try peer.respond(key, "HTTP/1.1 200 OK\r\ncontent-length: \(asked.body.count)\r\n\r\n")
        try peer.send(key, asked.text)
      }
    }
    let harness = try await Harness.http2(to: [refusing.port])
    let client = Wire.connect(harness.port)
    client.send(post("twice"))
    let reply = try #require(client.message())
    #expect(reply.head.hasPrefix("HTTP/1.1 200") && reply.body == "twice", "\(reply)")
    let record = try #require(await harness.records.lines(1).first)
    #expect(record.contains("\"tries\":2"))
    client.close()
    await harness.stop()
    refusing.stop()
  }

  @Test func aGoodbyeOfTheUpstreamCutsNothing() async throws {
    let upstream = Upstream.http2 { peer, number, _ in
      while let (key, _) = peer.message() {
        try peer.respond(key, "HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n")
        try peer.send(key, "\(number)")
        // Every connection serves three requests.
        if key.id == 5 { peer.drain() }
      }
    }
    let harness = try await Harness.http2(to: [upstream.port])
    let client = HTTP2Peer.client(harness.port)
    for _ in 0..<12 {
      let reply = try #require(client.message(of: try client.ask("POST", "/", body: "x")))
      #expect(reply.message.head.hasPrefix("HTTP/1.1 200") && reply.message.reset == nil, "\(reply)")
    }
    #expect(upstream.connectionCount >= 3)
    client.wire.close()
    await harness.stop()
    upstream.stop()
  }

  @Test func aResponseThatBreaksOffIsReset() async throws {
    let upstream = Upstream { wire, _, upstream in
      guard upstream.request(wire) != nil else { return }
      wire.send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npart")
    }
    let harness = try await Harness(to: [upstream.port])
    let client = HTTP2Peer.client(harness.port)
    let reply = try #require(client.message(of: try client.ask()))
    #expect(reply.message.head.hasPrefix("HTTP/1.1 200") && reply.message.text == "part")
    #expect(reply.message.reset == .internalError)
    let record = try #require(await harness.records.lines(1).first)
    #expect(record.contains("\"flags\":\"UC\""))
    client.wire.close()
    await harness.stop()
    upstream.stop()
  }

  @Test func whatTheUpstreamSaysOfAResetReachesTheClient() async throws {
    let upstream = Upstream.http2 { peer, _, _ in
      while let (key, asked) = peer.message() {
        if asked.reset != nil { continue }
        try peer.respond(key, "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n")
        try peer.send(key, "part", ends: false)
        peer.reset(key, .enhanceYourCalm)
      }
    }
    let harness = try await Harness.http2(to: [upstream.port])
    let client = HTTP2Peer.client(harness.port)
    let reply = try #require(client.message(of: try client.ask()))
    #expect(reply.message.reset == .enhanceYourCalm && reply.message.text == "part")
    client.wire.close()
    let old = Wire.connect(harness.port)
    old.send(get())
    #expect(old.message()?.body.count ?? 0 < 100)
    old.close()
    await harness.stop()
    upstream.stop()
  }

  @Test func connectIsRefused() async throws {
    let harness = try await Harness(to: [closedPort()])
    let client = HTTP2Peer.client(harness.port)
    let text = "CONNECT shop.test:443 HTTP/1.1\r\nHost: shop.test:443\r\n\r\n"
    let key = try client.ask(text: text)
    #expect(client.message(of: key)?.message.head.hasPrefix("HTTP/1.1 405") == true)
    client.wire.close()
    await harness.stop()
  }

  @Test func aClientThatCancelsCancelsUpstream() async throws {
    let seen = Mutex<ErrorCode?>(nil)
    let arrived = Atomic<Bool>(false)
    let upstream = Upstream.http2 { peer, _, _ in
      guard let (key, _) = peer.head(bytes: 5) else { return }
      arrived.store(true, ordering: .relaxed)
      let code = peer.message(of: key)?.message.reset
      seen.withLock { $0 = code }
      peer.untilEnd()
    }
    let harness = try await Harness.http2(to: [upstream.port])
    let client = HTTP2Peer.client(harness.port)
    let key = try client.ask("POST", "/", body: "begun", ends: false)
    let waiting = try client.ask("POST", "/", ends: false)
    #expect(await eventually { arrived.load(ordering: .relaxed) })
    client.reset(key, .cancel)
    client.reset(waiting, .cancel)
    let record = try #require(await harness.records.lines(1).first)
    #expect(record.contains("\"flags\":\"DC\"") && record.contains("\"blame\":\"client\""))
    #expect(await eventually { seen.withLock { $0 != nil } })
    #expect(seen.withLock { $0 } == .cancel)
    client.wire.close()
    await harness.stop()
    upstream.stop()
  }

  @Test func drainSaysGoodbyeAndLetsStreamsEnd() async throws {
    let gate = Mutex(false)
    let upstream = Upstream { wire, _, upstream in
      guard upstream.request(wire) != nil else { return }
      while !gate.withLock({ $0 }) { sched_yield() }
      wire.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlate")
      _ = wire.receive()
    }
    let harness = try await Harness(to: [upstream.port])
    let client = HTTP2Peer.client(harness.port)
    let key = try client.ask()
    while harness.proxy.inFlight == 0 { await Task.yield() }
    let draining = Task { await harness.proxy.drain(.outbound, timeout: .seconds(20)) }
    #expect(client.untilGoAway())
    gate.withLock { $0 = true }
    #expect(client.message(of: key)?.message.text == "late")
    client.untilEnd()
    #expect(await draining.value == 0)
    client.wire.close()
    await harness.stop()
    upstream.stop()
  }

  /// A client that opens no window holds the upstream back; others on its connection go on.
  @Test func aSlowStreamHoldsItsUpstreamAlone() async throws {
    let sent = Atomic<Int>(0)
    let upstream = Upstream { wire, _, upstream in
      while let asked = upstream.request(wire) {
        guard asked.head.contains("/large") else {
          wire.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
          continue
        }
        wire.send("HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n")
        let piece = [UInt8](repeating: 0x78, count: 1 << 16)
        while wire.send(piece) { sent.add(1 << 16, ordering: .relaxed) }
      }
    }
    let harness = try await Harness(to: [upstream.port])
    var limits = HTTP2Limits()
    limits.streamWindow = 65_535
    limits.connectionWindow = 1 << 20
    let client = HTTP2Peer.client(harness.port, limits: limits)
    client.drains = false
    let large = try client.ask("GET", "/large")
    #expect(client.head(of: large, bytes: 65_535) != nil)
    for _ in 0..<20 {
      #expect(client.message(of: try client.ask("GET", "/small"))?.message.text == "ok")
    }
    // What fits into sockets and buffers, and not what the upstream has.
    #expect(sent.load(ordering: .relaxed) < 20_000_000)
    client.reset(large, .cancel)
    #expect(client.message(of: try client.ask("GET", "/small"))?.message.text == "ok")
    client.wire.close()
    await harness.stop()
    upstream.stop()
  }
}
