import NIOCore
import Testing

@testable import HTTP2

/// A client and a server of ours that talk in pieces of any size.
@Suite struct ConversationTests {
  /// One request and its answer, as one side sends and the other has to see it.
  struct Exchange {
    var body: [UInt8]
    var answer: [UInt8]
    var trailers: Bool
    var received: [UInt8] = []
    var answered: [UInt8] = []
    var sawTrailers = false
    var isDone = false
  }

  /// A content that is still to be sent.
  struct Pending {
    var content: ByteBuffer
    var trailers: Bool
    var undrained = 0
  }

  final class Talk {
    let client: Endpoint
    let server: Endpoint
    var random: Seeded
    var exchanges: [UInt32: Exchange] = [:]
    var uploads: [StreamKey: Pending] = [:]
    var answers: [StreamKey: Pending] = [:]
    /// Octets that a side has received and not drained.
    var undrained: [(Endpoint, StreamKey, Int)] = []

    init(seed: UInt64) {
      random = Seeded(seed)
      var limits = HTTP2Limits()
      limits.streamWindow = [1000, 65_535, 100_000][Int(seed % 3)]
      limits.connectionWindow = 100_000
      limits.concurrentStreams = 10
      client = Endpoint(.client, limits: limits)
      server = Endpoint(.server, limits: limits)
    }

    func start(_ number: Int) throws {
      let body = (0..<[0, 10, 3000, 150_000][Int.random(in: 0..<4, using: &random)]).map { UInt8($0 & 0xFF) }
      let answer = (0..<[0, 5, 5000, 200_000][Int.random(in: 0..<4, using: &random)]).map { UInt8(($0 * 7) & 0xFF) }
      let length = Bool.random(using: &random) ? "content-length: \(body.count)" : "transfer-encoding: chunked"
      let text =
        "POST /\(number)/\(answer.count) HTTP/1.1\r\nHost: a\r\nX-Number: \(number)\r\nUser-Agent: same\r\n\(length)\r\n\r\n"
      guard let key = try client.open(text, end: body.isEmpty) else { return }
      exchanges[key.id] = Exchange(body: body, answer: answer, trailers: Bool.random(using: &random))
      if !body.isEmpty { uploads[key] = Pending(content: ByteBuffer(bytes: body), trailers: false) }
    }

    /// Moves some octets each way, in small or large pieces.
    func move() throws {
      for (from, to) in [(client, server), (server, client)] {
        let count = min(
          from.out.readableBytes,
          Int.random(in: 1...[10, 1000, 40_000][Int.random(in: 0..<3, using: &random)], using: &random))
        guard count > 0, let bytes = from.out.readBytes(length: count) else { continue }
        for seen in to.receive(bytes) { try note(seen, at: to) }
      }
      pump()
      drain()
    }

    func note(_ seen: Seen, at side: Endpoint) throws {
      switch seen.event {
      case .request(let key, let end):
        let number = try #require(exchanges[key.id])
        #expect(seen.head.hasPrefix("POST /"))
        if end { try answer(key, number) }
      case .response(let key, let end): if end { exchanges[key.id]?.isDone = true }
      case .data(let key, let count, let end):
        if side === server {
          exchanges[key.id]?.received += seen.content
          if end, let exchange = exchanges[key.id] { try answer(key, exchange) }
        } else {
          exchanges[key.id]?.answered += seen.content
          if end { exchanges[key.id]?.isDone = true }
        }
        if count > 0 { undrained.append((side, key, count)) }
      case .trailers(let key):
        #expect(seen.head == "x-end: yes\r\n\r\n")
        exchanges[key.id]?.sawTrailers = true
        exchanges[key.id]?.isDone = true
      case .settings, .writable, .goAway: break
      default: Issue.record("unexpected \(seen)")
      }
    }

    func answer(_ key: StreamKey, _ exchange: Exchange) throws {
      let isEmpty = exchange.answer.isEmpty && !exchange.trailers
      #expect(try server.respond(key, "HTTP/1.1 200 OK\r\nServer: same\r\nX-N: \(key.id)\r\n\r\n", end: isEmpty))
      if !isEmpty { answers[key] = Pending(content: ByteBuffer(bytes: exchange.answer), trailers: exchange.trailers) }
    }

    /// Sends what the windows allow. Every stream is tried, so that no wake-up is needed.
    func pump() {
      for (key, var pending) in uploads {
        if client.connection.send(key, &pending.content, endStream: true, to: &client.out, now: client.now) == .all {
          uploads[key] = nil
        } else {
          uploads[key] = pending
        }
      }
      for (key, var pending) in answers {
        let sent = server.connection.send(
          key, &pending.content, endStream: !pending.trailers, to: &server.out, now: server.now)
        answers[key] = sent == .all ? nil : pending
        if sent == .all, pending.trailers {
          let ended = try? server.sendTrailers(key, "X-End: yes\r\n\r\n")
          #expect(ended == true)
        }
      }
    }

    func drain() {
      while !undrained.isEmpty, Int.random(in: 0..<3, using: &random) > 0 {
        let (side, key, count) = undrained.removeFirst()
        let part = Int.random(in: 1...count, using: &random)
        side.connection.consumed(key, part, to: &side.out)
        if part < count { undrained.append((side, key, count - part)) }
      }
    }
  }

