import NIOCore
import Testing

@testable import HTTP2

/// Peers that cost more than they bring: each budget, spent to the last frame that is taken and one beyond.
@Suite struct FloodTests {
  struct Flood: Sendable, CustomTestStringConvertible {
    var name: String
    /// Before the flood.
    var start: [UInt8] = []
    var unit: [UInt8]
    /// How many units are taken; the next one ends the connection.
    var taken: Int
    init(_ name: String, start: [UInt8] = [], unit: [UInt8], taken: Int) {
      self.name = name
      self.start = start
      self.unit = unit
      self.taken = taken
    }
    var testDescription: String { name }
  }

  /// 100 frames that carry nothing, and no more with time.
  static var limits: HTTP2Limits {
    var limits = HTTP2Limits()
    limits.idleFrames = 100
    limits.idleFramesPerSecond = 0
    return limits
  }

  static let body = Wire.headers(1, Wire.post, end: false)

  @Test(arguments: [
    Flood("PING", unit: Wire.frame(6, 0, 0, [UInt8](repeating: 0, count: 8)), taken: 96),
    Flood("PING acknowledgements", unit: Wire.frame(6, 1, 0, [UInt8](repeating: 0, count: 8)), taken: 96),
    Flood("SETTINGS", unit: Wire.settings([(3, 1)]), taken: 24),
    Flood("large SETTINGS", unit: Wire.settings([(UInt16, UInt32)](repeating: (3, 1), count: 2000)), taken: 0),
    Flood("PRIORITY", unit: Wire.frame(2, 0, 9, [0, 0, 0, 1, 1]), taken: 96),
    Flood("WINDOW_UPDATE", unit: Wire.window(0, 1), taken: 96),
    Flood("unknown frames", unit: Wire.frame(0x77), taken: 96),
    Flood("GOAWAY", unit: Wire.frame(7, 0, 0, [UInt8](repeating: 0, count: 8)), taken: 96),
    Flood("empty DATA", start: body, unit: Wire.data(1, ""), taken: 100),
    Flood("empty padded DATA", start: body, unit: Wire.frame(0, 8, 1, [0]), taken: 100),
    Flood("RST_STREAM of a closed stream", start: body + Wire.reset(1), unit: Wire.reset(1), taken: 100),
  ])
  func endsInCalm(test: Flood) {
    let server = Endpoint.server(limits: Self.limits)
    server.receive(test.start)
    for _ in 0..<test.taken { server.receive(test.unit) }
    #expect(server.refusal() == "none")
    server.receive(test.unit)
    #expect(server.refusal() == "GOAWAY ENHANCE_YOUR_CALM")
    // Nothing is read any more, and nothing kept.
    server.receive(test.unit)
    #expect(server.input.readableBytes == 0)
    #expect(server.out.readableBytes == 0)
  }

  @Test func timeGivesFramesBack() {
    var limits = Self.limits
    limits.idleFramesPerSecond = 10
    let server = Endpoint.server(limits: limits)
    let ping = Wire.frame(6, 0, 0, [UInt8](repeating: 0, count: 8))
    for _ in 0..<96 { server.receive(ping) }
    server.now += 1_000_000_000
    for _ in 0..<10 { server.receive(ping) }
    #expect(server.refusal() == "none")
    server.receive(ping)
    #expect(server.refusal() == "GOAWAY ENHANCE_YOUR_CALM")
  }

  @Test func workGivesFramesBack() throws {
    // A reader that updates both windows for each frame that it gets, for ever.
    let server = Endpoint.server(limits: Self.limits)
    let key = try #require(server.receive(Wire.headers(1, Wire.get)).first?.key)
    #expect(try server.respond(key, "HTTP/1.1 200 OK\r\n\r\n", end: false))
    for _ in 0..<5000 {
      #expect(server.send(key, [1, 2, 3], end: false).0 == .all)
      server.receive(Wire.window(0, 3) + Wire.window(1, 3))
    }
    server.out.clear()
    server.receive(Wire.window(0, 3))
    #expect(server.refusal() == "none")
  }

