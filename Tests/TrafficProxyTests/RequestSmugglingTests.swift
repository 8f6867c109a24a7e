import Foundation
import Synchronization
import Telemetry
import Testing
import Traffic

@testable import TrafficProxy

/// An upstream that keeps every octet it is sent and answers nothing: what came through, and nothing else, is in `text`.
final class Recorder: Sendable {
  let upstream: Upstream
  private let ended: Counted

  init() {
    let ended = Counted()
    let box = Box()
    self.ended = ended
    self.box = box
    upstream = Upstream { wire, _, _ in
      while case let bytes = wire.receive(), !bytes.isEmpty {
        box.text.withLock { $0 += String(decoding: bytes, as: UTF8.self) }
      }
      ended.add(1)
    }
  }

  private final class Box: Sendable { let text = Mutex("") }
  private let box: Box

  /// All of it, once every connection has ended.
  func text() async -> String {
    await until { upstream.connectionCount > 0 && ended.value == upstream.connectionCount }
    return box.text.withLock { $0 }
  }
}

/// Requests that two readers could take for different messages: refused, and neither they nor what follows them
/// reaches the upstream.
@Suite struct RequestSmugglingTests {
  private static let next = "GET /SMUGGLED HTTP/1.1\r\nHost: a\r\n\r\n"
  private static let start = "POST / HTTP/1.1\r\nHost: a\r\n"
  private static func coded(_ field: String) -> String { "\(start)\(field)\r\n\r\n0\r\n\r\n" }
  private static func sized(_ field: String) -> String { "\(start)\(field)\r\n\r\nhello" }
  private static func chunks(_ body: String) -> String { "\(start)Transfer-Encoding: chunked\r\n\r\n\(body)" }

