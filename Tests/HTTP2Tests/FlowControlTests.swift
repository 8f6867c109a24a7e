import NIOCore
import Testing

@testable import HTTP2

/// RFC 9113 sections 5.2 and 6.9.
@Suite struct FlowControlTests {
  static func dataOctets(_ frames: [Wire.Frame]) -> Int {
    frames.filter { $0.type == 0 }.reduce(0) { $0 + $1.payload.count }
  }

  /// A server with one response begun, towards a peer with this initial window.
  static func responding(window: UInt32) throws -> (Endpoint, StreamKey) {
    let server = Endpoint.server(settings: [(4, window)])
    let key = try #require(server.receive(Wire.headers(1, Wire.get)).first?.key)
    #expect(try server.respond(key, "HTTP/1.1 200 OK\r\n\r\n", end: false))
    server.out.clear()
    return (server, key)
  }

  /// h2spec 6.9.1: one octet.
  @Test func aWindowOfOneLetsOneOctetGo() throws {
    let (server, key) = try Self.responding(window: 1)
    #expect(server.send(key, [1, 2, 3], end: true) == (.blocked, 2))
    #expect(server.sentFrames() == [Wire.Frame(type: 0, flags: 0, stream: 1, payload: [1])])
    #expect(server.receive(Wire.window(1, 1)).map(\.event) == [.writable])
    #expect(server.nextWritable() == key)
    #expect(server.nextWritable() == nil)
    #expect(server.send(key, [2, 3], end: true) == (.blocked, 1))
    server.out.clear()
    server.receive(Wire.window(1, 100))
    #expect(server.send(key, [3], end: true) == (.all, 0))
    #expect(server.sentFrames() == [Wire.Frame(type: 0, flags: 1, stream: 1, payload: [3])])
  }

  /// h2spec 6.9.2: the initial window changes while streams are open, and can make their windows negative.
  @Test func theInitialWindowMovesOpenStreams() throws {
    let (server, key) = try Self.responding(window: 3)
    #expect(server.send(key, [1, 2, 3, 4], end: true) == (.blocked, 1))
    server.receive(Wire.settings([(4, 1)]))
    server.receive(Wire.window(1, 2))
    #expect(server.send(key, [4], end: true).0 == .blocked)
    #expect(Self.dataOctets(server.sentFrames()) == 3)
    server.receive(Wire.window(1, 1))
    #expect(server.nextWritable() == key)
    #expect(server.send(key, [4], end: true).0 == .all)
  }

  @Test func theLastOfSeveralValuesCounts() throws {
    let (server, key) = try Self.responding(window: 0)
    server.receive(Wire.settings([(4, 100), (4, 1)]))
    #expect(server.send(key, [1, 2], end: true) == (.blocked, 1))
  }

  @Test func anEmptyEndNeedsNoWindow() throws {
    let (server, key) = try Self.responding(window: 0)
    #expect(server.send(key, [], end: true).0 == .all)
    #expect(server.sentFrames() == [Wire.Frame(type: 0, flags: 1, stream: 1)])
  }