  /// CVE-2023-44487: each request is cancelled at once.
  @Test func rapidReset() {
    var limits = HTTP2Limits()
    limits.resets = 50
    limits.resetsPerSecond = 0
    let server = Endpoint.server(limits: limits)
    var id: UInt32 = 1
    for _ in 0..<50 {
      server.receive(Wire.headers(id, Wire.get) + Wire.reset(id))
      id += 2
    }
    #expect(server.refusal() == "none")
    #expect(server.openStreams == 0)
    server.receive(Wire.headers(id, Wire.get) + Wire.reset(id))
    #expect(server.refusal() == "GOAWAY ENHANCE_YOUR_CALM")
    #expect(server.problem == .tooManyResets)
  }

  /// CVE-2025-8671: the server is made to reset the streams itself.
  @Test(arguments: ["WINDOW_UPDATE by 0", "malformed requests", "DATA after the end", "too many streams"])
  func madeToReset(name: String) {
    var limits = HTTP2Limits()
    limits.resets = 50
    limits.resetsPerSecond = 0
    limits.concurrentStreams = name == "too many streams" ? 0 : 100
    let server = Endpoint.server(limits: limits)
    var id: UInt32 = 1
    var sent = 0
    while server.problem == nil, sent < 1000 {
      let bytes: [UInt8] =
        switch name {
        case "WINDOW_UPDATE by 0": Wire.headers(id, Wire.get) + Wire.window(id, 0)
        case "malformed requests": Wire.headers(id, [(":method", "GET")])
        case "DATA after the end": Wire.headers(id, Wire.get) + Wire.data(id, "a")
        default: Wire.headers(id, Wire.get)
        }
      server.receive(bytes)
      id += 2
      sent += 1
    }
    #expect(sent == 51)
    #expect(server.problem == .tooManyResets)
  }

  @Test func resetsOfGoodCitizensAreForgiven() throws {
    var limits = HTTP2Limits()
    limits.resets = 20
    limits.resetsPerSecond = 0
    let server = Endpoint.server(limits: limits)
    var id: UInt32 = 1
    // One in ten is cancelled, ten thousand times.
    for round in 0..<10_000 {
      let key = try #require(server.receive(Wire.headers(id, Wire.get)).first?.key)
      if round % 10 == 0 {
        server.receive(Wire.reset(id))
      } else {
        #expect(try server.respond(key, "HTTP/1.1 200 OK\r\n\r\n", end: true))
      }
      server.out.clear()
      id += 2
    }
    #expect(server.problem == nil)
  }

  @Test func continuationFlood() {
    let server = Endpoint.server()
    server.receive(Wire.frame(1, 1, 1, Wire.block(Wire.get)))
    for _ in 0..<32 { server.receive(Wire.frame(9, 0, 1, [])) }
    #expect(server.refusal() == "none")
    server.receive(Wire.frame(9, 0, 1, []))
    #expect(server.refusal() == "GOAWAY ENHANCE_YOUR_CALM")
    #expect(server.problem == .tooManyContinuations)
  }

  @Test func aBlockIsBounded() {
    let server = Endpoint.server()
    let part = [UInt8](repeating: 0x82, count: 16_384)
    server.receive(Wire.frame(1, 1, 1, part))
    for _ in 0..<4 { server.receive(Wire.frame(9, 0, 1, part)) }
    #expect(server.refusal() == "none")
    #expect(server.blockBytes == 80 << 10)
    server.receive(Wire.frame(9, 0, 1, [0x82]))
    #expect(server.problem == .blockTooLarge)
  }

