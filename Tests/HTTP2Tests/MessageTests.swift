import HTTP1
import NIOCore
import Testing

@testable import HTTP2

/// Requests in HTTP/2 and what they are in HTTP/1.1 form, or why they are refused (RFC 9113 sections 8.1 to 8.5).
@Suite struct RequestMessageTests {
  struct Refused: Sendable, CustomTestStringConvertible {
    var name: String
    var fields: [(String, String)]
    var problem: MessageProblem
    init(_ name: String, _ fields: [(String, String)], _ problem: MessageProblem) {
      self.name = name
      self.fields = fields
      self.problem = problem
    }
    var testDescription: String { name }
  }

  static func with(_ extra: (String, String)...) -> [(String, String)] { Wire.get + extra }
  static func pseudo(
    _ method: String = "GET", _ scheme: String = "http", _ path: String = "/", _ authority: String = "a.test"
  ) -> [(String, String)] {
    [(":method", method), (":scheme", scheme), (":path", path), (":authority", authority)]
  }

  @Test(arguments: [
    Refused("8.2.1 upper case", with(("X-Test", "ok")), .invalidName),
    Refused("8.2.1 empty name", with(("", "ok")), .invalidName),
    Refused("8.2.1 space in a name", with(("x y", "ok")), .invalidName),
    Refused("8.2.1 colon in a name", with(("x:y", "ok")), .invalidName),
    Refused("8.2.1 CR LF in a name", with(("x\r\ny", "ok")), .invalidName),
    Refused("8.2.1 NUL in a name", with(("x\u{0}", "ok")), .invalidName),
    Refused("8.2.1 obs-text in a name", with(("x\u{e9}", "ok")), .invalidName),
    Refused("8.2.1 CR LF in a value", with(("x", "a\r\ntransfer-encoding: chunked")), .invalidValue),
    Refused("8.2.1 LF in a value", with(("x", "a\nb")), .invalidValue),
    Refused("8.2.1 CR in a value", with(("x", "a\rb")), .invalidValue),
    Refused("8.2.1 NUL in a value", with(("x", "a\u{0}b")), .invalidValue),
    Refused("8.2.1 DEL in a value", with(("x", "a\u{7f}b")), .invalidValue),
    Refused("8.2.1 leading space", with(("x", " a")), .invalidValue),
    Refused("8.2.1 trailing tab", with(("x", "a\t")), .invalidValue),
    Refused("8.2.1 a value that is a space", with(("x", " ")), .invalidValue),
    Refused("8.2.2 connection", with(("connection", "keep-alive")), .connectionSpecificField),
    Refused("8.2.2 keep-alive", with(("keep-alive", "5")), .connectionSpecificField),
    Refused("8.2.2 proxy-connection", with(("proxy-connection", "close")), .connectionSpecificField),
    Refused("8.2.2 upgrade", with(("upgrade", "h2c")), .connectionSpecificField),
    Refused("8.2.2 transfer-encoding", with(("transfer-encoding", "chunked")), .connectionSpecificField),
    Refused("8.2.2 te", with(("te", "trailers, deflate")), .invalidTE),
    Refused("8.3 unknown pseudo-field", Wire.get + [(":test", "ok")], .unknownPseudoField),
    Refused("8.3 of a response", Wire.get + [(":status", "200")], .misplacedPseudoField),
    Refused("8.3 after a field", [(":method", "GET"), ("x", "y"), (":path", "/")], .misplacedPseudoField),
    Refused("8.3.1 empty path", pseudo("GET", "http", ""), .invalidPath),
    Refused("8.3.1 no method", Array(Wire.get.dropFirst()), .missingPseudoField),
    Refused("8.3.1 no scheme", [(":method", "GET"), (":path", "/"), (":authority", "a")], .missingPseudoField),
    Refused("8.3.1 no path", [(":method", "GET"), (":scheme", "http"), (":authority", "a")], .missingPseudoField),
    Refused("8.3.1 no authority", Array(Wire.get.dropLast()), .missingPseudoField),
    Refused("8.3.1 nothing", [], .missingPseudoField),
    Refused("8.3.1 method twice", Wire.get + [(":method", "GET")], .repeatedPseudoField),
    Refused("8.3.1 scheme twice", Wire.get + [(":scheme", "http")], .repeatedPseudoField),
    Refused("8.3.1 path twice", Wire.get + [(":path", "/")], .repeatedPseudoField),
    Refused("8.3.1 authority twice", Wire.get + [(":authority", "a.test")], .repeatedPseudoField),
    Refused("8.3.1 another scheme", pseudo("GET", "ftp"), .invalidScheme),
    Refused("8.3.1 a scheme with more", pseudo("GET", "http://x/"), .invalidScheme),
    Refused("8.3.1 empty authority", pseudo("GET", "http", "/", ""), .invalidAuthority),
    Refused("8.3.1 userinfo", pseudo("GET", "http", "/", "u@a.test"), .invalidAuthority),
    Refused("8.3.1 a path in the authority", pseudo("GET", "http", "/", "a.test/x"), .invalidAuthority),
    Refused("8.3.1 a space in the authority", pseudo("GET", "http", "/", "a b"), .invalidAuthority),
    Refused("8.3.1 another host", with(("host", "b.test")), .differingHost),
    Refused("8.3.1 two hosts", with(("host", "a.test"), ("host", "a.test")), .invalidAuthority),
    Refused("smuggling: space in the path", pseudo("GET", "http", "/ HTTP/1.1"), .invalidPath),
    Refused("smuggling: CR LF in the path", pseudo("GET", "http", "/\r\nx: y"), .invalidValue),
    Refused("smuggling: a relative path", pseudo("GET", "http", "x"), .invalidPath),
    Refused("smuggling: an absolute path", pseudo("GET", "http", "http://b.test/"), .invalidPath),
    Refused("smuggling: a fragment", pseudo("GET", "http", "/#x"), .invalidPath),
    Refused("smuggling: obs-text in the path", pseudo("GET", "http", "/\u{e9}"), .invalidPath),
    Refused("smuggling: * for GET", pseudo("GET", "http", "*"), .invalidPath),
    Refused("smuggling: space in the method", pseudo("GET / HTTP/1.1"), .invalidMethod),
    Refused("smuggling: CR LF in the method", pseudo("GET\r\n"), .invalidValue),
    Refused("smuggling: empty method", pseudo(""), .invalidMethod),
    Refused("smuggling: CR LF in the authority", pseudo("GET", "http", "/", "a\r\nx: y"), .invalidValue),
    Refused("smuggling: CR LF in a cookie", with(("cookie", "a\r\nb")), .invalidValue),
    Refused("length: letters", with(("content-length", "1x")), .invalidContentLength),
    Refused("length: a sign", with(("content-length", "+1")), .invalidContentLength),
    Refused("length: a list", with(("content-length", "1, 1")), .invalidContentLength),
    Refused("length: empty", with(("content-length", "")), .invalidContentLength),
    Refused("length: 2^63", with(("content-length", "9223372036854775808")), .invalidContentLength),
    Refused(
      "length: two values", with(("content-length", "0"), ("content-length", "1")), .invalidContentLength),
    Refused("length: without content", with(("content-length", "1")), .contentLengthMismatch),
    Refused(
      "CONNECT with a path", [(":method", "CONNECT"), (":path", "/"), (":authority", "a:1")], .misplacedPseudoField),
    Refused("CONNECT without a port", [(":method", "CONNECT"), (":authority", "a")], .invalidAuthority),
    Refused("CONNECT without an authority", [(":method", "CONNECT"), ("host", "a:1")], .missingPseudoField),
    Refused(
      "CONNECT with a length", [(":method", "CONNECT"), (":authority", "a:1"), ("content-length", "0")],
      .unexpectedBody),
    Refused(":protocol without CONNECT", Wire.get + [(":protocol", "websocket")], .invalidProtocol),
    Refused(
      ":protocol that is no token", pseudo("CONNECT") + [(":protocol", "a b")], .invalidProtocol),
    Refused(
      "extended CONNECT without a path",
      [(":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "http"), (":authority", "a")],
      .missingPseudoField),
  ])
  func refuses(test: Refused) {
    let server = Endpoint.server()
    // Over Latin-1, so that one scalar is one octet.
    var block: [UInt8] = []
    for (name, value) in test.fields {
      block += [0x00] + Wire.string(name.unicodeScalars.map { UInt8($0.value) })
      block += Wire.string(value.unicodeScalars.map { UInt8($0.value) })
    }
    let seen = server.receive(Wire.frame(1, 5, 1, block))
    #expect(seen.map(\.event) == [.rejected(test.problem)])
    #expect(server.refusal() == "RST 1 PROTOCOL_ERROR")
    #expect(server.openStreams == 0)
  }

  /// A field that is not valid stays so when it comes from the table.
  @Test func validityIsKeptInTheTable() {
    let server = Endpoint.server()
    let bad: [UInt8] = [0x40, 1, 0x78, 2, 0x61, 0x0A]
    server.receive(Wire.frame(1, 5, 1, Wire.block(Wire.get) + bad))
    #expect(server.refusal() == "RST 1 PROTOCOL_ERROR")
    server.receive(Wire.frame(1, 5, 3, Wire.block(Wire.get) + [0xBE]))
    #expect(server.refusal() == "RST 3 PROTOCOL_ERROR")
    // The name alone is right.
    #expect(server.receive(Wire.frame(1, 5, 5, Wire.block(Wire.get) + [0x7E, 1, 0x61])).count == 1)
    #expect(server.refusal() == "none")
  }

  struct Taken: Sendable, CustomTestStringConvertible {
    var name: String
    var fields: [(String, String)]
    var end: Bool
    var head: String
    init(_ name: String, _ fields: [(String, String)], end: Bool, _ head: String) {
      self.name = name
      self.fields = fields
      self.end = end
      self.head = head
    }
    var testDescription: String { name }
  }

  @Test(arguments: [
    Taken("plain", Wire.get, end: true, "GET / HTTP/1.1\r\nhost: a.test\r\n\r\n"),
    Taken(
      "fields in order", with(("accept", "*/*"), ("x-a", ""), ("te", "trailers")), end: true,
      "GET / HTTP/1.1\r\nhost: a.test\r\naccept: */*\r\nx-a: \r\nte: trailers\r\n\r\n"),
    Taken(
      "host alone", Array(Wire.get.dropLast()) + [("host", "B.test:80")], end: true,
      "GET / HTTP/1.1\r\nhost: B.test:80\r\n\r\n"),
    Taken("host as well", with(("host", "A.TEST")), end: true, "GET / HTTP/1.1\r\nhost: a.test\r\n\r\n"),
    Taken(
      "crumbs", with(("cookie", "a=1"), ("x", "y"), ("cookie", "b=2"), ("cookie", "c=3")), end: true,
      "GET / HTTP/1.1\r\nhost: a.test\r\ncookie: a=1; b=2; c=3\r\nx: y\r\n\r\n"),
    Taken(
      "a body", Wire.post, end: false, "POST / HTTP/1.1\r\nhost: a.test\r\ntransfer-encoding: chunked\r\n\r\n"),
    Taken(
      "a body with its length", Wire.post + [("content-length", "3"), ("content-length", "3")], end: false,
      "POST / HTTP/1.1\r\nhost: a.test\r\ncontent-length: 3\r\n\r\n"),
    Taken("no body", Wire.post, end: true, "POST / HTTP/1.1\r\nhost: a.test\r\ncontent-length: 0\r\n\r\n"),
    Taken("OPTIONS", pseudo("OPTIONS", "https", "*"), end: true, "OPTIONS * HTTP/1.1\r\nhost: a.test\r\n\r\n"),
    Taken(
      "CONNECT", [(":method", "CONNECT"), (":authority", "a.test:443")], end: false,
      "CONNECT a.test:443 HTTP/1.1\r\nhost: a.test:443\r\n\r\n"),
    Taken(
      "CONNECT to IPv6", [(":method", "CONNECT"), (":authority", "[::1]:443")], end: false,
      "CONNECT [::1]:443 HTTP/1.1\r\nhost: [::1]:443\r\n\r\n"),
    Taken(
      "another extended CONNECT", pseudo("CONNECT", "https", "/c") + [(":protocol", "connect-udp")], end: false,
      "GET /c HTTP/1.1\r\nhost: a.test\r\nconnection: upgrade\r\nupgrade: connect-udp\r\n\r\n"),
  ])
  func writes(test: Taken) throws {
    let server = Endpoint.server()
    let seen = server.receive(Wire.headers(1, test.fields, end: test.end))
    #expect(seen.map(\.head) == [test.head])
    #expect(server.refusal() == "none")
    // Whatever is written, the engine of HTTP/1.1 takes.
    try Array(test.head.utf8).withUnsafeBytes { bytes in
      var scanner = HeadScanner()
      #expect(try scanner.scan(bytes, limits: HeadLimits()) == bytes.count)
      var head = RequestHead()
      try head.parse(bytes)
    }
  }

  @Test func extendedConnectIsAnUpgrade() throws {
    let server = Endpoint.server()
    let fields =
      Self.pseudo("CONNECT", "https", "/chat") + [(":protocol", "websocket"), ("sec-websocket-version", "13")]
    let seen = server.receive(Wire.headers(1, fields, end: false))
    let text = try #require(seen.first?.head)
    let prefix =
      "GET /chat HTTP/1.1\r\nhost: a.test\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-key: "
    #expect(text.hasPrefix(prefix))
    let key = text.utf8.dropFirst(prefix.utf8.count).prefix { $0 != 13 }
    #expect(key.count == 24)
    #expect(text.hasSuffix("==\r\nsec-websocket-version: 13\r\n\r\n"))
    #expect(server.workspace.facts.isExtendedConnect)
    try Array(text.utf8).withUnsafeBytes { bytes in
      var head = RequestHead()
      try head.parse(bytes)
      #expect(head.wantsUpgrade)
    }
    // A 101 of HTTP/1.1 agrees with 200.
    let stream = try #require(seen.first?.key)
    server.out.clear()
    let reply =
      "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: x\r\nSec-WebSocket-Protocol: p\r\n\r\n"
    #expect(try server.respond(stream, reply, end: false))
    let client = Endpoint.client()
    let frames = server.sentFrames()
    try frames[0].payload.withUnsafeBytes { try client.connection.decoder.decode($0, into: &client.workspace.list) }
    #expect(client.workspace.list.lines == [":status: 200", "sec-websocket-protocol: p"])
  }

  @Test func extendedConnectThatIsNotOfferedIsRefused() {
    var limits = HTTP2Limits()
    limits.extendedConnect = false
    let server = Endpoint.server(limits: limits)
    let fields = Self.pseudo("CONNECT") + [(":protocol", "websocket")]
    #expect(server.receive(Wire.headers(1, fields, end: false)).map(\.event) == [.rejected(.invalidProtocol)])
  }

  @Test(arguments: [
    Case("less in one frame", Wire.data(1, "ab", end: true), "RST 1 PROTOCOL_ERROR"),
    Case("more in one frame", Wire.data(1, "abcd"), "RST 1 PROTOCOL_ERROR"),
    Case("more in two", Wire.data(1, "ab") + Wire.data(1, "cd", end: true), "RST 1 PROTOCOL_ERROR"),
    Case("less in two", Wire.data(1, "a") + Wire.data(1, "b", end: true), "RST 1 PROTOCOL_ERROR"),
    Case("less before trailers", Wire.data(1, "ab") + Wire.headers(1, [("x", "y")]), "RST 1 PROTOCOL_ERROR"),
    Case("more, padded", Wire.frame(0, 8, 1, [1, 97, 97, 97, 97, 0]), "RST 1 PROTOCOL_ERROR"),
    Case("as promised", Wire.data(1, "ab") + Wire.data(1, "c", end: true), "none"),
    Case("as promised, padded", Wire.frame(0, 9, 1, [2, 97, 97, 97, 0, 0]), "none"),
    Case("as promised, and an empty end", Wire.data(1, "abc") + Wire.data(1, "", end: true), "none"),
    Case("as promised, and trailers", Wire.data(1, "abc") + Wire.headers(1, [("x", "y")]), "none"),
  ])
  func contentLengthIsHeldTo(test: Case) {
    let server = Endpoint.server()
    server.receive(Wire.headers(1, Wire.post + [("content-length", "3")], end: false) + test.bytes)
    #expect(server.refusal() == test.expected)
  }

  @Test(arguments: [
    ("pseudo-field", [(":method", "GET")]), ("connection", [("connection", "x")]), ("upper case", [("X", "y")]),
    ("length", [("content-length", "1")]), ("host", [("host", "a")]), ("te", [("te", "trailers")]),
    ("chunked", [("transfer-encoding", "chunked")]), ("CR LF", [("x", "a\r\nb")]),
  ])
  func trailersAreChecked(name: String, fields: [(String, String)]) {
    let server = Endpoint.server()
    server.receive(Wire.headers(1, Wire.post, end: false) + Wire.headers(1, fields))
    #expect(server.refusal() == "RST 1 PROTOCOL_ERROR")
  }

  @Test func aHeadOverTheLimitIsReported() throws {
    let server = Endpoint.server(list: FieldListLimits(octets: 300, fields: 100))
    let fields = Wire.get + [("x", String(repeating: "y", count: 200))]
    let seen = server.receive(Wire.headers(1, fields))
    let key = try #require(seen.first?.key)
    #expect(seen.map(\.event) == [.oversizedRequest(key, endStream: true)])
    #expect(try server.respond(key, "HTTP/1.1 431 Too Large\r\ncontent-length: 0\r\n\r\n", end: true))
    let many = Endpoint.server(list: FieldListLimits(octets: 64 << 10, fields: 5))
    #expect(
      many.receive(Wire.headers(1, Self.with(("a", ""), ("b", "")))).first?.event
        == .oversizedRequest(key, endStream: true))
  }
}