  @Test func theConnectionsWindowIsShared() throws {
    let server = Endpoint.server(settings: [(4, 1_000_000)])
    let keys = server.receive([1, 3, 5].flatMap { Wire.headers($0, Wire.get) }).compactMap(\.key)
    for key in keys { #expect(try server.respond(key, "HTTP/1.1 200 OK\r\n\r\n", end: false)) }
    server.out.clear()
    let content = [UInt8](repeating: 0, count: 40_000)
    #expect(server.send(keys[0], content, end: false) == (.all, 0))
    #expect(server.send(keys[1], content, end: false) == (.blocked, 40_000 - 25_535))
    #expect(server.send(keys[2], content, end: false) == (.blocked, 40_000))
    #expect(Self.dataOctets(server.sentFrames()) == 65_535)
    #expect(server.receive(Wire.window(0, 10)).map(\.event) == [.writable])
    // Each once around, in turn.
    #expect(server.nextWritable() == keys[1])
    #expect(server.nextWritable() == keys[2])
    #expect(server.nextWritable() == nil)
  }

  @Test func framesAreNoLargerThanEveryPeerTakes() throws {
    let (server, key) = try Self.responding(window: 65_535)
    #expect(server.send(key, [UInt8](repeating: 0, count: 50_000), end: true).0 == .all)
    #expect(server.sentFrames().map(\.payload.count) == [16_384, 16_384, 16_384, 848])
  }

  @Test func contentThatTheDriverWritesItself() throws {
    let (server, key) = try Self.responding(window: 65_535)
    #expect(server.beginData(key, 20_000, end: true) == 16_384)
    #expect(server.takeOut() == [0, 0x40, 0, 0, 0, 0, 0, 0, 1])
    #expect(server.beginData(key, 10, end: true) == 10)
    #expect(server.takeOut() == [0, 0, 10, 0, 1, 0, 0, 0, 1])
    #expect(server.beginData(key, 10, end: true) == -1)
  }

  @Test func receivedContentIsCreditedWhenDrained() throws {
    var limits = HTTP2Limits()
    limits.streamWindow = 1000
    limits.connectionWindow = 70_000
    let server = Endpoint.server(limits: limits)
    let key = try #require(server.receive(Wire.headers(1, Wire.post, end: false)).first?.key)
    server.receive(Wire.frame(0, 0, 1, [UInt8](repeating: 0, count: 1000)))
    #expect(server.sentFrames().isEmpty)
    server.connection.consumed(key, 499, to: &server.out)
    #expect(server.sentFrames().isEmpty)
    server.connection.consumed(key, 1, to: &server.out)
    #expect(server.sentFrames() == [Wire.Frame(type: 8, stream: 1, payload: Wire.number(500))])
    server.receive(Wire.frame(0, 0, 1, [UInt8](repeating: 0, count: 500)))
    #expect(server.refusal() == "none")
    // Padding is drained at once: 200 of padding and its length octet.
    server.connection.consumed(key, 500, to: &server.out)
    server.out.clear()
    server.receive(Wire.frame(0, 8, 1, [200] + [UInt8](repeating: 0, count: 299)))
    #expect(server.refusal() == "none")
    server.connection.consumed(key, 299, to: &server.out)
    #expect(server.sentFrames() == [Wire.Frame(type: 8, stream: 1, payload: Wire.number(500))])
  }

  @Test func moreThanTheWindowIsAnError() throws {
    var limits = HTTP2Limits()
    limits.streamWindow = 1000
    limits.connectionWindow = 70_000
    let server = Endpoint.server(limits: limits)
    server.receive(Wire.headers(1, Wire.post, end: false))
    server.receive(Wire.frame(0, 0, 1, [UInt8](repeating: 0, count: 1001)))
    #expect(server.refusal() == "RST 1 FLOW_CONTROL_ERROR")
    // The connection's: 70,000 octets over many streams that are never drained.
    let wide = Endpoint.server(limits: limits)
    var id: UInt32 = 1
    for _ in 0..<70 {
      wide.receive(Wire.headers(id, Wire.post, end: false))
      wide.receive(Wire.frame(0, 0, id, [UInt8](repeating: 0, count: 1000)))
      id += 2
    }
    #expect(wide.refusal() == "none")
    wide.receive(Wire.headers(id, Wire.post, end: false) + Wire.data(id, "a"))
    #expect(wide.refusal() == "GOAWAY FLOW_CONTROL_ERROR")
  }

  /// Until our SETTINGS are acknowledged the peer goes by the protocol's 65,535 (RFC 9113 section 6.9.2).
  @Test func aSmallWindowCountsOnceAcknowledged() throws {
    var limits = HTTP2Limits()
    limits.streamWindow = 10
    let server = Endpoint(.server, limits: limits)
    server.receive(Wire.preface + Wire.settings() + Wire.headers(1, Wire.post, end: false))
    server.out.clear()
    server.receive(Wire.frame(0, 0, 1, [UInt8](repeating: 0, count: 16_000)))
    #expect(server.refusal() == "none")
    server.receive(Wire.settingsAck + Wire.data(1, "a"))
    #expect(server.refusal() == "RST 1 FLOW_CONTROL_ERROR")
  }

  @Test func resetStreamsGiveTheConnectionItsWindowBack() throws {
    var limits = HTTP2Limits()
    limits.connectionWindow = 70_000
    limits.resets = 100_000
    let server = Endpoint.server(limits: limits)
    var id: UInt32 = 1
    for _ in 0..<200 {
      let key = try #require(server.receive(Wire.headers(id, Wire.post, end: false)).first?.key)
      // Half a frame is there when the driver resets the stream; the rest comes later.
      let frame = Wire.frame(0, 0, id, [UInt8](repeating: 0, count: 16_000))
      server.receive(Array(frame.prefix(8000)))
      switch id / 2 % 3 {
      case 0: server.connection.reset(key, .cancel, to: &server.out)
      default: break
      }
      server.receive(Array(frame.dropFirst(8000)))
      if id / 2 % 3 == 1 { server.receive(Wire.reset(id)) }
      if id / 2 % 3 == 2 {
        server.receive(Wire.data(id, "", end: true))
        #expect(try server.respond(key, "HTTP/1.1 204 No\r\n\r\n", end: true))
        server.connection.consumed(key, 16_000, to: &server.out)
      }
      id += 2
    }
    #expect(server.problem == nil)
    #expect(server.orphaned == 0)
    #expect(server.receiveWindow + server.credit == 70_000)
  }
}
