import NIOCore
import Testing

@testable import HTTP2

/// One exchange with a server: the octets that a client sends, written out, and what it is told.
struct Case: Sendable, CustomTestStringConvertible {
  var name: String
  var bytes: [UInt8]
  /// "none", "GOAWAY CODE" or "RST n CODE".
  var expected: String
  init(_ name: String, _ bytes: [UInt8], _ expected: String) {
    self.name = name
    self.bytes = bytes
    self.expected = expected
  }
  var testDescription: String { name }
}

/// The cases of the public h2spec suite, section by section, and more: a server that was opened by a right preface.
@Suite struct ConformanceTests {
  static let openRequest = Wire.headers(1, Wire.post, end: false)
  static let request = Wire.headers(1, Wire.get)
  static let big = [UInt8](repeating: 0, count: 16_385)

  static let frames: [Case] = [
    Case("4.1 unknown type", Wire.frame(0x16, 0, 0, [0, 0, 0, 0]), "none"),
    Case("4.1 unknown flags", Wire.frame(6, 0x16, 0, [UInt8](repeating: 0, count: 8)), "none"),
    Case("4.1 reserved bit", Wire.frame(6, 0, 0x8000_0000, [UInt8](repeating: 0, count: 8)), "none"),
    Case(
      "4.2 DATA of 2^14", openRequest + Wire.frame(0, 1, 1, [UInt8](repeating: 0, count: 16_384)), "none"),
    Case("4.2 DATA above the limit", openRequest + Wire.frame(0, 1, 1, big), "GOAWAY FRAME_SIZE_ERROR"),
    Case("4.2 HEADERS above the limit", Wire.frame(1, 5, 1, big), "GOAWAY FRAME_SIZE_ERROR"),
    Case("4.2 unknown type above the limit", Wire.frame(0x20, 0, 0, big), "GOAWAY FRAME_SIZE_ERROR"),
    Case("4.3 bad block", Wire.frame(1, 5, 1, [0x40, 0x01]), "GOAWAY COMPRESSION_ERROR"),
    Case(
      "4.3 PRIORITY inside a block", Wire.frame(1, 0, 1, []) + Wire.frame(2, 0, 1, [0, 0, 0, 0, 1]),
      "GOAWAY PROTOCOL_ERROR"),
    Case(
      "4.3 HEADERS of another stream inside a block", Wire.frame(1, 0, 1, []) + Wire.headers(3, Wire.get),
      "GOAWAY PROTOCOL_ERROR"),
    Case("5.5 unknown type inside a block", Wire.frame(1, 0, 1, []) + Wire.frame(0x16), "GOAWAY PROTOCOL_ERROR"),
    Case("6.1 DATA on stream 0", Wire.data(0, "a"), "GOAWAY PROTOCOL_ERROR"),
    Case("6.1 padding too long", openRequest + Wire.frame(0, 8, 1, [5, 1, 2, 3, 4]), "GOAWAY PROTOCOL_ERROR"),
    Case("6.1 padding that fits", openRequest + Wire.frame(0, 9, 1, [4, 1, 2, 3, 4]), "none"),
    Case("6.1 padded without a length", openRequest + Wire.frame(0, 8, 1, []), "GOAWAY FRAME_SIZE_ERROR"),
    Case("6.2 HEADERS on stream 0", Wire.headers(0, Wire.get), "GOAWAY PROTOCOL_ERROR"),
    Case("6.2 padding too long", Wire.frame(1, 0x0D, 1, [9, 0x82, 0x84]), "GOAWAY PROTOCOL_ERROR"),
    Case("6.2 padded without a length", Wire.frame(1, 0x0D, 1, []), "GOAWAY FRAME_SIZE_ERROR"),
    Case("6.2 priority cut off", Wire.frame(1, 0x25, 1, [0, 0, 0]), "GOAWAY FRAME_SIZE_ERROR"),
    Case(
      "6.2 padding and priority", Wire.frame(1, 0x2D, 1, [2, 0, 0, 0, 3, 9] + Wire.block(Wire.get) + [0, 0]), "none"),
    Case(
      "5.3.1 HEADERS depends on itself", Wire.frame(1, 0x25, 1, [0, 0, 0, 1, 9] + Wire.block(Wire.get)),
      "GOAWAY PROTOCOL_ERROR"),
    Case("5.3.1 PRIORITY depends on itself", Wire.frame(2, 0, 3, [0, 0, 0, 3, 1]), "GOAWAY PROTOCOL_ERROR"),
    Case("6.3 PRIORITY of an idle stream", Wire.frame(2, 0, 3, [0, 0, 0, 1, 1]) + request, "none"),
    Case("6.3 PRIORITY on stream 0", Wire.frame(2, 0, 0, [0, 0, 0, 1, 1]), "GOAWAY PROTOCOL_ERROR"),
    Case("6.3 PRIORITY of four octets", openRequest + Wire.frame(2, 0, 1, [0, 0, 0, 1]), "RST 1 FRAME_SIZE_ERROR"),
    Case("6.4 RST_STREAM on stream 0", Wire.reset(0), "GOAWAY PROTOCOL_ERROR"),
    Case("6.4 RST_STREAM of an idle stream", Wire.reset(1), "GOAWAY PROTOCOL_ERROR"),
    Case("6.4 RST_STREAM of three octets", openRequest + Wire.frame(3, 0, 1, [0, 0, 0]), "GOAWAY FRAME_SIZE_ERROR"),
    Case("6.5 acknowledgement with a payload", Wire.frame(4, 1, 0, [0, 0, 0, 0, 0, 0]), "GOAWAY FRAME_SIZE_ERROR"),
    Case("6.5 SETTINGS on a stream", Wire.frame(4, 0, 1), "GOAWAY PROTOCOL_ERROR"),
    Case("6.5 SETTINGS of five octets", Wire.frame(4, 0, 0, [0, 3, 0, 0, 0]), "GOAWAY FRAME_SIZE_ERROR"),
    Case("6.5 acknowledgement of nothing", Wire.settingsAck, "GOAWAY PROTOCOL_ERROR"),
    Case("6.5.2 ENABLE_PUSH 2", Wire.settings([(2, 2)]), "GOAWAY PROTOCOL_ERROR"),
    Case("6.5.2 window above 2^31-1", Wire.settings([(4, 0x8000_0000)]), "GOAWAY FLOW_CONTROL_ERROR"),
    Case("6.5.2 frame size below 2^14", Wire.settings([(5, 16_383)]), "GOAWAY PROTOCOL_ERROR"),
    Case("6.5.2 frame size above 2^24-1", Wire.settings([(5, 16_777_216)]), "GOAWAY PROTOCOL_ERROR"),
    Case("6.5.2 unknown setting", Wire.settings([(0xFF, 1)]), "none"),
    Case("8441 ENABLE_CONNECT_PROTOCOL 2", Wire.settings([(8, 2)]), "GOAWAY PROTOCOL_ERROR"),
    Case("8441 ENABLE_CONNECT_PROTOCOL 0 at first", Wire.settings([(8, 0)]), "none"),
    Case("6.6 PUSH_PROMISE", Wire.frame(5, 4, 1, [0, 0, 0, 2]), "GOAWAY PROTOCOL_ERROR"),
    Case("6.7 PING on a stream", Wire.frame(6, 0, 1, [UInt8](repeating: 0, count: 8)), "GOAWAY PROTOCOL_ERROR"),
    Case("6.7 PING of six octets", Wire.frame(6, 0, 0, [UInt8](repeating: 0, count: 6)), "GOAWAY FRAME_SIZE_ERROR"),
    Case("6.7 PING acknowledgement", Wire.frame(6, 1, 0, [UInt8](repeating: 7, count: 8)), "none"),
    Case("6.8 GOAWAY on a stream", Wire.frame(7, 0, 1, [UInt8](repeating: 0, count: 8)), "GOAWAY PROTOCOL_ERROR"),
    Case("6.8 GOAWAY of seven octets", Wire.frame(7, 0, 0, [UInt8](repeating: 0, count: 7)), "GOAWAY FRAME_SIZE_ERROR"),
    Case("7 GOAWAY with an unknown code", Wire.frame(7, 0, 0, [0, 0, 0, 0, 0, 0, 0, 0xFF]), "none"),
    Case("6.9 WINDOW_UPDATE by 0", Wire.window(0, 0), "GOAWAY PROTOCOL_ERROR"),
    Case("6.9 WINDOW_UPDATE of a stream by 0", openRequest + Wire.window(1, 0), "RST 1 PROTOCOL_ERROR"),
    Case("6.9 WINDOW_UPDATE of three octets", Wire.frame(8, 0, 0, [0, 0, 1]), "GOAWAY FRAME_SIZE_ERROR"),
    Case("6.9.1 connection window above 2^31-1", Wire.window(0, 0x7FFF_FFFF), "GOAWAY FLOW_CONTROL_ERROR"),
    Case(
      "6.9.1 stream window above 2^31-1", openRequest + Wire.window(1, 0x7FFF_FFFF), "RST 1 FLOW_CONTROL_ERROR"),
    Case(
      "6.9.2 initial window moves one above 2^31-1",
      openRequest + Wire.window(1, 0x7FFF_0000) + Wire.settings([(4, 0x7FFF_FFFF)]), "GOAWAY FLOW_CONTROL_ERROR"),
    Case("6.10 CONTINUATION alone", Wire.frame(9, 4, 1, []), "GOAWAY PROTOCOL_ERROR"),
    Case("6.10 CONTINUATION on stream 0", Wire.frame(9, 4, 0, []), "GOAWAY PROTOCOL_ERROR"),
    Case("6.10 CONTINUATION after a whole block", openRequest + Wire.frame(9, 4, 1, []), "GOAWAY PROTOCOL_ERROR"),
    Case(
      "6.10 CONTINUATION after DATA", openRequest + Wire.data(1, "a") + Wire.frame(9, 4, 1, []),
      "GOAWAY PROTOCOL_ERROR"),
    Case(
      "6.10 CONTINUATION of another stream", Wire.frame(1, 1, 1, []) + Wire.frame(9, 4, 3, Wire.block(Wire.get)),
      "GOAWAY PROTOCOL_ERROR"),
    Case(
      "6.10 several CONTINUATION frames",
      Wire.frame(1, 1, 1, Array(Wire.block(Wire.get).prefix(3)))
        + Wire.frame(9, 0, 1, Array(Wire.block(Wire.get).dropFirst(3).prefix(10)))
        + Wire.frame(9, 4, 1, Array(Wire.block(Wire.get).dropFirst(13))), "none"),
  ]

