import Foundation
import Synchronization
import Telemetry
import Testing
import Traffic
import Vocabulary

@testable import TrafficProxy

@Suite struct ForwardingTests {
  @Test func forwardsAndReusesConnections() async throws {
    let upstream = Upstream.answering()
    let harness = try await Harness(to: [upstream.port], direction: .inbound)
    let client = Wire.connect(harness.port)
    for index in 0..<20 {
      client.send(get("/p\(index)?q=1", "Connection: X-Hop\r\nX-Hop: 1\r\nX-Keep: 1\r\nTE: trailers\r\n"))
      let reply = try #require(client.message())
      #expect(reply.head.hasPrefix("HTTP/1.1 200 OK\r\n") && reply.body == "ok")
    }
    #expect(upstream.connectionCount == 1)
    let seen = upstream.requests[3]
    #expect(seen.hasPrefix("GET /p3?q=1 HTTP/1.1\r\nHost: shop.test\r\n"))
    #expect(seen.contains("X-Keep: 1\r\n") && !seen.contains("X-Hop") && !seen.contains("TE:"))
    #expect(seen.contains("X-Forwarded-For: 127.0.0.1\r\n") && seen.contains("X-Forwarded-Proto: http\r\n"))
    #expect(seen.contains("X-Forwarded-Host: shop.test\r\n"))
    #expect(seen.contains("X-Request-Id: ") && seen.contains("traceparent: 00-"))
    let records = await harness.records.lines(20)
    #expect(records.count == 20)
    let first = try #require(try JSONSerialization.jsonObject(with: Data((records.first ?? "").utf8)) as? [String: Any])
    #expect(first["status"] as? Int == 200 && first["path"] as? String == "/p0?q=1")
    #expect(first["cluster"] as? String == "app" && first["method"] as? String == "GET")
    let text = harness.metrics.prometheusText()
    #expect(text.contains("code_class=\"2xx\",blame=\"none\"} 20"))
    #expect(text.contains("outrider_upstream_connections_total{cluster=\"app\"} 1"))
    client.close()
    await harness.stop()
    upstream.stop()
  }

  @Test func keepsTheClientsIdentifiersAndSetsTheHostElsewhere() async throws {
    let upstream = Upstream.answering()
    let harness = try await Harness(to: [upstream.port])
    let client = Wire.connect(harness.port)
    let trace = "00-0123456789abcdef0123456789abcdef-0123456789abcdef-01"
    client.send(get("/", "X-Request-Id: mine\r\ntraceparent: \(trace)\r\n"))
    _ = client.message()
    let seen = try #require(upstream.requests.first)
    #expect(seen.contains("X-Request-Id: mine\r\n") && seen.contains("traceparent: \(trace)\r\n"))
    #expect(seen.contains("Host: 127.0.0.1:\(upstream.port)\r\n") && !seen.contains("X-Forwarded-For"))
    #expect(await harness.records.lines(1).first?.contains("\"request_id\":\"mine\"") == true)
    client.close()
    await harness.stop()
    upstream.stop()
  }

  @Test func streamsChunksBothWays() async throws {
    let upstream = Upstream.answering(
      "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;x\r\nhello\r\n1\r\n!\r\n0\r\n\r\n")
    let harness = try await Harness(to: [upstream.port])
    let client = Wire.connect(harness.port)
    for _ in 0..<3 {
      client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
      for piece in ["3\r\na", "bc\r", "\n2\r\nde\r\n0\r", "\n\r\n"] { client.send(piece) }
      let reply = try #require(client.message())
      #expect(reply.body == "5;x\r\nhello\r\n1\r\n!\r\n0\r\n\r\n")
    }
    #expect(upstream.requests.allSatisfy { $0.hasSuffix("3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n") })
    #expect(upstream.connectionCount == 1)
    client.close()
    let old = Wire.connect(harness.port)
    old.send("GET / HTTP/1.0\r\n\r\n")
    let plain = String(decoding: old.takeAll(), as: UTF8.self)
    #expect(plain.hasSuffix("\r\n\r\nhello!") && !plain.lowercased().contains("transfer-encoding"))
    old.close()
    await harness.stop()
    upstream.stop()
  }

