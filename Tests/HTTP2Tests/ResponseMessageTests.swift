import HTTP1
import NIOCore
import Testing

@testable import HTTP2

/// Responses and trailers as a client sees them, and heads of HTTP/1.1 form as field blocks.
@Suite struct ResponseMessageTests {
  struct Answer: Sendable, CustomTestStringConvertible {
    var name: String
    var fields: [(String, String)]
    var end: Bool
    /// The head, or nil: the stream is reset.
    var head: String?
    var request = "GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    init(_ name: String, _ fields: [(String, String)], end: Bool = false, _ head: String?, to request: String? = nil) {
      self.name = name
      self.fields = fields
      self.end = end
      self.head = head
      if let request { self.request = request }
    }
    var testDescription: String { name }
  }

  static let headRequest = "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n"

  @Test(arguments: [
    Answer("plain", [(":status", "200"), ("x", "y")], "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\nx: y\r\n\r\n"),
    Answer(
      "with its length", [(":status", "200"), ("content-length", "3")], "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n"),
    Answer("without content", [(":status", "404")], end: true, "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n"),
    Answer("204", [(":status", "204"), ("content-length", "0")], end: true, "HTTP/1.1 204 No Content\r\n\r\n"),
    Answer(
      "304", [(":status", "304"), ("content-length", "9")], end: true,
      "HTTP/1.1 304 Not Modified\r\ncontent-length: 9\r\n\r\n"),
    Answer(
      "HEAD", [(":status", "200"), ("content-length", "9")], end: true, "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n",
      to: headRequest),
    Answer("HEAD without a length", [(":status", "200")], end: true, "HTTP/1.1 200 OK\r\n\r\n", to: headRequest),
    Answer("an unknown status", [(":status", "799")], end: true, "HTTP/1.1 799 \r\ncontent-length: 0\r\n\r\n"),
    Answer("103", [(":status", "103"), ("link", "</a>")], "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n"),
    Answer(
      "CONNECT", [(":status", "200")], "HTTP/1.1 200 OK\r\n\r\n", to: "CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n"),
    Answer("101", [(":status", "101")], nil),
    Answer("103 that ends", [(":status", "103")], end: true, nil),
    Answer("no status", [("x", "y")], nil),
    Answer("two statuses", [(":status", "200"), (":status", "200")], nil),
    Answer("status after a field", [("x", "y"), (":status", "200")], nil),
    Answer("two digits", [(":status", "20")], nil),
    Answer("below 100", [(":status", "099")], nil),
    Answer("letters", [(":status", "2xx")], nil),
    Answer("a pseudo-field of a request", [(":status", "200"), (":path", "/")], nil),
    Answer("connection", [(":status", "200"), ("connection", "close")], nil),
    Answer("transfer-encoding", [(":status", "200"), ("transfer-encoding", "chunked")], nil),
    Answer("te", [(":status", "200"), ("te", "trailers")], nil),
    Answer("CR LF", [(":status", "200"), ("x", "a\r\nset-cookie: b")], nil),
    Answer("upper case", [(":status", "200"), ("X", "y")], nil),
    Answer("length without content", [(":status", "200"), ("content-length", "1")], end: true, nil),
  ])
  func responses(test: Answer) throws {
    let client = Endpoint.client()
    let key = try #require(try client.open(test.request, end: true))
    client.out.clear()
    let seen = client.receive(Wire.headers(1, test.fields, end: test.end))
    if let head = test.head {
      #expect(seen.map(\.head) == [head])
      #expect(client.refusal() == "none")
      try Array(head.utf8).withUnsafeBytes { bytes in
        var parsed = ResponseHead()
        try parsed.parse(bytes)
      }
    } else {
      #expect(seen.map(\.event) == [.reset(key, .protocolError, byPeer: false)])
      #expect(client.refusal() == "RST 1 PROTOCOL_ERROR")
    }
  }

  @Test(arguments: [
    Case("DATA before a head", Wire.data(1, "a"), "RST 1 PROTOCOL_ERROR"),
    Case(
      "DATA after 103", Wire.headers(1, [(":status", "103")], end: false) + Wire.data(1, "a"), "RST 1 PROTOCOL_ERROR"),
    Case(
      "content of 204", Wire.headers(1, [(":status", "204")], end: false) + Wire.data(1, "a"), "RST 1 PROTOCOL_ERROR"),
    Case(
      "more than promised",
      Wire.headers(1, [(":status", "200"), ("content-length", "1")], end: false)
        + Wire.data(1, "ab"), "RST 1 PROTOCOL_ERROR"),
    Case(
      "less than promised",
      Wire.headers(1, [(":status", "200"), ("content-length", "3")], end: false)
        + Wire.data(1, "ab", end: true), "RST 1 PROTOCOL_ERROR"),
    Case("a push", Wire.frame(5, 4, 1, [0, 0, 0, 2]), "GOAWAY PROTOCOL_ERROR"),
    Case("a head on an even stream", Wire.headers(2, [(":status", "200")]), "GOAWAY PROTOCOL_ERROR"),
    Case("a head on an idle stream", Wire.headers(3, [(":status", "200")]), "GOAWAY PROTOCOL_ERROR"),
    Case("push offered by a server", Wire.settings([(2, 1)]), "GOAWAY PROTOCOL_ERROR"),
    Case("extended CONNECT taken back", Wire.settings([(8, 1)]) + Wire.settings([(8, 0)]), "GOAWAY PROTOCOL_ERROR"),
    Case("DATA after the end", Wire.headers(1, [(":status", "200")]) + Wire.data(1, "a"), "GOAWAY STREAM_CLOSED"),
    Case(
      "three heads",
      Wire.headers(1, [(":status", "100")], end: false) + Wire.headers(1, [(":status", "103")], end: false)
        + Wire.headers(1, [(":status", "200")]), "none"),
  ])
  func clientConformance(test: Case) throws {
    let client = Endpoint.client()
    _ = try #require(try client.open("GET / HTTP/1.1\r\nHost: a\r\n\r\n", end: true))
    client.out.clear()
    client.receive(test.bytes)
    #expect(client.refusal() == test.expected)
  }

  /// The fields of the first block that an endpoint has sent.
  static func lines(_ endpoint: Endpoint) throws -> [String] {
    var decoder = HTTP2.HPACKDecoder()
    var list = FieldList()
    let frame = try #require(endpoint.sentFrames().first { $0.type == 1 })
    try frame.payload.withUnsafeBytes { try decoder.decode($0, into: &list) }
    return list.lines
  }

  @Test(arguments: [
    (
      "GET /a?b HTTP/1.1\r\nHost: A.test\r\nUser-Agent: U\r\nConnection: close, X-Hop\r\nX-Hop: 1\r\nTE: trailers\r\n"
        + "Keep-Alive: 5\r\nProxy-Connection: x\r\nUpgrade: h2c\r\nHTTP2-Settings: AAA\r\nCookie: a=1; b=2\r\n\r\n",
      [
        ":method: GET", ":scheme: http", ":path: /a?b", ":authority: A.test", "user-agent: U", "te: trailers",
        "cookie: a=1; b=2",
      ]
    ),
    (
      "POST http://b.test:8080/x HTTP/1.1\r\nHost: b.test:8080\r\nTransfer-Encoding: chunked\r\nTE: deflate\r\n"
        + "Trailer: X\r\nExpect: 100-continue\r\n\r\n",
      [
        ":method: POST", ":scheme: http", ":path: /x", ":authority: b.test:8080", "trailer: X", "expect: 100-continue",
      ]
    ),
    (
      "GET http://b.test?q HTTP/1.1\r\nHost: b.test\r\n\r\n",
      [":method: GET", ":scheme: http", ":path: /?q", ":authority: b.test"]
    ),
    (
      "GET http://b.test HTTP/1.1\r\nHost: b.test\r\n\r\n",
      [":method: GET", ":scheme: http", ":path: /", ":authority: b.test"]
    ),
    (
      "OPTIONS http://b.test HTTP/1.1\r\nHost: b.test\r\n\r\n",
      [":method: OPTIONS", ":scheme: http", ":path: *", ":authority: b.test"]
    ),
    (
      "OPTIONS * HTTP/1.1\r\nHost: b.test\r\n\r\n",
      [":method: OPTIONS", ":scheme: http", ":path: *", ":authority: b.test"]
    ),
    ("CONNECT b.test:443 HTTP/1.1\r\nHost: b.test\r\n\r\n", [":method: CONNECT", ":authority: b.test:443"]),
    (
      "PUT / HTTP/1.1\r\nHost: b\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\n",
      [":method: PUT", ":scheme: http", ":path: /", ":authority: b", "content-length: 3"]
    ),
  ])
  func requestsAreEncoded(text: String, expected: [String]) throws {
    let client = Endpoint.client()
    _ = try #require(try client.open(text, end: true))
    #expect(try Self.lines(client) == expected)
  }

  @Test func webSocketGoesByExtendedConnect() throws {
    let text =
      "GET /c HTTP/1.1\r\nHost: b\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\nSec-WebSocket-Version: 13\r\n\r\n"
    let without = Endpoint.client()
    #expect(try without.open(text, end: false) { $0.extendedConnect = true } == nil)
    let client = Endpoint.client(settings: [(8, 1)])
    let key = try #require(try client.open(text, end: false) { $0.extendedConnect = true })
    #expect(
      try Self.lines(client) == [
        ":method: CONNECT", ":protocol: websocket", ":scheme: http", ":path: /c", ":authority: b",
        "sec-websocket-version: 13",
      ])
    let seen = client.receive(Wire.headers(1, [(":status", "200")], end: false))
    #expect(
      seen.map(\.head) == ["HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"])
    #expect(client.workspace.facts.isExtendedConnect)
    #expect(client.isOpen(key))
  }

  /// The example of RFC 6455 section 1.3.
  @Test func webSocketAccept() {
    var answer = [UInt8](repeating: 0, count: 28)
    Array("dGhlIHNhbXBsZSBub25jZQ==".utf8).withUnsafeBytes { key in
      answer.withUnsafeMutableBytes { WebSocketHandshake.accept(key, into: $0) }
    }
    #expect(String(decoding: answer, as: UTF8.self) == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
  }

  @Test func responsesAreEncoded() throws {
    let cases: [(String, [String])] = [
      (
        "HTTP/1.1 200 OK\r\nContent-Type: t\r\nContent-Length: 3\r\nConnection: keep-alive\r\nKeep-Alive: 1\r\n\r\n",
        [":status: 200", "content-type: t", "content-length: 3"]
      ),
      ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X\r\n\r\n", [":status: 200", "trailer: X"]),
      ("HTTP/1.1 204 No\r\nContent-Length: 0\r\n\r\n", [":status: 204"]),
      (
        "HTTP/1.1 299 Odd\r\nSet-Cookie: a\r\nSet-Cookie: b\r\n\r\n",
        [":status: 299", "set-cookie: a", "set-cookie: b"]
      ),
    ]
    for (text, expected) in cases {
      let server = Endpoint.server()
      let key = try #require(server.receive(Wire.headers(1, Wire.get)).first?.key)
      #expect(try server.respond(key, text, end: true))
      #expect(try Self.lines(server) == expected)
      // A second head, or content after the end, is not sent.
      #expect(try !server.respond(key, text, end: true))
      #expect(server.send(key, [1], end: true).0 == .closed)
      #expect(server.out.readableBytes == 0)
    }
  }

  @Test func aLargeHeadIsSplit() throws {
    let server = Endpoint.server()
    let key = try #require(server.receive(Wire.headers(1, Wire.get)).first?.key)
    let value = String(repeating: "v", count: 40_000)
    #expect(try server.respond(key, "HTTP/1.1 200 OK\r\nX: \(value)\r\n\r\n", end: true))
    let frames = server.sentFrames()
    #expect(frames.map(\.type) == [1, 9, 9])
    #expect(frames.map(\.flags) == [1, 0, 4])
    #expect(frames.allSatisfy { $0.payload.count <= 16_384 && $0.stream == 1 })
    let client = Endpoint.client()
    _ = try #require(try client.open("GET / HTTP/1.1\r\nHost: a\r\n\r\n", end: true))
    let seen = client.receive(frames.flatMap(\.bytes))
    #expect(seen.first?.head == "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nx: \(value)\r\n\r\n")
  }

  @Test func trailersGoBothWays() throws {
    let server = Endpoint.server()
    let key = try #require(server.receive(Wire.headers(1, Wire.get)).first?.key)
    #expect(try server.respond(key, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", end: false))
    #expect(try server.sendTrailers(key, "Grpc-Status: 0\r\nGrpc-Message: m\r\nContent-Length: 1\r\nHost: x\r\n\r\n"))
    #expect(!server.isOpen(key))
    let client = Endpoint.client()
    _ = try #require(try client.open("GET / HTTP/1.1\r\nHost: a\r\n\r\n", end: true))
    let seen = client.receive(server.takeOut())
    #expect(seen.map(\.event) == [.response(key, endStream: false), .trailers(key)])
    #expect(seen.last?.head == "grpc-status: 0\r\ngrpc-message: m\r\n\r\n")
  }

  /// RFC 7541 section 7.1.3: from hop to hop.
  @Test func neverIndexedFieldsStayNeverIndexed() throws {
    let server = Endpoint.server()
    let block = Wire.block(Wire.get) + [0x10] + Wire.string(Array("x-token".utf8)) + Wire.string([0x61])
    let head = try #require(server.receive(Wire.frame(1, 5, 1, block)).first?.head)
    let sensitive = server.workspace.facts.sensitive
    #expect(!sensitive.isEmpty)
    let client = Endpoint.client()
    for _ in 0..<3 {
      _ = try #require(try client.open(head, end: true) { $0.sensitive = sensitive })
      let frame = try #require(client.sentFrames().first)
      try frame.payload.withUnsafeBytes { try server.connection.decoder.decode($0, into: &server.workspace.list) }
      let field = try #require(server.workspace.list.fields.last)
      #expect(String(decoding: server.workspace.list.name(field), as: UTF8.self) == "x-token")
      #expect(field.flags.contains(.neverIndexed))
    }
  }
}