  static let states: [Case] = [
    Case("idle: DATA", Wire.data(1, "a", end: true), "GOAWAY PROTOCOL_ERROR"),
    Case("idle: WINDOW_UPDATE", Wire.window(1, 100), "GOAWAY PROTOCOL_ERROR"),
    Case("idle: CONTINUATION", Wire.frame(9, 4, 1, Wire.block(Wire.get)), "GOAWAY PROTOCOL_ERROR"),
    Case("idle: of ours", Wire.data(2, "a"), "GOAWAY PROTOCOL_ERROR"),
    Case("half-closed: DATA", request + Wire.data(1, "a", end: true), "RST 1 STREAM_CLOSED"),
    Case("half-closed: HEADERS", request + Wire.headers(1, Wire.get), "RST 1 STREAM_CLOSED"),
    Case("half-closed: CONTINUATION", request + Wire.frame(9, 4, 1, []), "GOAWAY PROTOCOL_ERROR"),
    Case(
      "half-closed: WINDOW_UPDATE, PRIORITY", request + Wire.window(1, 1) + Wire.frame(2, 0, 1, [0, 0, 0, 3, 1]), "none"
    ),
    Case("reset: DATA", openRequest + Wire.reset(1) + Wire.data(1, "a", end: true), "GOAWAY STREAM_CLOSED"),
    Case("reset: HEADERS", openRequest + Wire.reset(1) + Wire.headers(1, Wire.get), "GOAWAY STREAM_CLOSED"),
    Case("reset: CONTINUATION", openRequest + Wire.reset(1) + Wire.frame(9, 4, 1, []), "GOAWAY PROTOCOL_ERROR"),
    Case("reset: WINDOW_UPDATE, RST_STREAM", openRequest + Wire.reset(1) + Wire.window(1, 1) + Wire.reset(1), "none"),
    Case("an even stream", Wire.headers(2, Wire.get), "GOAWAY PROTOCOL_ERROR"),
    Case("a lower stream", Wire.headers(5, Wire.get) + Wire.headers(3, Wire.get), "GOAWAY PROTOCOL_ERROR"),
    Case("two requests", request + Wire.headers(3, Wire.get), "none"),
    Case(
      "a second head without an end", openRequest + Wire.headers(1, [("x", "y")], end: false), "RST 1 PROTOCOL_ERROR"),
    Case("trailers", openRequest + Wire.data(1, "a") + Wire.headers(1, [("x", "y")]), "none"),
    Case("RST_STREAM with an unknown code", openRequest + Wire.reset(1, 0xFF), "none"),
    Case(
      "GOAWAY that raises the last stream",
      Wire.frame(7, 0, 0, [0, 0, 0, 1, 0, 0, 0, 0]) + Wire.frame(7, 0, 0, [0, 0, 0, 3, 0, 0, 0, 0]),
      "GOAWAY PROTOCOL_ERROR"),
  ]

