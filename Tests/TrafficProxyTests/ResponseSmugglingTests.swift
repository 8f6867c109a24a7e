import Foundation
import Telemetry
import Testing
import Traffic

@testable import TrafficProxy

/// Responses that two readers could take for different ones: the client gets an error or an end that it must notice,
/// and the connection that they came on carries no other request.
@Suite struct ResponseSmugglingTests {
  private static let ok = "HTTP/1.1 200 OK\r\n"
  private static let smuggled = "HTTP/1.1 299 SMUGGLED\r\nContent-Length: 0\r\n\r\n"

  /// Answers the first connection's request with those octets, and every other one as it should be.
  private static func upstream(_ octets: String) -> Upstream {
    Upstream { wire, number, upstream in
      while upstream.request(wire) != nil {
        wire.send(number == 0 ? octets : "\(ok)Content-Length: 5\r\n\r\nfresh")
      }
    }
  }

  /// The head is refused: 502, and the next request goes to another connection.
  static let refused: [String] = [
    "\(ok)Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "\(ok)Transfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n0\r\n\r\n",
    "\(ok)Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "\(ok)Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    "\(ok)Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", "\(ok)Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "\(ok)Content-Length: -1\r\n\r\n", "\(ok)Content-Length: +1\r\n\r\nx", "\(ok)Content-Length: 1, 1\r\n\r\nx",
    "\(ok)Content-Length: 1\r\nContent-Length: 2\r\n\r\nxx", "\(ok)Content-Length: 99999999999999999999\r\n\r\n",
    "\(ok)Content-Length: 9223372036854775808\r\n\r\n", "\(ok)Content-Length: 0x1\r\n\r\nx",
    "HTTP/1.1 200 OK\nContent-Length: 0\n\n", "\(ok)X: a\r\n b\r\nContent-Length: 0\r\n\r\n",
    "\(ok)X: a\rb\r\n\r\n", "\(ok)\rX: a\r\nContent-Length: 0\r\n\r\n", "\(ok)X: a\u{0}\r\n\r\n", "\(ok) X: a\r\n\r\n",
    "\(ok)no colon\r\n\r\n",
    "HTTP/1.1  200 OK\r\n\r\n", "HTTP/1.1 20 OK\r\n\r\n", "HTTP/1.1 2000 OK\r\n\r\n", "HTTP/1.1 099 No\r\n\r\n",
    "HTTP/1.1 -20 No\r\n\r\n", "HTTP/2.0 200 OK\r\n\r\n", "http/1.1 200 OK\r\n\r\n", "ICY 200 OK\r\n\r\n",
    "\r\nHTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 200 O\u{1}K\r\n\r\n",
    // 101 to a request that asked for no other protocol.
    "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n",
    ok + String(repeating: "A: b\r\n", count: 101) + "\r\n", "\(ok)X: " + String(repeating: "a", count: 66_000),
    // Informational ones without end.
    String(repeating: "HTTP/1.1 103 Early Hints\r\n\r\n", count: 5000),
  ]

  @Test(arguments: refused) func aResponseThatIsNoneIs502(octets: String) async throws {
    let upstream = Self.upstream(octets + Self.smuggled)
    let harness = try await Harness(to: [upstream.port])
    let client = Wire.connect(harness.port)
    client.send(get())
    var reply = try #require(client.message())
    var interims = 0
    while reply.head.hasPrefix("HTTP/1.1 103 ") {
      interims += 1
      reply = try #require(client.message())
    }
    #expect(interims <= 100)
    #expect(reply.head.hasPrefix("HTTP/1.1 502 ") && reply.head.contains("error=http_protocol_error"), "\(reply.head)")
    client.send(get())
    let second = try #require(client.message())
    #expect(second.head.hasPrefix(Self.ok) && second.body == "fresh")
    #expect(upstream.connectionCount == 2)
    client.close()
    await harness.stop()
    upstream.stop()
  }

  /// The body is refused: what the client gets is not complete.
  static let cut: [String] = [
    "5\r\nhello\r\n+0\r\n\r\n", "5\r\nhello\r\n0x0\r\n\r\n", "5\r\nhelloX\r\n0\r\n\r\n", "5\nhello\n0\n\n",
    "5;a\nhello\r\n0\r\n\r\n", "10000000000000000\r\nhello", "-1\r\nhello\r\n0\r\n\r\n", "0\r\nX : y\r\n\r\n",
    "0\r\nX: y\r\n z\r\n\r\n", "0\r\nX: a\u{0}\r\n\r\n",
    "5;" + String(repeating: "a", count: 17_000) + "\r\nhello\r\n0\r\n\r\n",
  ]

