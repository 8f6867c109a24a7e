import Glibc
import HTTP2
import NIOCore
import Synchronization
import Telemetry
import Testing
import Traffic
import Vocabulary

@testable import TrafficProxy

/// An authorization service that is asked about each request, on real sockets.
@Suite(.timeLimit(.minutes(2))) struct ExternalGateTests {
  /// Allows `/ok`, and answers the rest as its path says.
  private static func service() -> Upstream {
    Upstream { wire, _, service in
      while let request = service.request(wire) {
        let path = request.head.split(separator: " ")[1]
        if path.contains("silent") { continue }
        if path.contains("broken") { return }
        let status =
          path.contains("login")
          ? "302 Found" : path.contains("deny") ? "403 Forbidden" : path.contains("fail") ? "503 No" : "200 OK"
        let body = path.contains("large") ? String(repeating: "x", count: 70_000) : "from the service"
        wire.send(
          "HTTP/1.1 \(status)\r\nX-Who: ann\r\nX-Other: 1\r\nLocation: /login\r\nConnection: keep-alive, X-Hop\r\nX-Hop: 1\r\n"
            + "Content-Length: \(body.utf8.count)\r\n\r\n\(body)")
      }
    }
  }

  private static func harness(
    _ upstream: Int, _ service: Int, _ edit: (inout ExternalAuthorizationConfiguration) -> Void = { _ in }
  ) async throws -> Harness {
    var external = ExternalAuthorizationConfiguration(url: "http://127.0.0.1:\(service)")
    external.pathPrefix = "/check"
    external.timeout = .seconds(4)
    external.headers = ["authorization", "x-mine"]
    external.allowedHeaders = ["X-Who"]
    edit(&external)
    let made = external
    return try await Harness(to: [upstream]) { listener, _, _ in listener.security.external = made }
  }

  @Test func itDecides() async throws {
    let (service, upstream) = (Self.service(), Upstream.answering())
    let harness = try await Self.harness(upstream.port, service.port)
    let client = Wire.connect(harness.port)
    client.send(
      "PUT /ok?a=1 HTTP/1.1\r\nHost: shop.test\r\nX-Mine: 7\r\nX-Secret: 8\r\nX-Who: root\r\nAuthorization: t\r\nContent-Length: 4\r\n\r\nbo"
    )
    client.send("dy")
    #expect(client.message()?.head.hasPrefix("HTTP/1.1 200") == true)
    let asked = try #require(service.requests.first)
    #expect(asked.hasPrefix("PUT /check/ok?a=1 HTTP/1.1\r\n") && asked.contains("Host: shop.test\r\n"))
    #expect(asked.contains("x-mine: 7\r\n") && asked.contains("authorization: t\r\n"))
    #expect(!asked.lowercased().contains("secret") && !asked.contains("root") && !asked.contains("body"))
    let passed = try #require(upstream.requests.first)
    #expect(passed.contains("X-Who: ann\r\n") && !passed.contains("root") && !passed.contains("X-Other"))
    #expect(passed.hasSuffix("body") && passed.contains("X-Secret: 8\r\n"))

    client.send(get("/deny"))
    let denied = try #require(client.message())
    #expect(denied.head.hasPrefix("HTTP/1.1 403") && denied.body == "from the service")
    #expect(denied.head.contains("X-Other: 1\r\n") && !denied.head.contains("X-Hop"))
    #expect(denied.head.contains("Proxy-Status: outrider; error=http_request_denied"))
    client.send(get("/login"))
    #expect(client.message()?.head.contains("Location: /login\r\n") == true)
    client.close()
    for (path, detail) in [
      ("/fail", "its answer is 503"), ("/broken", "could not be reached"), ("/large", "larger than 64 KiB"),
    ] {
      let failed = harness.ask(path)
      #expect(
        failed.status == 403 && failed.body.contains("\"reason\":\"authorization_failed\",\"blame\":\"upstream\""))
      #expect(failed.body.contains(detail), "\(failed.body)")
    }
    #expect(upstream.requests.count == 1)
    let records = await harness.records.lines(6)
    #expect(records.filter { $0.contains("\"flags\":\"UAEX\"") }.count == 5)
    let counter = "outrider_authorization_total{direction=\"outbound\",listener=\"web\",filter=\"external\",result="
    #expect(harness.metric(counter + "\"allowed\"}") == 1 && harness.metric(counter + "\"denied\"}") == 2)
    #expect(harness.metric(counter + "\"error\"}") == 3)

    let streams = HTTP2Peer.client(harness.port)
    let fine = try #require(streams.message(of: try streams.ask("POST", "/ok", body: "x")))
    #expect(fine.message.head.hasPrefix("HTTP/1.1 200"))
    let refused = try #require(streams.message(of: try streams.ask("POST", "/deny", body: "x")))
    #expect(refused.message.head.hasPrefix("HTTP/1.1 403") && refused.message.text == "from the service")
    let call = "content-type: application/grpc\r\nte: trailers\r\n"
    let status = try #require(streams.message(of: try streams.ask("POST", "/deny", call, body: "x")))
    #expect(status.message.head.contains("grpc-status: 7"))
    streams.wire.close()
    await harness.stop()
    service.stop()
    upstream.stop()
  }

  @Test func silenceIsRefusedInTime() async throws {
    let (service, upstream) = (Self.service(), Upstream.answering())
    let harness = try await Self.harness(upstream.port, service.port) { $0.timeout = .milliseconds(150) }
    let start = ContinuousClock.now
    let failed = harness.ask("/silent")
    #expect(failed.status == 403 && failed.body.contains("no answer within its timeout"))
    #expect(ContinuousClock.now - start >= .milliseconds(150))
    await until { harness.proxy.inFlight == 0 }
    #expect(harness.proxy.inFlight == 0 && upstream.requests.isEmpty)
    await harness.stop()
    // Nobody listens there: closed, or open where that is written.
    let closed = try await Self.harness(upstream.port, closedPort())
    #expect(closed.ask("/").status == 403)
    await closed.stop()
    let open = try await Self.harness(upstream.port, closedPort()) { $0.failsOpen = true }
    #expect(open.ask("/", "X-Who: root\r\n").status == 200)
    #expect(upstream.requests.count == 1 && upstream.requests[0].contains("root") == false)
    await open.stop()
    service.stop()
    upstream.stop()
  }

  @Test func clientsMayLeaveAndDrainsWait() async throws {
    let go = Atomic<Bool>(false)
    let service = Upstream { wire, _, service in
      while service.request(wire) != nil {
        while !go.load(ordering: .acquiring) { usleep(1000) }  // between two looks
        wire.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
      }
    }
    let upstream = Upstream.answering()
    let harness = try await Self.harness(upstream.port, service.port) { $0.timeout = .seconds(60) }
    let (gone, stays) = (Wire.connect(harness.port), Wire.connect(harness.port))
    gone.send(get("/gone"))
    stays.send(get("/stays"))
    while service.requests.count < 2 { await Task.yield() }
    gone.close()
    await until { harness.proxy.inFlight == 1 }
    let record = try #require(await harness.records.lines(1).first)
    #expect(record.contains("\"flags\":\"DC\""), "\(record)")
    async let cut = harness.proxy.drain(.outbound, timeout: .seconds(20))
    go.store(true, ordering: .releasing)
    let reply = try #require(stays.message())
    #expect(reply.head.hasPrefix("HTTP/1.1 200") && reply.head.contains("Connection: close"))
    #expect(await cut == 0)
    #expect(upstream.requests.count == 1)
    stays.close()
    await harness.stop()
    service.stop()
    upstream.stop()
  }
}