  /// Nothing of these is sent on.
  static let heads: [(String, String)] = [
    // CL.TE and TE.CL
    ("\(start)Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nX", "400"),
    ("\(start)Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n5c\r\n", "400"),
    ("\(start)transfer-encoding: chunked\r\ncontent-length: 0\r\n\r\n0\r\n\r\n", "400"),
    // TE.TE
    (coded("Transfer-Encoding: chunked, identity"), "400"), (coded("Transfer-Encoding: identity"), "400"),
    (coded("Transfer-Encoding: identity, chunked"), "400"), (coded("Transfer-Encoding: gzip, chunked"), "400"),
    (coded("Transfer-Encoding: xchunked"), "400"), (coded("Transfer-Encoding: chunkedx"), "400"),
    (coded("Transfer-Encoding: chunked;q=1"), "400"), (coded("Transfer-Encoding: \"chunked\""), "400"),
    (coded("Transfer-Encoding: chunked,"), "400"), (coded("Transfer-Encoding: , chunked"), "400"),
    (coded("Transfer-Encoding:"), "400"), (coded("Transfer-Encoding: \u{B}chunked"), "400"),
    (coded("Transfer-Encoding: chunked\u{B}"), "400"), (coded("Transfer-Encoding: chunked\u{C}"), "400"),
    (coded("Transfer-Encoding: chun\tked"), "400"), (coded("Transfer-Encoding: chunKed\u{0}"), "400"),
    (coded("Transfer-Encoding : chunked"), "400"), (coded("Transfer-Encoding\t: chunked"), "400"),
    (coded(" Transfer-Encoding: chunked"), "400"), (coded("X: y\r\n Transfer-Encoding: chunked"), "400"),
    (coded("Transfer-Encoding:\r\n chunked"), "400"), (coded("X: y\rTransfer-Encoding: chunked"), "400"),
    (coded("X: y\nTransfer-Encoding: chunked"), "400"),
    (coded("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"), "400"),
    (coded("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity"), "400"),
    ("POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "400"),
    // Lengths
    (sized("Content-Length: 5\r\nContent-Length: 6"), "400"), (sized("Content-Length: 5\r\ncontent-length: 0"), "400"),
    (sized("Content-Length: +5"), "400"), (sized("Content-Length: -5"), "400"), (sized("Content-Length: 5, 5"), "400"),
    (sized("Content-Length: 5 5"), "400"), (sized("Content-Length: 0x5"), "400"), (sized("Content-Length: 5;"), "400"),
    (sized("Content-Length: 5.0"), "400"), (sized("Content-Length: "), "400"), (sized("Content-Length: \u{B}5"), "400"),
    (sized("Content-Length: 18446744073709551621"), "400"), (sized("Content-Length: 00000000000000000005"), "400"),
    (sized("Content-Length : 5"), "400"), (sized("Content-Length\u{0}: 5"), "400"), (sized("Content Length: 5"), "400"),
    // Lines
    ("POST / HTTP/1.1\nHost: a\nContent-Length: 5\n\nhello", "400"), ("POST / HTTP/1.1\r\nHost: a\n\r\n", "400"),
    ("\(start)X: y\r\n\n", "400"), ("\(start)X: a\rb\r\n\r\n", "400"), ("\(start)\rX: a\r\n\r\n", "400"),
    ("\(start)X: a\r\r\n\r\n", "400"), ("\(start)X: a\r\n\tb\r\n\r\n", "400"), ("\(start)X: a\u{0}b\r\n\r\n", "400"),
    ("\(start)X\u{0}: a\r\n\r\n", "400"), ("\(start)X: \u{7F}\r\n\r\n", "400"), ("\(start): a\r\n\r\n", "400"),
    ("\(start)X\r\n\r\n", "400"), ("\(start)X y: z\r\n\r\n", "400"), ("\(start)X\u{E9}: z\r\n\r\n", "400"),
    // Hosts
    ("GET / HTTP/1.1\r\n\r\n", "400"), ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "400"),
    ("GET / HTTP/1.1\r\nHost: a\r\nhost: a\r\n\r\n", "400"), ("GET / HTTP/1.1\r\nHost: a b\r\n\r\n", "400"),
    ("GET / HTTP/1.1\r\nHost: a, b\r\n\r\n", "400"), ("GET / HTTP/1.1\r\nHost: u@a\r\n\r\n", "400"),
    ("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", "400"), ("GET / HTTP/1.1\r\nHost: a\u{E9}\r\n\r\n", "400"),
    ("GET http://u@a/ HTTP/1.1\r\nHost: a\r\n\r\n", "400"), ("GET http:///x HTTP/1.1\r\nHost: a\r\n\r\n", "400"),
    ("GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n", "400"), ("GET http:a HTTP/1.1\r\nHost: a\r\n\r\n", "400"),
    // Request lines
    ("GET /\r\n", "400"), ("GET / HTTP/2.0\r\nHost: a\r\n\r\n", "505"), ("GET / HTTP/0.9\r\nHost: a\r\n\r\n", "505"),
    ("GET / http/1.1\r\nHost: a\r\n\r\n", "400"), ("GET / HTTP/1.10\r\nHost: a\r\n\r\n", "400"),
    ("GET / HTTP/01.1\r\nHost: a\r\n\r\n", "400"), ("GET / HTTP/+1.1\r\nHost: a\r\n\r\n", "400"),
    ("GET  / HTTP/1.1\r\nHost: a\r\n\r\n", "400"), ("GET /  HTTP/1.1\r\nHost: a\r\n\r\n", "400"),
    ("GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n", "400"), ("GET /\tHTTP/1.1\r\nHost: a\r\n\r\n", "400"),
    ("GET / HTTP/1.1 \r\nHost: a\r\n\r\n", "400"), (" GET / HTTP/1.1\r\nHost: a\r\n\r\n", "400"),
    ("GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n", "400"), ("GET /a\u{1}b HTTP/1.1\r\nHost: a\r\n\r\n", "400"),
    ("GET /a\u{7F} HTTP/1.1\r\nHost: a\r\n\r\n", "400"), ("GET /\u{E9} HTTP/1.1\r\nHost: a\r\n\r\n", "400"),
    ("GET /\u{0} HTTP/1.1\r\nHost: a\r\n\r\n", "400"), ("G\u{E9}T / HTTP/1.1\r\nHost: a\r\n\r\n", "400"),
    ("GET * HTTP/1.1\r\nHost: a\r\n\r\n", "400"), ("GET a/b HTTP/1.1\r\nHost: a\r\n\r\n", "400"),
    ("CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n", "405"),
    ("CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\nContent-Length: 35\r\n\r\n", "405"),
    // Limits
    ("GET / HTTP/1.1\r\nHost: a\r\n" + String(repeating: "A: b\r\n", count: 100) + "\r\n", "431"),
    ("GET /" + String(repeating: "a", count: 66_000) + " HTTP/1.1\r\nHost: a\r\n\r\n", "431"),
  ]

