import Foundation
import HTTP2
import Synchronization
import Telemetry
import Testing
import Traffic

@testable import TrafficProxy

/// Two endpoints that behave by whether they are asked first or second.
private final class Pair: Sendable {
  enum Behaviour: Sendable { case answers, silent, resets, refuses, answersLast }

  /// What both have seen.
  final class Log: Sendable {
    private let names = Mutex<[String]>([])
    private let requests = Mutex<[String]>([])
    /// Connections that ended.
    let ended = Counted()
    /// Those who answer last may.
    let go = Counted()

    /// The number of this request over both, from 0.
    func ask(_ name: String, _ request: String) -> Int {
      requests.withLock { $0.append(request) }
      return names.withLock {
        $0.append(name)
        return $0.count - 1
      }
    }
    func wait() { while go.value == 0 { usleep(1000) } }  // between two looks
    func forget() { names.withLock { $0 = [] } }
    var asked: [String] { names.withLock { $0 } }
    var seen: [String] { requests.withLock { $0 } }
  }

  let log = Log()
  let servers: [Upstream]

  init(_ first: Behaviour, _ second: Behaviour, http2: Bool = false) {
    let log = log
    servers = ["a", "b"].map { name in
      http2 ? Self.http2(name, [first, second], log) : Self.http1(name, [first, second], log)
    }
  }

  private static func http1(_ name: String, _ behaviours: [Behaviour], _ log: Log) -> Upstream {
    Upstream { wire, _, _ in
      defer { log.ended.add(1) }
      let fields = "Content-Length: 0\r\nX-From: \(name)\r\n\r\n"
      while let request = wire.message() {
        switch behaviours[min(log.ask(name, request.head + request.body), 1)] {
        case .answers: wire.send("HTTP/1.1 200 OK\r\n\(fields)")
        case .answersLast:
          log.wait()
          wire.send("HTTP/1.1 200 OK\r\n\(fields)")
        case .silent: break
        case .resets: return wire.reset()
        case .refuses: wire.send("HTTP/1.1 503 No\r\n\(fields)")
        }
      }
    }
  }

  private static func http2(_ name: String, _ behaviours: [Behaviour], _ log: Log) -> Upstream {
    Upstream.http2 { peer, _, _ in
      defer { log.ended.add(1) }
      let fields = "x-from: \(name)\r\n\r\n"
      while let (key, request) = peer.message() {
        // The loser's stream was reset after its request had come.
        if request.reset != nil { continue }
        switch behaviours[min(log.ask(name, request.head + request.text), 1)] {
        case .answers: try peer.respond(key, "HTTP/1.1 200 \r\n\(fields)", ends: true)
        case .answersLast:
          log.wait()
          try peer.respond(key, "HTTP/1.1 200 \r\n\(fields)", ends: true)
        case .silent: break
        case .resets: peer.reset(key, .internalError)
        case .refuses: try peer.respond(key, "HTTP/1.1 503 \r\n\(fields)", ends: true)
        }
      }
    }
  }

  var names: [String] { log.asked }
  var ended: Int { log.ended.value }
  var ports: [Int] { servers.map(\.port) }
  func stop() { for server in servers { server.stop() } }
}

@Suite struct HedgeTests {
  private func harness(
    _ pair: Pair, http2: Bool = false, attempts: Int = 0, after: Duration = .milliseconds(150)
  ) async throws -> Harness {
    try await Harness(to: pair.ports) { listener, cluster, _ in
      listener.retries.hedgeAfter = after
      listener.retries.attempts = attempts
      listener.retries.conditions.formUnion([.gatewayError, .reset])
      listener.timeout = .seconds(4)
      if http2 { cluster.spoken = .http2 }
    }
  }

  private func ask(_ harness: Harness, http2: Bool, method: String = "GET", body: String = "") throws -> String {
    if http2 {
      let client = HTTP2Peer.client(harness.port)
      let key = try client.ask(method, "/", "", body: body.isEmpty ? nil : body)
      let reply = try #require(client.message(of: key)).message
      client.wire.close()
      return reply.head
    }
    let client = Wire.connect(harness.port)
    client.send(
      "\(method) / HTTP/1.1\r\nHost: a\r\n"
        + (body.isEmpty ? "\r\n" : "Content-Length: \(body.utf8.count)\r\n\r\n\(body)"))
    let reply = try #require(client.message())
    client.close()
    return reply.head
  }

  private func from(_ head: String) -> String? {
    head.lowercased().range(of: "x-from: ").map { String(head[$0.upperBound...].prefix(1)) }
  }

  @Test(arguments: [(false, false), (false, true), (true, false), (true, true)])
  func theSecondAnswersForTheFirst(down: Bool, up: Bool) async throws {
    let pair = Pair(.silent, .answers, http2: up)
    let harness = try await harness(pair, http2: up)
    let head = try ask(harness, http2: down, method: "PUT", body: "some content")
    #expect(head.hasPrefix("HTTP/1.1 200") && from(head) == pair.names.last)
    #expect(pair.names.count == 2 && Set(pair.names).count == 2)
    #expect(pair.log.seen.allSatisfy { $0.contains("some content") })
    // Both carry the same id: it is one request.
    let ids = pair.log.seen.map { $0.lowercased().components(separatedBy: "x-request-id: ")[1].prefix(32) }
    #expect(Set(ids).count == 1)
    let text = harness.metrics.prometheusText()
    #expect(text.contains("outrider_upstream_hedges_total{cluster=\"up\"} 1"))
    #expect(text.contains("outrider_upstream_hedges_won_total{cluster=\"up\"} 1"))
    let record = await harness.records.lines(1).first
    #expect(record?.contains("\"tries\":2") == true && record?.contains("\"status\":200") == true)
    // The loser is let go: its connection (HTTP/1.1) ends.
    if !up { await until { pair.ended > 0 } }
    #expect(up || pair.ended == 1)
    #expect(harness.proxy.inFlight == 0)
    await harness.stop()
    pair.stop()
  }