  @Test(arguments: frames + states)
  func answers(test: Case) {
    let server = Endpoint.server()
    server.receive(test.bytes)
    #expect(server.refusal() == test.expected)
    // The same, octet by octet.
    let slow = Endpoint.server()
    for octet in test.bytes { slow.receive([octet]) }
    #expect(slow.refusal() == test.expected)
  }

  @Test(arguments: [
    Case("not a preface", Array("GET / HTTP/1.1\r\n\r\n".utf8), "GOAWAY PROTOCOL_ERROR"),
    Case("a preface that goes wrong late", Array("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\r".utf8), "GOAWAY PROTOCOL_ERROR"),
    Case("no SETTINGS", Wire.preface + request, "GOAWAY PROTOCOL_ERROR"),
    Case("PING first", Wire.preface + Wire.frame(6, 0, 0, [UInt8](repeating: 0, count: 8)), "GOAWAY PROTOCOL_ERROR"),
    Case("an acknowledgement first", Wire.preface + Wire.settingsAck, "GOAWAY PROTOCOL_ERROR"),
    Case("as it should be", Wire.preface + Wire.settings() + request, "none"),
  ])
  func prefaces(test: Case) {
    let server = Endpoint(.server)
    server.receive(test.bytes)
    #expect(server.refusal() == test.expected)
  }