  @Test(arguments: heads) func nothingOfARefusedHeadIsSentOn(text: String, status: String) async throws {
    let recorder = Recorder()
    let harness = try await Harness(to: [recorder.upstream.port]) { listener, _, _ in
      listener.listenerProtocol = .http
    }
    let client = Wire.connect(harness.port)
    client.send(text + Self.next)
    let reply = try #require(client.message())
    #expect(reply.head.hasPrefix("HTTP/1.1 \(status) "), "\(reply.head)")
    #expect(reply.head.contains("\r\nConnection: close\r\n") && reply.body.contains("\"blame\":\"client\""))
    client.finishSending()
    #expect(client.takeAll().isEmpty)
    client.close()
    await harness.stop()
    #expect(recorder.upstream.connectionCount == 0)
    recorder.upstream.stop()
  }

  /// The head is in order and may have been sent on; the body ends the connections on both sides.
  static let bodies: [String] = [
    // Sizes
    "+5\r\nhello\r\n0\r\n\r\n", "-5\r\nhello\r\n0\r\n\r\n", "0x5\r\nhello\r\n0\r\n\r\n", " 5\r\nhello\r\n0\r\n\r\n",
    "5 \r\nhello\r\n0\r\n\r\n", "5\t;a\r\nhello\r\n0\r\n\r\n", "\r\n5\r\nhello\r\n0\r\n\r\n", "g\r\n\r\n", ";a\r\n\r\n",
    "FFFFFFFFFFFFFFFFF\r\nhello", "10000000000000005\r\nhello\r\n0\r\n\r\n",
    String(repeating: "0", count: 4200) + "5\r\nhello\r\n0\r\n\r\n",
    // Line ends
    "5\nhello\r\n0\r\n\r\n", "5\rhello\r\n0\r\n\r\n", "5\r\r\nhello\r\n0\r\n\r\n", "5\r\nhello0\r\n\r\n",
    "5\r\nhello\n0\r\n\r\n", "5\r\nhello\r0\r\n\r\n", "5\r\nhello!\r\n0\r\n\r\n", "4\r\nhello\r\n0\r\n\r\n",
    "0\n\n", "0\r\n\n", "0\r\n\rX",
    // Extensions
    "5;a\nhello\r\n0\r\n\r\n", "5;a\rb\r\nhello\r\n0\r\n\r\n", "5;a=\"\n\"\r\nhello\r\n0\r\n\r\n",
    "5;a\u{0}\r\nhello\r\n0\r\n\r\n", "5;a=\"b\r\nhello\"\r\nhello\r\n0\r\n\r\n",
    "5;" + String(repeating: "a", count: 17_000) + "\r\nhello\r\n0\r\n\r\n",
    // Trailers
    "0\r\nX : y\r\n\r\n", "0\r\nX\r\n\r\n", "0\r\n X: y\r\n\r\n", "0\r\nX: y\r\n z\r\n\r\n", "0\r\nX: y\n\r\n",
    "0\r\nX: a\u{0}\r\n\r\n", "0\r\nX: " + String(repeating: "a", count: 17_000) + "\r\n\r\n",
  ]

  @Test(arguments: bodies) func aBodyThatIsNoneEndsBothConnections(body: String) async throws {
    let recorder = Recorder()
    let harness = try await Harness(to: [recorder.upstream.port])
    let client = Wire.connect(harness.port)
    client.send(Self.chunks(body) + Self.next)
    let reply = try #require(client.message())
    #expect(reply.head.hasPrefix("HTTP/1.1 400 ") && reply.head.contains("\r\nConnection: close\r\n"), "\(reply.head)")
    client.finishSending()
    #expect(client.takeAll().isEmpty)
    let sent = await recorder.text()
    #expect(!sent.contains("SMUGGLED") && !sent.contains("0\r\n\r\n"), "the upstream must not see an end: \(sent)")
    client.close()
    await harness.stop()
    recorder.upstream.stop()
  }