  @Test(arguments: [(false, false), (true, true)])
  func theFirstMayStillWin(down: Bool, up: Bool) async throws {
    let pair = Pair(.answersLast, .silent, http2: up)
    let harness = try await harness(pair, http2: up)
    async let reply = ask(harness, http2: down)
    await until { pair.names.count == 2 }
    pair.log.go.add(1)
    let head = try await reply
    #expect(head.hasPrefix("HTTP/1.1 200") && from(head) == pair.names.first)
    let text = harness.metrics.prometheusText()
    #expect(text.contains("outrider_upstream_hedges_total{cluster=\"up\"} 1"))
    #expect(!text.contains("hedges_won"))
    await harness.stop()
    pair.stop()
  }

  @Test(arguments: [Pair.Behaviour.resets, .refuses], [false, true])
  fileprivate func aSecondThatFailsChangesNothing(how: Pair.Behaviour, up: Bool) async throws {
    let pair = Pair(.answersLast, how, http2: up)
    let harness = try await harness(pair, http2: up)
    async let reply = ask(harness, http2: false)
    await until { pair.names.count == 2 }
    try await harness.turn()
    pair.log.go.add(1)
    let head = try await reply
    #expect(head.hasPrefix("HTTP/1.1 200") && from(head) == pair.names.first)
    #expect(pair.names.count == 2)
    await harness.stop()
    pair.stop()
  }

  @Test(arguments: [false, true]) func aFirstThatFailsWaitsForTheSecond(up: Bool) async throws {
    // The first fails once the second is there.
    let asked = Counted()
    let release = Counted()
    let server: @Sendable (String) -> Upstream = { name in
      Upstream { wire, _, upstream in
        while upstream.request(wire) != nil {
          asked.add(1)
          if asked.value == 1 {
            while release.value == 0 { usleep(1000) }  // between two looks
            return wire.reset()
          }
          while release.value < 2 { usleep(1000) }  // between two looks
          wire.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX-From: \(name)\r\n\r\n")
        }
      }
    }
    let servers = [server("a"), server("b")]
    let harness = try await Harness(to: servers.map(\.port)) { listener, _, _ in
      listener.retries.hedgeAfter = .milliseconds(150)
      listener.retries.attempts = 0
    }
    async let reply = ask(harness, http2: up)
    await until { asked.value == 2 }
    release.add(1)
    await until { harness.metrics.prometheusText().contains("outrider_upstream_connections_active{cluster=\"up\"} 1") }
    release.add(1)
    #expect(try await reply.hasPrefix("HTTP/1.1 200"))
    await harness.stop()
    for server in servers { server.stop() }
  }

  @Test func whenBothFailTheOrdinaryRetryFollows() async throws {
    let asked = Counted()
    let server = {
      Upstream { wire, _, upstream in
        while upstream.request(wire) != nil {
          asked.add(1)
          if asked.value <= 2 {
            while asked.value < 2 { usleep(1000) }  // between two looks
            return wire.reset()
          }
          wire.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        }
      }
    }
    let servers = [server(), server()]
    let harness = try await Harness(to: servers.map(\.port)) { listener, _, _ in
      listener.retries.hedgeAfter = .milliseconds(150)
      listener.retries.attempts = 1
      listener.retries.conditions.insert(.reset)
    }
    let client = Wire.connect(harness.port)
    client.send(get())
    #expect(client.message()?.body == "ok")
    #expect(await harness.records.lines(1).first?.contains("\"tries\":3") == true)
    client.close()
    await harness.stop()
    for server in servers { server.stop() }
  }

  @Test func theRouteTimeoutEndsBoth() async throws {
    let pair = Pair(.silent, .silent)
    let harness = try await Harness(to: pair.ports) { listener, _, _ in
      listener.retries.hedgeAfter = .milliseconds(150)
      listener.timeout = .milliseconds(500)
    }
    let head = try ask(harness, http2: false)
    #expect(head.hasPrefix("HTTP/1.1 504") && pair.names.count == 2)
    await until { pair.ended == 2 }
    #expect(pair.ended == 2)
    await harness.stop()
    pair.stop()
  }

  @Test func aClientThatLeavesTakesBothAlong() async throws {
    let pair = Pair(.silent, .silent)
    let harness = try await harness(pair)
    let client = Wire.connect(harness.port)
    client.send(get())
    await until { pair.names.count == 2 }
    client.close()
    await until { pair.ended == 2 }
    #expect(pair.ended == 2 && harness.proxy.inFlight == 0)
    await harness.stop()
    pair.stop()
  }

  @Test func theBudgetAndASingleEndpointForbidIt() async throws {
    let pair = Pair(.answersLast, .answers)
    for (ports, minimum) in [(pair.ports, 0), ([pair.ports[0]], 3)] {
      let before = pair.names.count
      let harness = try await Harness(to: ports) { listener, cluster, _ in
        listener.retries.hedgeAfter = .milliseconds(20)
        listener.retries.perTryTimeout = .milliseconds(200)
        listener.retries.attempts = 0
        cluster.retryBudgetMinimum = minimum
      }
      if before > 0 { pair.log.forget() }
      let head = try ask(harness, http2: false)
      #expect(head.hasPrefix("HTTP/1.1 504"))
      #expect(pair.names.count == 1)
      #expect(!harness.metrics.prometheusText().contains("outrider_upstream_hedges_total"))
      await harness.stop()
    }
    pair.log.go.add(1)
    pair.stop()
  }
}