  @Test(arguments: 1...12)
  func everythingArrives(seed: Int) throws {
    let talk = Talk(seed: UInt64(seed))
    var started = 0
    var rounds = 0
    while rounds < 50_000 {
      rounds += 1
      if started < 60, Int.random(in: 0..<5, using: &talk.random) == 0 {
        try talk.start(started)
        started += 1
      }
      try talk.move()
      if started == 60, talk.exchanges.values.allSatisfy(\.isDone), talk.undrained.isEmpty { break }
    }
    #expect(talk.exchanges.count > 10)
    for exchange in talk.exchanges.values {
      #expect(exchange.isDone)
      // Not as arrays: a failure would print all of them.
      let arrived = (exchange.received == exchange.body, exchange.answered == exchange.answer)
      #expect(arrived == (true, true))
      #expect(exchange.sawTrailers == exchange.trailers)
    }
    #expect(talk.client.openStreams == 0)
    #expect(talk.server.openStreams == 0)
    // Nothing is left on either side's account: all that came was drained, and what was drained was credited or is
    // still due.
    for side in [talk.client, talk.server] {
      #expect(side.orphaned == 0)
      #expect(side.receiveWindow + side.credit == 100_000)
    }
  }

  @Test func aGracefulEndTakesWhatIsUnderWay() throws {
    let client = Endpoint.client()
    let server = Endpoint.server()
    let first = try #require(try client.open("GET /1 HTTP/1.1\r\nHost: a\r\n\r\n", end: true))
    server.receive(client.takeOut())
    server.connection.drain(to: &server.out, now: server.now)
    #expect(!server.isDrained)
    // This one crosses the GOAWAY.
    let second = try #require(try client.open("GET /2 HTTP/1.1\r\nHost: a\r\n\r\n", end: true))
    #expect(client.receive(server.takeOut()).map(\.event) == [.goAway(.noError)])
    #expect(client.openness == .closed)
    #expect(try client.open("GET /3 HTTP/1.1\r\nHost: a\r\n\r\n", end: true) == nil)
    // The second request, and the answer to the PING, which brings the last GOAWAY.
    #expect(server.receive(client.takeOut()).map(\.event) == [.request(second, endStream: true)])
    let goAway = server.sentFrames()
    #expect(goAway == [Wire.Frame(type: 7, payload: [0, 0, 0, 3, 0, 0, 0, 0])])
    // What comes later is dropped without an answer.
    #expect(server.receive(Wire.headers(5, Wire.get)).isEmpty)
    #expect(server.refusal() == "none")
    for key in [first, second] { #expect(try server.respond(key, "HTTP/1.1 204 No\r\n\r\n", end: true)) }
    #expect(server.isDrained)
    client.receive(goAway.flatMap(\.bytes) + server.takeOut())
    #expect(client.isDrained)
  }

  @Test func aPeerThatDoesNotAnswerIsNotWaitedFor() {
    let server = Endpoint.server()
    server.connection.drain(to: &server.out, now: server.now)
    server.out.clear()
    #expect(server.deadline == server.now + 1_000_000_000)
    #expect(server.tick(at: server.deadline) == .needsInput)
    #expect(server.sentFrames() == [Wire.Frame(type: 7, payload: [UInt8](repeating: 0, count: 8))])
    #expect(server.isDrained)
  }

  @Test func streamsThatGoAwayRefusesCanBeSentElsewhere() throws {
    let client = Endpoint.client()
    let keys = try (0..<3).map { _ in
      try #require(try client.open("GET / HTTP/1.1\r\nHost: a\r\n\r\n", end: true))
    }
    let seen = client.receive(Wire.frame(7, 0, 0, [0, 0, 0, 1, 0, 0, 0, 0]))
    #expect(
      seen.map(\.event) == [
        .goAway(.noError), .reset(keys[1], .refusedStream, byPeer: true),
        .reset(keys[2], .refusedStream, byPeer: true),
      ])
    #expect(client.openStreams == 1)
    #expect(client.receive(Wire.headers(1, [(":status", "200")])).count == 1)
    #expect(client.isDrained)
  }

  @Test func thePeersLimitOfStreamsIsKept() throws {
    let request = "GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    let client = Endpoint.client(settings: [(3, 2)])
    #expect(try client.open(request, end: true) != nil)
    #expect(client.openness == .open)
    #expect(try client.open(request, end: true) != nil)
    #expect(client.openness == .full)
    #expect(try client.open(request, end: true) == nil)
    client.receive(Wire.headers(1, [(":status", "200")]))
    #expect(client.openness == .open)
    client.receive(Wire.settings([(3, 0)]))
    #expect(client.openness == .full)
  }

  @Test func pingsOfOursAreAnswered() {
    let client = Endpoint.client()
    let server = Endpoint.server()
    client.connection.ping(77, to: &client.out)
    server.receive(client.takeOut())
    #expect(client.receive(server.takeOut()).map(\.event) == [.pong(77)])
  }
}