  @Test(arguments: cut) func aBodyThatIsNoneEndsTheConnection(body: String) async throws {
    let upstream = Self.upstream("\(Self.ok)Transfer-Encoding: chunked\r\n\r\n\(body)\(Self.smuggled)")
    let harness = try await Harness(to: [upstream.port])
    let client = Wire.connect(harness.port)
    client.send(get())
    let seen = String(decoding: client.takeAll(), as: UTF8.self)
    #expect(!seen.hasSuffix("0\r\n\r\n") && !seen.contains("SMUGGLED"), "\(seen)")
    #expect(await harness.records.lines(1).first?.contains("\"flags\":\"UC\"") == true)
    let other = Wire.connect(harness.port)
    other.send(get())
    #expect(other.message()?.body == "fresh")
    #expect(upstream.connectionCount == 2)
    client.close()
    other.close()
    await harness.stop()
    upstream.stop()
  }

  /// A whole response, and octets that nobody asked for.
  static let followed: [(String, String)] = [
    ("\(ok)Content-Length: 2\r\n\r\nok", "200"), ("\(ok)Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", "200"),
    ("HTTP/1.1 204 No Content\r\n\r\n", "204"), ("HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\nhello", "204"),
    ("HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\nhello", "304"),
    ("HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "304"),
    ("\(ok)Content-Length: 0\r\n\r\n\r\n", "200"),
    ("HTTP/1.1 100 Continue\r\n\r\n\(ok)Content-Length: 0\r\n\r\n", "200"),
  ]

  @Test(arguments: followed)
  func octetsBehindAResponseEndItsConnection(octets: String, status: String) async throws {
    let upstream = Self.upstream(octets + Self.smuggled)
    let harness = try await Harness(to: [upstream.port])
    let client = Wire.connect(harness.port)
    client.send(get())
    let bodiless = status != "200"
    var reply = try #require(client.message(hasBody: !bodiless))
    if reply.head.hasPrefix("HTTP/1.1 100 ") { reply = try #require(client.message()) }
    #expect(reply.head.hasPrefix("HTTP/1.1 \(status) "), "\(reply.head)")
    client.send(get("/second"))
    let second = try #require(client.message())
    #expect(second.body == "fresh", "\(second.head)")
    #expect(upstream.connectionCount == 2)
    client.close()
    await harness.stop()
    upstream.stop()
  }

  @Test func anAnswerToHeadHasNoBodyWhateverItSays() async throws {
    let upstream = Self.upstream("\(Self.ok)Content-Length: 46\r\n\r\n\(Self.smuggled)")
    let harness = try await Harness(to: [upstream.port])
    let client = Wire.connect(harness.port)
    client.send(get(method: "HEAD"))
    #expect(client.message(hasBody: false)?.head.contains("Content-Length: 46\r\n") == true)
    client.send(get())
    #expect(client.message()?.body == "fresh")
    client.close()
    await harness.stop()
    upstream.stop()
  }

  @Test func octetsThatComeLaterOnAKeptConnectionEndIt() async throws {
    let go = Counted()
    let upstream = Upstream { wire, number, upstream in
      guard upstream.request(wire) != nil else { return }
      wire.send("\(Self.ok)Content-Length: 5\r\n\r\nfresh")
      if number == 0 {
        waitFor(go)
        wire.send(Self.smuggled)
      }
      while upstream.request(wire) != nil { wire.send("\(Self.ok)Content-Length: 5\r\n\r\nstale") }
    }
    let harness = try await Harness(to: [upstream.port])
    let client = Wire.connect(harness.port)
    client.send(get())
    #expect(client.message()?.body == "fresh")
    go.add(1)
    await until { harness.metrics.prometheusText().contains("outrider_upstream_connections_active{cluster=\"up\"} 0") }
    client.send(get())
    #expect(client.message()?.body == "fresh")
    #expect(upstream.connectionCount == 2)
    client.close()
    await harness.stop()
    upstream.stop()
  }
}

private func waitFor(_ go: Counted) {
  while go.value == 0 { usleep(1000) }  // between two looks
}
