import Glibc
import Synchronization
import Telemetry
import Testing
import Traffic
import Vocabulary

@testable import TrafficProxy

/// What a reload does to listeners, clusters and the connections that use them.
@Suite(.serialized) struct TrafficReloadTests {
  static func listener(_ direction: Direction, _ name: String, _ body: String) -> ListenerConfiguration {
    var listener = ListenerConfiguration(name: name, direction: direction, listen: [])
    listener.routes = [RouteConfiguration(action: .respond(status: 200, body: body, headers: []))]
    return listener
  }

  @Test func anInboundAndAnOutboundListenerOfOneName() async throws {
    let harness = try await Harness(to: []) { listener, _, configuration in
      listener = Self.listener(.outbound, "web", "out")
      configuration.inbound = [Self.listener(.inbound, "web", "in")]
    }
    let (fd, port) = listeningSocket()
    try await harness.proxy.open(listener: "web", direction: .inbound, descriptors: [fd])
    for (port, body) in [(harness.port, "out"), (port, "in")] {
      let client = Wire.connect(port)
      client.send(get())
      #expect(client.message()?.body == body)
      client.close()
    }
    let text = harness.metrics.prometheusText()
    for direction in ["inbound", "outbound"] {
      #expect(
        text.contains("outrider_downstream_connections_total{direction=\"\(direction)\",listener=\"web\"} 1"))
    }
    await harness.stop()
  }

  @Test func aListenerThatIsTakenAwayAnswersWhatItHas() async throws {
    let go = Atomic<Bool>(false)
    let upstream = Upstream { wire, _, upstream in
      while upstream.request(wire) != nil {
        while !go.load(ordering: .acquiring) { usleep(1000) }  // between two looks
        wire.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
      }
    }
    let harness = try await Harness(to: [upstream.port])
    let address = Address.tcp(host: "127.0.0.1", port: 1)
    let (fd, port) = listeningSocket()
    try await harness.proxy.open(listener: "web", direction: .outbound, descriptors: [fd], address: address)
    let (busy, kept) = (Wire.connect(port), Wire.connect(port))
    busy.send(get("/busy"))
    while upstream.requests.isEmpty { await Task.yield() }
    go.store(true, ordering: .releasing)
    #expect(busy.message()?.body == "ok")
    kept.send(get("/kept"))
    #expect(kept.message()?.body == "ok")
    go.store(false, ordering: .releasing)
    busy.send(get("/in-flight"))
    while upstream.requests.count < 3 { await Task.yield() }

    await harness.proxy.close(listener: ListenerID(.outbound, "web"), address: address)
    try harness.proxy.reload(TrafficConfiguration(), app: nil)
    try await harness.turn()
    #expect(Wire.connect(port).message() == nil, "nobody listens any more")
    go.store(true, ordering: .releasing)
    for client in [busy, kept] {
      if client === kept { client.send(get("/after")) }
      let reply = try #require(client.message())
      #expect(reply.body == "ok" && reply.head.contains("Connection: close"))
      #expect(client.takeAll().isEmpty)
      client.close()
    }
    await harness.stop()
    upstream.stop()
  }

  @Test func theAppMayMove() async throws {
    let (first, second) = (Upstream.answering(), Upstream.answering("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nnew"))
    let harness = try await Harness(to: [first.port], direction: .inbound)
    let client = Wire.connect(harness.port)
    client.send(get())
    #expect(client.message()?.body == "ok")
    var configuration = TrafficConfiguration()
    var listener = ListenerConfiguration(name: "web", direction: .inbound, listen: [])
    listener.routes = [RouteConfiguration(action: .cluster("app"))]
    configuration.inbound = [listener]
    try harness.proxy.reload(configuration, app: .tcp(host: "127.0.0.1", port: second.port))
    var bodies: [String] = []
    while bodies.last != "new", bodies.count < 100 {
      client.send(get())
      bodies.append(client.message()?.body ?? "none")
    }
    #expect(bodies.last == "new")
    client.close()
    await harness.stop()
    first.stop()
    second.stop()
  }

  @Test func theLastGoodAnswerOfANameSurvivesAReload() throws {
    var cluster = ClusterConfiguration(name: "up", discovery: .dns(host: "localhost", port: 80))
    let before = ClusterShared(cluster, app: nil)
    #expect(before.discover(NameResolver(), nil).hasChanged)
    guard case .ready(let found) = before.current else {
      Issue.record("localhost does not resolve")
      return
    }
    cluster.balance = .random
    guard case .ready(let kept) = ClusterShared(cluster, app: nil, before: before).current else {
      Issue.record("the answer is forgotten")
      return
    }
    #expect(kept.endpoints == found.endpoints && !found.endpoints.isEmpty)
    cluster.discovery = .dns(host: "other.invalid", port: 80)
    if case .pending = ClusterShared(cluster, app: nil, before: before).current {
    } else {
      Issue.record("an answer for another name was taken over")
    }
  }

  @Test func connectionsOfTheOtherProtocolGoOn() async throws {
    let upstream = Upstream { wire, _, _ in
      while case let bytes = wire.receive(), !bytes.isEmpty { wire.send(bytes) }
    }
    let harness = try await Harness(to: [upstream.port]) { listener, _, _ in listener.listenerProtocol = .tcp }
    let tunnel = Wire.connect(harness.port)
    tunnel.send("one")
    #expect(tunnel.take(3) == Array("one".utf8))
    var configuration = TrafficConfiguration()
    configuration.outbound = [Self.listener(.outbound, "web", "http")]
    try harness.proxy.reload(configuration, app: nil)
    try await harness.turn()
    let client = Wire.connect(harness.port)
    client.send(get())
    #expect(client.message()?.body == "http")
    tunnel.send("two")
    #expect(tunnel.take(3) == Array("two".utf8))
    tunnel.close()
    client.close()
    await harness.stop()
    upstream.stop()
  }
}