  @Test func answersPipelinedRequestsInOrder() async throws {
    let upstream = Upstream { wire, _, upstream in
      while let request = upstream.request(wire) {
        let path = request.head.split(separator: " ")[1]
        wire.send("HTTP/1.1 200 OK\r\nContent-Length: \(path.utf8.count)\r\n\r\n\(path)")
      }
    }
    let harness = try await Harness(to: [upstream.port])
    let client = Wire.connect(harness.port)
    client.send((0..<50).map { get("/n\($0)") }.joined())
    for index in 0..<50 { #expect(client.message()?.body == "/n\(index)") }
    client.close()
    await harness.stop()
    upstream.stop()
  }

  @Test func handlesHeadInterimResponsesAndBodiesUntilClose() async throws {
    let upstream = Upstream { wire, _, upstream in
      while let request = upstream.request(wire) {
        if request.head.hasPrefix("HEAD") {
          wire.send("HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n")
        } else if request.head.contains("/close") {
          wire.send("HTTP/1.1 200 OK\r\n\r\nuntil the end")
          return
        } else {
          wire.send("HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n")
        }
      }
    }
    let harness = try await Harness(to: [upstream.port])
    let client = Wire.connect(harness.port)
    client.send(get(method: "HEAD"))
    #expect(client.message(hasBody: false)?.head.contains("Content-Length: 99") == true)
    client.send(get())
    #expect(client.message()?.head.hasPrefix("HTTP/1.1 103") == true)
    #expect(client.message()?.head.hasPrefix("HTTP/1.1 204") == true)
    client.send(get("/close"))
    let rest = String(decoding: client.takeAll(), as: UTF8.self)
    #expect(rest.contains("Connection: close\r\n") && rest.hasSuffix("\r\n\r\nuntil the end"))
    client.close()
    await harness.stop()
    upstream.stop()
  }

  @Test func passesExpectContinue() async throws {
    let upstream = Upstream { wire, _, _ in
      guard wire.take(until: "\r\n\r\n") != nil else { return }
      wire.send("HTTP/1.1 100 Continue\r\n\r\n")
      let body = String(decoding: wire.take(5), as: UTF8.self)
      wire.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n\(body)")
    }
    let harness = try await Harness(to: [upstream.port])
    let client = Wire.connect(harness.port)
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
    #expect(client.message()?.head.hasPrefix("HTTP/1.1 100") == true)
    client.send("hello")
    #expect(client.message()?.body == "hello")
    client.close()
    await harness.stop()
    upstream.stop()
  }

  @Test func streamsALargeBodyWithBackPressure() async throws {
    let size = 64 << 20
    let written = Counted()
    let upstream = Upstream { wire, _, upstream in
      guard upstream.request(wire) != nil else { return }
      wire.send("HTTP/1.1 200 OK\r\nContent-Length: \(size)\r\n\r\n")
      let piece = [UInt8](repeating: 0x61, count: 1 << 16)
      for _ in 0..<(size / piece.count) {
        guard wire.send(piece) else { return }
        written.add(piece.count)
      }
    }
    let harness = try await Harness(to: [upstream.port])
    let client = Wire.connect(harness.port)
    client.send(get())
    #expect(client.take(until: "\r\n\r\n") != nil)
    // While nothing is read, the upstream can only fill buffers: kernel's and one watermark. So many turns of the loop
    // would fetch far more, if it went on reading.
    for _ in 0..<20_000 { try await harness.turn() }
    #expect(written.value < 24 << 20)
    var received = 0
    while received < size {
      let more = client.take(min(1 << 16, size - received)).count
      if more == 0 { break }
      received += more
    }
    #expect(received == size)
    client.close()
    await harness.stop()
    upstream.stop()
  }

  @Test func splicesUpgrades() async throws {
    let upstream = Upstream { wire, _, upstream in
      guard upstream.request(wire) != nil else { return }
      wire.send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\nhi")
      while case let bytes = wire.receive(), !bytes.isEmpty { wire.send(bytes) }
    }
    let harness = try await Harness(to: [upstream.port])
    let client = Wire.connect(harness.port)
    client.send(get("/", "Connection: Upgrade\r\nUpgrade: echo\r\n"))
    let head = try #require(client.take(until: "\r\n\r\n"))
    #expect(head.hasPrefix("HTTP/1.1 101") && head.contains("Upgrade: echo"))
    #expect(upstream.requests[0].contains("Connection: Upgrade\r\nUpgrade: echo\r\n"))
    #expect(client.take(2) == Array("hi".utf8))
    client.send("ping")
    #expect(client.take(4) == Array("ping".utf8))
    client.close()
    #expect(await harness.records.lines(1).first?.contains("\"status\":101") == true)
    await harness.stop()
    upstream.stop()
  }

  @Test func splicesTCPWithHalfClose() async throws {
    let upstream = Upstream { wire, _, _ in
      let all = wire.takeAll()
      wire.send(Array(all.reversed()))
    }
    let harness = try await Harness(to: [upstream.port]) { listener, _, _ in listener.listenerProtocol = .tcp }
    let client = Wire.connect(harness.port)
    client.send("abc")
    client.finishSending()
    #expect(client.takeAll() == Array("cba".utf8))
    client.close()
    await harness.stop()
    upstream.stop()
  }

  @Test func routesRedirectsRepliesRewritesEditsAndInjects() async throws {
    let upstream = Upstream.answering("HTTP/1.1 200 OK\r\nServer: x\r\nContent-Length: 2\r\n\r\nok")
    let reference = SecretReference(name: "api", field: "token")
    let resolve: TrafficProxy.SecretResolver = {
      $0.references.first == reference ? Array("Bearer s3cret".utf8) : nil
    }
    let harness = try await Harness(to: [upstream.port], secrets: resolve) { listener, _, _ in
      var redirect = RouteConfiguration(action: .redirect(to: "https://new.test/", code: 308))
      redirect.match.path = .exact("/old")
      var respond = RouteConfiguration(action: .respond(status: 403, body: "no", headers: []))
      respond.match.methods = ["DELETE"]
      var api = RouteConfiguration(action: .cluster("up"))
      api.match.path = .prefix("/api/")
      api.rewritePrefix = "/v2/"
      api.rewriteHost = "inner.test"
      api.requestHeaders.set = [.init("X-Set", "1")]
      api.requestHeaders.remove = ["Cookie"]
      api.responseHeaders.remove = ["server"]
      api.inject = [InjectedHeader(name: "Authorization", value: SecretTemplate(parts: [.secret(reference)]))]
      var broken = RouteConfiguration(action: .cluster("up"))
      broken.inject = [InjectedHeader(name: "A", value: SecretTemplate(parts: [.secret(.init(name: "x", field: "y"))]))]
      broken.match.path = .exact("/broken")
      listener.routes = [redirect, respond, api, broken]
    }
    let client = Wire.connect(harness.port)
    client.send(get("/old"))
    let moved = client.message()
    #expect(
      moved?.head.contains("308 Permanent Redirect") == true
        && moved?.head.contains("location: https://new.test/") == true)
    client.send(get(method: "DELETE"))
    #expect(client.message()?.body == "no")
    client.send(get("/api/a?b", "Cookie: c\r\nx-set: 0\r\nAuthorization: mine\r\n"))
    #expect(client.message()?.head.contains("Server") == false)
    let seen = try #require(upstream.requests.first)
    #expect(seen.hasPrefix("GET /v2/a?b HTTP/1.1\r\nHost: inner.test\r\n"))
    #expect(seen.contains("X-Set: 1\r\n") && !seen.contains("x-set") && !seen.contains("Cookie"))
    #expect(seen.contains("Authorization: Bearer s3cret\r\n") && !seen.contains("mine"))
    client.send(get("/broken"))
    let missing = try #require(client.message())
    #expect(missing.head.hasPrefix("HTTP/1.1 503") && missing.body.contains("\"blame\":\"config\""))
    client.send(get("/nowhere"))
    #expect(client.message()?.head.contains("error=destination_not_found") == true)
    #expect(!harness.records.text.withLock { $0 }.contains("s3cret"))
    client.close()
    await harness.stop()
    upstream.stop()
  }
}

final class Counted: Sendable {
  private let lock = NSLock()
  private nonisolated(unsafe) var count = 0
  func add(_ amount: Int) { lock.withLock { count += amount } }
  var value: Int { lock.withLock { count } }
}