  @Test func completedStreamsAreClosed() throws {
    for (late, expected) in [
      (Wire.data(1, "a"), "GOAWAY STREAM_CLOSED"), (Wire.headers(1, Wire.get), "GOAWAY STREAM_CLOSED"),
      (Wire.window(1, 1), "none"), (Wire.reset(1), "none"), (Wire.frame(2, 0, 1, [0, 0, 0, 3, 1]), "none"),
    ] {
      let server = Endpoint.server()
      let key = try #require(server.receive(Self.request).first?.key)
      #expect(try server.respond(key, "HTTP/1.1 200 OK\r\n\r\n", end: true))
      #expect(!server.isOpen(key))
      server.out.clear()
      server.receive(late)
      #expect(server.refusal() == expected)
    }
  }

  /// RFC 9113 section 5.1: what was on its way when we reset a stream is ignored, but for the table and the windows.
  @Test func streamsThatWeResetIgnoreWhatComesLate() throws {
    let server = Endpoint.server()
    let key = try #require(server.receive(Self.openRequest).first?.key)
    server.connection.reset(key, .cancel, to: &server.out)
    server.out.clear()
    // A late block that enters a field into the table, which the next request refers to.
    let late = Wire.frame(1, 5, 1, [0x40, 1, 0x78, 1, 0x79])
    let next = Wire.frame(1, 5, 3, Wire.block(Wire.get) + [0xBE])
    let seen = server.receive(Wire.data(1, "late") + Wire.window(1, 1) + late + next)
    #expect(seen.map(\.head) == ["GET / HTTP/1.1\r\nhost: a.test\r\nx: y\r\n\r\n"])
    #expect(server.refusal() == "none")
  }

  @Test func moreStreamsThanOfferedAreRefused() {
    var limits = HTTP2Limits()
    limits.concurrentStreams = 2
    let server = Endpoint.server(limits: limits)
    let seen = server.receive(Self.request + Wire.headers(3, Wire.get) + Wire.headers(5, Wire.get))
    #expect(seen.count == 2)
    #expect(server.refusal() == "RST 5 REFUSED_STREAM")
    // What was under way on the refused stream goes nowhere.
    server.receive(Wire.data(5, "a"))
    #expect(server.refusal() == "none")
  }

  @Test func settingsAndPingAreAnswered() {
    let server = Endpoint.server()
    server.receive(Wire.settings([(3, 7)]) + Wire.frame(6, 0, 0, [1, 2, 3, 4, 5, 6, 7, 8]))
    #expect(
      server.sentFrames() == [
        Wire.Frame(type: 4, flags: 1), Wire.Frame(type: 6, flags: 1, payload: [1, 2, 3, 4, 5, 6, 7, 8]),
      ])
  }

  @Test func theServersPrefaceSaysWhatItOffers() {
    var limits = HTTP2Limits()
    limits.concurrentStreams = 7
    limits.decoderTable = 1024
    let server = Endpoint(.server, limits: limits)
    let frames = server.sentFrames()
    let values = stride(from: 0, to: frames[0].payload.count, by: 6).map { Array(frames[0].payload[$0..<($0 + 6)]) }
    #expect(
      values == [
        [0, 3, 0, 0, 0, 7], [0, 4, 0, 4, 0, 0], [0, 6, 0, 1, 0, 0], [0, 1, 0, 0, 4, 0], [0, 8, 0, 0, 0, 1],
      ])
    #expect(frames[1] == Wire.Frame(type: 8, payload: Wire.number((1 << 20) - 65_535)))
    #expect(frames.count == 2)
  }
}