  /// One octet each that stands for four thousand: the list ends at four times its limit, not at 64 MiB.
  @Test func compressionBomb() {
    let server = Endpoint.server()
    let large = [0x40] + Wire.string([0x78]) + Wire.string([UInt8](repeating: 0x79, count: 4000))
    let block = Wire.block(Wire.get) + large + [UInt8](repeating: 0xBE, count: 50)
    #expect(server.receive(Wire.frame(1, 5, 1, block)).map(\.event).first?.isOversized == true)
    #expect(server.refusal() == "none")
    server.receive(Wire.frame(1, 5, 3, Wire.block(Wire.get) + [UInt8](repeating: 0xBE, count: 16_000)))
    #expect(server.refusal() == "GOAWAY ENHANCE_YOUR_CALM")
    #expect(server.problem == .listTooLarge)
    // Names from the table, each time with a new value.
    let names = Endpoint.server()
    let long = [0x40] + Wire.string([UInt8](repeating: 0x78, count: 3900)) + Wire.string([0x79])
    names.receive(Wire.frame(1, 5, 1, Wire.block(Wire.get) + long))
    let again = (0..<4000).flatMap { _ in [0x0F, 0x2F, 0x00] as [UInt8] }
    names.receive(Wire.frame(1, 5, 3, Wire.block(Wire.get) + again))
    #expect(names.problem == .listTooLarge)
  }

  @Test func blocksAndPrefacesAreTimed() {
    let silent = Endpoint(.server)
    #expect(silent.deadline == silent.now + 10_000_000_000)
    #expect(silent.tick(at: silent.now) == .needsInput)
    #expect(silent.tick(at: silent.deadline) == .failed)
    #expect(silent.problem == .headTimeout)

    let unacknowledged = Endpoint(.server)
    unacknowledged.receive(Wire.preface + Wire.settings())
    #expect(unacknowledged.tick(at: unacknowledged.deadline) == .failed)
    #expect(unacknowledged.problem == .settingsTimeout)

    let slow = Endpoint.server()
    #expect(slow.deadline == .max)
    slow.receive(Wire.frame(1, 1, 1, []))
    slow.now += 9_000_000_000
    slow.receive(Wire.frame(9, 0, 1, []))
    #expect(slow.tick(at: slow.now) == .needsInput)
    slow.now += 1_000_000_000
    #expect(slow.tick(at: slow.now) == .failed)
  }

  /// A peer that never opens its window.
  @Test func zeroWindowStall() throws {
    let server = Endpoint.server(settings: [(4, 0)])
    let keys = server.receive(Wire.headers(1, Wire.get) + Wire.headers(3, Wire.get)).compactMap(\.key)
    for key in keys {
      #expect(try server.respond(key, "HTTP/1.1 200 OK\r\n\r\n", end: false))
      #expect(server.send(key, [1], end: true) == (.blocked, 1))
    }
    server.now += 59_000_000_000
    #expect(server.tick(at: server.now) == .needsInput)
    server.now += 1_000_000_000
    #expect(server.deadline <= server.now)
    #expect(server.tick(at: server.now) == .stalled(keys[0]))
    #expect(server.tick(at: server.now) == .stalled(keys[1]))
    // Each is reported once.
    #expect(server.tick(at: server.now) == .needsInput)
    #expect(server.deadline == .max)
    server.connection.reset(keys[0], .enhanceYourCalm, to: &server.out)
    #expect(server.openStreams == 1)
  }

  /// What a connection remembers of streams that are gone does not grow.
  @Test func closedStreamsAreForgotten() throws {
    let server = Endpoint.server()
    var id: UInt32 = 1
    for _ in 0..<5000 {
      let key = try #require(server.receive(Wire.headers(id, Wire.get)).first?.key)
      #expect(key.slot < 8)
      #expect(try server.respond(key, "HTTP/1.1 200 OK\r\n\r\n", end: true))
      server.out.clear()
      id += 2
    }
    #expect(server.slots == 8)
    #expect(server.openStreams == 0)
  }
}