  /// What is in order, however strange: the upstream sees each message as the client meant it.
  static let accepted: [(String, [String])] = [
    (coded("Transfer-Encoding: CHUNKED"), ["0\r\n\r\n"]), (coded("Transfer-Encoding: \t chunked \t"), ["0\r\n\r\n"]),
    (coded("transfer-encoding:chunked"), ["0\r\n\r\n"]), (sized("Content-Length: 5\r\nContent-Length: 5"), ["hello"]),
    (sized("Content-Length: 0000000005"), ["hello"]), (sized("Content-Length:\t5 "), ["hello"]),
    (chunks("000;a=\"b\";c\r\n\r\n"), ["000;a=\"b\";c\r\n\r\n"]),
    (chunks("A;x=\"y;z\"\r\n0123456789\r\n0\r\n\r\n"), ["A;x=\"y;z\"\r\n0123456789\r\n0\r\n\r\n"]),
    (chunks("0\r\n\r\n"), ["0\r\n\r\n"]), ("\r\n\r\n" + sized("Content-Length: 5"), ["hello"]),
    (sized("Content-Length: 5") + "\r\n" + sized("Content-Length: 5"), ["hello", "hello"]),
    (sized("Content-Length: 5\r\nConnection: content-length, host"), ["hello"]),
    (coded("Transfer-Encoding: chunked\r\nConnection: transfer-encoding"), ["0\r\n\r\n"]),
    ("TRACE / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello", ["hello"]),
    ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello", ["hello"]),
    (sized("Content-Length: 5\r\nExpect: 200-maybe"), ["hello"]),
    ("GET http://b/x HTTP/1.1\r\nHost: a\r\n\r\n", [""]), ("GET http://b?x HTTP/1.1\r\nHost: a\r\n\r\n", [""]),
  ]

  @Test(arguments: accepted) func whatIsInOrderIsTheSameMessageForBoth(text: String, bodies: [String]) async throws {
    let upstream = Upstream { wire, _, upstream in
      while let head = wire.take(until: "\r\n\r\n") {
        let lower = head.lowercased()
        let body: String
        if lower.contains("transfer-encoding:") {
          body = wire.take(until: "\r\n\r\n") ?? "none"
        } else if let at = lower.range(of: "content-length:") {
          let count = Int(lower[at.upperBound...].drop { !$0.isNumber }.prefix { $0.isNumber }) ?? 0
          body = String(decoding: wire.take(count), as: UTF8.self)
        } else {
          body = ""
        }
        upstream.note(head + body)
        wire.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
      }
    }
    let harness = try await Harness(to: [upstream.port])
    let client = Wire.connect(harness.port)
    client.send(text + get("/after"))
    for _ in 0...bodies.count { #expect(client.message()?.body == "ok") }
    let seen = upstream.requests
    #expect(seen.count == bodies.count + 1)
    for (request, body) in zip(seen, bodies) {
      let parts = request.components(separatedBy: "\r\n\r\n")
      #expect(parts.dropFirst().joined(separator: "\r\n\r\n") == body, "\(request)")
      let head = parts[0].lowercased()
      #expect(head.components(separatedBy: "\r\nhost:").count == 2)
      #expect(head.components(separatedBy: "\r\ncontent-length:").count <= 2 && !head.contains("\r\nconnection:"))
      #expect(!(head.contains("\r\ncontent-length:") && head.contains("\r\ntransfer-encoding:")))
      if text.contains("http://b") { #expect(head.contains("\r\nhost: b") || head.contains("\r\nhost: 127.0.0.1")) }
      #expect(!head.contains(" http://"), "an origin is asked in origin form")
    }
    #expect(seen.last?.hasPrefix("GET /after HTTP/1.1\r\n") == true)
    client.close()
    await harness.stop()
    upstream.stop()
  }
}
