import HTTP1
import HTTP2
import NIOCore
import Testing
import Traffic

@testable import TrafficProxy

/// What is special about gRPC: statuses in place of errors, deadlines, and retries by status.
@Suite(.timeLimit(.minutes(1))) struct GRPCTests {
  private static let call = "content-type: application/grpc\r\nte: trailers\r\n"

  @Test func errorsAreStatuses() async throws {
    let harness = try await Harness(to: [closedPort()]) { listener, cluster, _ in
      cluster.spoken = .http2
      listener.retries.attempts = 0
    }
    let client = HTTP2Peer.client(harness.port)
    let reply = try #require(client.message(of: try client.ask("POST", "/a.B/C", Self.call, body: "x")))
    #expect(reply.message.head.hasPrefix("HTTP/1.1 200") && reply.message.head.contains("grpc-status: 14"))
    #expect(reply.message.head.contains("application/grpc") && reply.message.body.isEmpty)
    let record = try #require(await harness.records.lines(1).first)
    #expect(record.contains("\"grpc_status\":14") && record.contains("\"flags\":\"UF\""))
    client.wire.close()
    await harness.stop()
  }

  @Test func theDeadlineOfTheCallHolds() async throws {
    let upstream = Upstream.http2 { peer, _, _ in
      while let (key, asked) = peer.message() {
        guard asked.reset == nil, asked.head.contains("/begun") else { continue }
        try peer.respond(key, "HTTP/1.1 200 OK\r\ncontent-type: application/grpc\r\n\r\n")
        try peer.send(key, "message", ends: false)
      }
    }
    let harness = try await Harness.http2(to: [upstream.port])
    let client = HTTP2Peer.client(harness.port)
    let fields = Self.call + "grpc-timeout: 150m\r\n"
    let silent = try #require(client.message(of: try client.ask("POST", "/silent", fields, body: "x")))
    #expect(silent.message.head.contains("grpc-status: 4"))
    let begun = try #require(client.message(of: try client.ask("POST", "/begun", fields, body: "x")))
    #expect(begun.message.text == "message" && begun.message.trailers.contains("grpc-status: 4"), "\(begun)")
    let records = await harness.records.lines(2)
    #expect(records.allSatisfy { $0.contains("\"flags\":\"UT\"") && $0.contains("\"grpc_status\":4") })
    client.wire.close()
    await harness.stop()
    upstream.stop()
  }

  @Test func aStatusAloneIsRetriedAndMessagesAreNot() async throws {
    let upstream = Upstream.http2 { peer, _, _ in
      var calls = 0
      while let (key, asked) = peer.message() {
        if asked.reset != nil { continue }
        calls += 1
        if calls == 1 {
          try peer.respond(
            key, "HTTP/1.1 200 OK\r\ncontent-type: application/grpc\r\ngrpc-status: 14\r\n\r\n", ends: true)
        } else {
          try peer.respond(key, "HTTP/1.1 200 OK\r\ncontent-type: application/grpc\r\n\r\n")
          try peer.send(key, asked.text, trailers: "grpc-status: \(calls == 2 ? 0 : 14)\r\n\r\n")
        }
      }
    }
    let harness = try await Harness.http2(to: [upstream.port]) { listener, _ in
      listener.retries.conditions = [.unavailable]
    }
    let client = HTTP2Peer.client(harness.port)
    let first = try #require(client.message(of: try client.ask("POST", "/a.B/C", Self.call, body: "hello")))
    #expect(first.message.text == "hello" && first.message.trailers.contains("grpc-status: 0"), "\(first)")
    let second = try #require(client.message(of: try client.ask("POST", "/a.B/C", Self.call, body: "again")))
    #expect(second.message.text == "again" && second.message.trailers.contains("grpc-status: 14"))
    let records = await harness.records.lines(2)
    #expect(records[0].contains("\"tries\":2") && records[0].contains("\"grpc_status\":0"))
    #expect(records[1].contains("\"tries\":1") && records[1].contains("\"grpc_status\":14"))
    client.wire.close()
    await harness.stop()
    upstream.stop()
  }

  @Test(arguments: [
    ("1H", 3_600_000_000_000), ("2M", 120_000_000_000), ("3S", 3_000_000_000), ("4m", 4_000_000), ("5u", 5000),
    ("99999999n", 99_999_999),
  ])
  func timeouts(text: String, nanoseconds: UInt64) {
    #expect(Array(text.utf8).withUnsafeBytes { GRPC.timeout($0) } == nanoseconds)
  }

  @Test(arguments: ["", "1", "S", "1s", "-1S", "100000000S", "1 S"]) func timeoutsThatAreNone(text: String) {
    #expect(Array(text.utf8).withUnsafeBytes { GRPC.timeout($0) } == nil)
  }
}
