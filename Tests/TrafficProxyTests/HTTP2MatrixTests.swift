import Foundation
import HTTP1
import HTTP2
import Testing
import Traffic

@testable import TrafficProxy

/// Every combination of HTTP/1.1 and HTTP/2 on both sides, on real sockets.
@Suite(.timeLimit(.minutes(2))) struct HTTP2MatrixTests {
  enum Side: CaseIterable, Sendable { case http1, http2 }

  /// An upstream that tells what it was asked, with trailers where the request has some.
  static func echo(_ side: Side) -> Upstream {
    switch side {
    case .http1:
      Upstream { wire, _, upstream in
        while let head = wire.take(until: "\r\n\r\n") {
          let lower = head.lowercased()
          var body = ""
          if lower.contains("transfer-encoding: chunked") {
            while let line = wire.take(until: "\r\n"), let size = Int(line.dropLast(), radix: 16), size > 0 {
              body += String(decoding: wire.take(size + 2).dropLast(2), as: UTF8.self)
            }
            while let line = wire.take(until: "\r\n"), line != "\r\n" { body += "[\(line.dropLast())]" }
          } else if let at = lower.range(of: "content-length: ") {
            body = String(decoding: wire.take(Int(lower[at.upperBound...].prefix { $0.isNumber }) ?? 0), as: UTF8.self)
          }
          if lower.contains("x-early") { wire.send("HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n") }
          if head.hasPrefix("HEAD") {
            wire.send("HTTP/1.1 200 OK\r\nContent-Length: 77\r\n\r\n")
          } else if lower.contains("x-trailers") {
            wire.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: x-sum\r\n\r\n")
            for octet in body.utf8 { wire.send([0x31, 13, 10, octet, 13, 10]) }
            wire.send("0\r\nX-Sum: \(body.utf8.count)\r\n\r\n")
          } else {
            wire.send(
              "HTTP/1.1 200 OK\r\nContent-Length: \(body.utf8.count)\r\nX-Saw: \(lower.utf8.count > 0)\r\n\r\n\(body)")
          }
        }
      }
    case .http2:
      Upstream.http2 { peer, _, _ in
        while let (key, asked) = peer.message() {
          if asked.reset != nil { continue }
          let lines = asked.trailers.split(separator: "\r\n").map { "[\($0)]" }.joined()
          let body = asked.text + lines
          if asked.head.contains("x-early") { try peer.respond(key, "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n") }
          if asked.head.hasPrefix("HEAD") {
            try peer.respond(key, "HTTP/1.1 200 OK\r\ncontent-length: 77\r\n\r\n", ends: true)
          } else if asked.head.contains("x-trailers") {
            try peer.respond(key, "HTTP/1.1 200 OK\r\ntrailer: x-sum\r\n\r\n")
            try peer.send(key, body, trailers: "x-sum: \(body.utf8.count)\r\n\r\n")
          } else {
            try peer.respond(key, "HTTP/1.1 200 OK\r\ncontent-length: \(body.utf8.count)\r\n\r\n", ends: body.isEmpty)
            if !body.isEmpty { try peer.send(key, body) }
          }
        }
      }
    }
  }

  static func harness(_ side: Side, _ port: Int) async throws -> Harness {
    try await Harness(to: [port]) { listener, cluster, _ in
      if side == .http2 { cluster.spoken = .http2 }
    }
  }

  @Test(arguments: Side.allCases) func fromHTTP2(to side: Side) async throws {
    let upstream = Self.echo(side)
    let harness = try await Self.harness(side, upstream.port)
    let client = HTTP2Peer.client(harness.port)
    let plain = try #require(client.message(of: try client.ask()))
    #expect(plain.message.head.hasPrefix("HTTP/1.1 200") && plain.message.body.isEmpty)
    let sized = try client.ask("POST", "/", "content-length: 5\r\n", body: "hello")
    #expect(client.message(of: sized)?.message.text == "hello")
    let open = try client.ask("POST", "/", body: "streamed", trailers: "x-end: yes\r\n\r\n")
    #expect(client.message(of: open)?.message.text.lowercased() == "streamed[x-end: yes]")
    let trailers = try #require(client.message(of: try client.ask("POST", "/", "x-trailers: 1\r\n", body: "abc")))
    #expect(trailers.message.text == "abc" && trailers.message.trailers.lowercased() == "x-sum: 3\r\n\r\n")
    let head = try #require(client.message(of: try client.ask("HEAD")))
    #expect(head.message.head.lowercased().contains("content-length: 77") && head.message.body.isEmpty)
    let early = try #require(client.message(of: try client.ask("GET", "/", "x-early: 1\r\n")))
    #expect(early.message.informational.hasPrefix("HTTP/1.1 103") && early.message.head.hasPrefix("HTTP/1.1 200"))
    let large = String(repeating: "0123456789", count: 100_000)
    let big = try client.ask("POST", "/", body: large)
    #expect(client.message(of: big)?.message.text == large)
    let record = try #require(await harness.records.lines(7).first)
    #expect(record.contains("\"protocol\":\"HTTP/2\"") && record.contains("\"status\":200"))
    #expect(harness.proxy.inFlight == 0 && upstream.connectionCount == 1)
    client.wire.close()
    await harness.stop()
    upstream.stop()
  }

  @Test func fromHTTP1ToHTTP2() async throws {
    let upstream = Self.echo(.http2)
    let harness = try await Self.harness(.http2, upstream.port)
    let client = Wire.connect(harness.port)
    client.send(get())
    #expect(client.message()?.head.hasPrefix("HTTP/1.1 200") == true)
    client.send(post("hello"))
    #expect(client.message()?.body == "hello")
    client.send(
      "POST / HTTP/1.1\r\nHost: shop.test\r\nTransfer-Encoding: chunked\r\n\r\n"
        + "3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nX-End: yes\r\nX-More: 1\r\n\r\n")
    #expect(client.message()?.body == "abcde[x-end: yes][x-more: 1]")
    client.send("POST / HTTP/1.1\r\nHost: a\r\nx-trailers: 1\r\nContent-Length: 3\r\n\r\nabc")
    let head = try #require(client.take(until: "\r\n\r\n"))
    #expect(head.lowercased().contains("transfer-encoding: chunked"))
    #expect(client.take(until: "0\r\nx-sum: 3\r\n\r\n")?.contains("abc") == true)
    client.send(get(method: "HEAD"))
    #expect(client.message(hasBody: false)?.head.lowercased().contains("content-length: 77") == true)
    client.send(get("/", "x-early: 1\r\n"))
    #expect(client.take(until: "\r\n\r\n")?.hasPrefix("HTTP/1.1 103") == true)
    #expect(client.message()?.head.hasPrefix("HTTP/1.1 200") == true)
    client.send("GET / HTTP/1.0\r\nx-trailers: 1\r\n\r\n")
    #expect(String(decoding: client.takeAll(), as: UTF8.self).contains("\r\n\r\n"))
    #expect(upstream.connectionCount == 1)
    client.close()
    await harness.stop()
    upstream.stop()
  }

  @Test func manyStreamsShareOneConnection() async throws {
    let upstream = Self.echo(.http2)
    let harness = try await Self.harness(.http2, upstream.port)
    let client = HTTP2Peer.client(harness.port)
    let keys = try (0..<80).map { try client.ask("POST", "/", body: "number \($0)") }
    for (index, key) in keys.enumerated() { #expect(client.message(of: key)?.message.text == "number \(index)") }
    #expect(upstream.connectionCount == 1 && harness.proxy.inFlight == 0)
    client.wire.close()
    await harness.stop()
    upstream.stop()
  }

  @Test func webSocketBothWays() async throws {
    // HTTP/1.1 client, HTTP/2 upstream.
    let agreeing = Upstream.http2 { peer, _, _ in
      guard let (key, asked) = peer.head() else { return }
      #expect(asked.head.lowercased().contains("upgrade: websocket"))
      try peer.respond(key, "HTTP/1.1 101 Switching\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n")
      guard let (_, sent) = peer.head(of: key, bytes: 4) else { return }
      try peer.send(key, "<\(sent.text)>")
      peer.untilEnd()
    }
    let outbound = try await Self.harness(.http2, agreeing.port)
    let client = Wire.connect(outbound.port)
    client.send(
      get(
        "/chat",
        "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
      ))
    let answer = try #require(client.take(until: "\r\n\r\n"))
    #expect(answer.hasPrefix("HTTP/1.1 101") && answer.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "\(answer)")
    client.send("ping")
    #expect(client.take(6) == Array("<ping>".utf8))
    client.close()
    await outbound.stop()
    agreeing.stop()
    // HTTP/2 client, HTTP/1.1 upstream.
    let upstream = Upstream { wire, _, _ in
      guard let head = wire.take(until: "\r\n\r\n") else { return }
      #expect(head.lowercased().contains("sec-websocket-key: "))
      wire.send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
      wire.send(wire.take(4))
      _ = wire.takeAll()
    }
    let inbound = try await Self.harness(.http1, upstream.port)
    let peer = HTTP2Peer.client(inbound.port)
    peer.untilEstablished()
    let fields =
      "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    let key = try peer.ask("GET", "/chat", fields, body: "ping", ends: false, webSocket: true)
    let agreed = try #require(peer.head(of: key, bytes: 4))
    #expect(agreed.message.head.hasPrefix("HTTP/1.1 101") && agreed.message.text == "ping", "\(agreed)")
    peer.wire.close()
    await inbound.stop()
    upstream.stop()
  }
}
