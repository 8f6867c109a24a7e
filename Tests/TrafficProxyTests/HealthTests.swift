import Foundation
import HTTP1
import HTTP2
import Synchronization
import Telemetry
import Testing
import Traffic

@testable import TrafficProxy

/// An upstream whose health check can be told what to answer; other requests are answered with its name.
private final class Checked: Sendable {
  let server: Upstream
  let checks = Counted()
  private let box: StatusBox

  init(_ name: String, checkStatus: Int = 200, requestStatus: @escaping @Sendable () -> Int = { 200 }) {
    let checks = checks
    let box = StatusBox(checkStatus)
    self.box = box
    server = Upstream { wire, _, upstream in
      while let request = wire.message() {
        if request.head.hasPrefix("GET /healthz ") {
          wire.send("HTTP/1.1 \(box.value) X\r\nContent-Length: 0\r\n\r\n")
          checks.add(1)
        } else {
          upstream.note(request.head)
          wire.send("HTTP/1.1 \(requestStatus()) X\r\nContent-Length: \(name.utf8.count)\r\n\r\n\(name)")
        }
      }
    }
  }

  func answerChecks(_ status: Int) { box.value = status }
}

private final class StatusBox: Sendable {
  private let status: Atomic<Int>
  init(_ status: Int) { self.status = Atomic(status) }
  var value: Int {
    get { status.load(ordering: .relaxed) }
    set { status.store(newValue, ordering: .relaxed) }
  }
}

@Suite struct HealthTests {
  private static func health(_ probe: HealthCheckConfiguration.Probe) -> HealthCheckConfiguration {
    var health = HealthCheckConfiguration(probe)
    health.interval = .milliseconds(20)
    health.timeout = .seconds(2)
    return health
  }

  /// The bodies of so many GETs on one connection.
  private func bodies(_ count: Int, _ port: Int) -> [String] {
    let client = Wire.connect(port)
    defer { client.close() }
    return (0..<count).map { _ in
      client.send(get())
      return client.message()?.body ?? "none"
    }
  }

  @Test func anUnhealthyEndpointGetsNothingUntilItIsWell() async throws {
    let (bad, good) = (Checked("bad", checkStatus: 503), Checked("good"))
    let harness = try await Harness(to: [bad.server.port, good.server.port]) { _, cluster, _ in
      cluster.health = Self.health(.http(path: "/healthz"))
    }
    let proxy = harness.proxy
    await until { !proxy.unavailableEndpoints.isEmpty }
    #expect(
      proxy.unavailableEndpoints == [
        UnavailableEndpoint(
          cluster: "up", address: "127.0.0.1:\(bad.server.port)", state: "unhealthy", reason: "status 503",
          secondsLeft: nil)
      ])
    try await harness.turn()
    #expect(Set(bodies(20, harness.port)) == ["good"])
    bad.answerChecks(204)
    await until { proxy.unavailableEndpoints.isEmpty }
    try await harness.turn()
    #expect(Set(bodies(40, harness.port)) == ["good", "bad"])
    // Three failures in a row are needed now, not one.
    #expect(bad.checks.value >= 3)
    let text = harness.metrics.prometheusText()
    #expect(text.contains("outrider_upstream_health_checks_total{cluster=\"up\",result=\"success\"}"))
    #expect(!text.contains("outrider_upstream_health_checks_total{cluster=\"up\",result=\"failure\"} 0\n"))
    // Checks count in no limit and are no requests.
    #expect(text.contains("outrider_upstream_connect_failures_total{cluster=\"up\"} 0"))
    await harness.stop()
    bad.server.stop()
    good.server.stop()
  }

  @Test func aPortWithoutAListenerIsUnhealthyForTCP() async throws {
    let good = Upstream.answering()
    let harness = try await Harness(to: [closedPort(), good.port]) { listener, cluster, _ in
      cluster.health = Self.health(.tcp)
      listener.retries.attempts = 0
    }
    let proxy = harness.proxy
    await until { !proxy.unavailableEndpoints.isEmpty }
    #expect(proxy.unavailableEndpoints.first?.reason == "connection refused")
    try await harness.turn()
    #expect(Set(bodies(20, harness.port)) == ["ok"])
    await harness.stop()
    good.stop()
  }

  @Test func whenNobodyIsWellEverybodyIsUsed() async throws {
    let (one, two) = (Checked("one", checkStatus: 500), Checked("two", checkStatus: 500))
    let harness = try await Harness(to: [one.server.port, two.server.port]) { _, cluster, _ in
      cluster.health = Self.health(.http(path: "/healthz"))
    }
    let proxy = harness.proxy
    await until { proxy.unavailableEndpoints.count == 2 }
    try await harness.turn()
    #expect(Set(bodies(40, harness.port)) == ["one", "two"])
    await harness.stop()
    one.server.stop()
    two.server.stop()
  }

  @Test func aReloadKeepsWhatIsKnown() async throws {
    let (bad, good) = (Checked("bad", checkStatus: 503), Checked("good"))
    let harness = try await Harness(to: [bad.server.port, good.server.port]) { _, cluster, _ in
      cluster.health = Self.health(.http(path: "/healthz"))
    }
    let proxy = harness.proxy
    await until { !proxy.unavailableEndpoints.isEmpty }
    var configuration = harness.configuration
    // From here on a check lasts longer than the test.
    configuration.clusters[0].health?.interval = .seconds(100)
    configuration.clusters[0].maxPending = 17
    try proxy.reload(configuration, app: nil)
    #expect(proxy.unavailableEndpoints.count == 1)
    try await harness.turn()
    #expect(Set(bodies(20, harness.port)) == ["good"])
    await harness.stop()
    bad.server.stop()
    good.server.stop()
  }

  @Test(arguments: [[8, 1], [8, 2]] as [[UInt8]])
  func grpcServicesSayItThemselves(message: [UInt8]) async throws {
    let asked = Mutex<[String]>([])
    let server = Upstream { wire, _, _ in
      let peer = HTTP2Peer(.server, wire)
      while let (key, request) = peer.message() {
        asked.withLock { $0.append(request.head + request.body.map { String($0) }.joined(separator: " ")) }
        try? peer.respond(key, "HTTP/1.1 200 \r\ncontent-type: application/grpc\r\n\r\n")
        try? peer.send(
          key, String(decoding: [0, 0, 0, 0, 2] + message, as: UTF8.self), trailers: "grpc-status: 0\r\n\r\n")
      }
    }
    let harness = try await Harness(to: [server.port, closedPort()]) { _, cluster, _ in
      cluster.spoken = .http2
      cluster.health = Self.health(.grpc(service: "shop"))
    }
    let proxy = harness.proxy
    let isServing = message[1] == 1
    await until { proxy.unavailableEndpoints.count == (isServing ? 1 : 2) && asked.withLock { $0.count } > 1 }
    let reasons = proxy.unavailableEndpoints.map(\.reason)
    #expect(reasons == (isServing ? [] : ["the service says NOT_SERVING"]) + ["connection refused"])
    let first = try #require(asked.withLock { $0.first }).lowercased()
    #expect(first.hasPrefix("post /grpc.health.v1.health/check ") && first.contains("te: trailers"))
    #expect(first.hasSuffix("0 0 0 0 6 10 4 115 104 111 112"))
    await harness.stop()
    server.stop()
  }

  @Test(arguments: [ProxyHeader.Version.v1, .v2]) func checksBeginWithThePROXYHeader(version: ProxyHeader.Version)
    async throws
  {
    let heads = Mutex<[[UInt8]]>([])
    let expected = ProxyHeader.encode(.unknown, version)
    let server = Upstream { wire, _, _ in
      let head = wire.take(expected.count)
      if wire.message()?.head.hasPrefix("GET /up HTTP/1.1\r\nHost: checks.test\r\n") == true {
        heads.withLock { $0.append(head) }
        wire.send("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n")
      }
    }
    let harness = try await Harness(to: [server.port]) { _, cluster, _ in
      cluster.proxyProtocol = version
      cluster.health = Self.health(.http(path: "/up"))
      cluster.health?.host = "checks.test"
    }
    await until { heads.withLock { $0.count } >= 2 }
    #expect(heads.withLock { $0.allSatisfy { $0 == expected } })
    #expect(harness.proxy.unavailableEndpoints.isEmpty)
    await harness.stop()
    server.stop()
  }

  @Test(arguments: ["", "NONSENSE\r\n\r\n", "HTTP/1.1 200 OK\r\n"]) func noAnswerIsAFailure(answer: String) async throws
  {
    let server = Upstream { wire, _, _ in
      _ = wire.message()
      wire.send(answer)
      // The end of the connection is what is waited for, or the check's timeout.
      if answer.hasPrefix("HTTP") { _ = wire.takeAll() }
    }
    let harness = try await Harness(to: [server.port]) { _, cluster, _ in
      cluster.health = Self.health(.http(path: "/"))
      cluster.health?.timeout = .milliseconds(200)
    }
    let proxy = harness.proxy
    await until { !proxy.unavailableEndpoints.isEmpty }
    let reason = proxy.unavailableEndpoints.first?.reason
    let expected =
      answer.isEmpty
      ? "the connection closed without an answer"
      : answer.hasPrefix("HTTP") ? "no answer within the check's timeout" : "the answer is not HTTP"
    #expect(reason == expected)
    await harness.stop()
    server.stop()
  }

  // MARK: Outlier detection

  private static func outliers(_ count: Int = 5, ejection: Duration = .seconds(100)) -> OutlierConfiguration {
    var outliers = OutlierConfiguration()
    outliers.consecutive5xx = count
    outliers.interval = .milliseconds(50)
    outliers.ejection = ejection
    return outliers
  }

  @Test func failingAnswersEjectAndTimeBringsBack() async throws {
    let status = StatusBox(500)
    let bad = Checked("bad", requestStatus: { status.value })
    let good = Checked("good")
    let harness = try await Harness(to: [bad.server.port, good.server.port]) { listener, cluster, _ in
      cluster.outliers = Self.outliers(ejection: .milliseconds(300))
      cluster.balance = .roundRobin
      listener.retries.attempts = 0
    }
    let proxy = harness.proxy
    let answers = bodies(30, harness.port)
    #expect(answers.count { $0 == "bad" } == 5)
    #expect(answers.suffix(18).allSatisfy { $0 == "good" })
    #expect(proxy.unavailableEndpoints.first?.reason == "5 failures in a row")
    let text = harness.metrics.prometheusText()
    #expect(text.contains("outrider_upstream_ejections_total{cluster=\"up\"} 1"))
    #expect(text.contains("outrider_upstream_ejected{cluster=\"up\"} 1"))
    status.value = 200
    await until { proxy.unavailableEndpoints.isEmpty }
    try await harness.turn()
    #expect(Set(bodies(10, harness.port)) == ["good", "bad"])
    #expect(harness.metrics.prometheusText().contains("outrider_upstream_ejected{cluster=\"up\"} 0"))
    await harness.stop()
    bad.server.stop()
    good.server.stop()
  }

  @Test func oneEndpointIsNeverEjectedAndOneOfTwoStays() async throws {
    let only = Checked("only", requestStatus: { 500 })
    let other = Checked("other", requestStatus: { 500 })
    for ports in [[only.server.port], [only.server.port, other.server.port]] {
      let harness = try await Harness(to: ports) { listener, cluster, _ in
        cluster.outliers = Self.outliers(2)
        cluster.panicPercent = 0
        listener.retries.attempts = 0
      }
      let answers = bodies(40, harness.port)
      #expect(!answers.contains("none") && Set(answers).isSubset(of: ["only", "other"]))
      #expect(harness.proxy.unavailableEndpoints.count == ports.count - 1)
      await harness.stop()
    }
    only.server.stop()
    other.server.stop()
  }

  @Test func switchedOffNobodyIsEjected() async throws {
    let (bad, good) = (Checked("bad", requestStatus: { 500 }), Checked("good"))
    let harness = try await Harness(to: [bad.server.port, good.server.port]) { listener, cluster, _ in
      cluster.outliers = nil
      cluster.balance = .roundRobin
      listener.retries.attempts = 0
    }
    #expect(bodies(40, harness.port).count { $0 == "bad" } == 20)
    #expect(harness.proxy.unavailableEndpoints.isEmpty)
    #expect(!harness.metrics.prometheusText().contains("outrider_upstream_eject"))
    await harness.stop()
    bad.server.stop()
    good.server.stop()
  }

  @Test func failedConnectsAndResetsEject() async throws {
    let resetting = Upstream { wire, _, upstream in
      guard upstream.request(wire) != nil else { return }
      wire.reset()
    }
    let good = Checked("good")
    for port in [closedPort(), resetting.port] {
      let harness = try await Harness(to: [port, good.server.port]) { listener, cluster, _ in
        cluster.outliers = Self.outliers(3)
        cluster.balance = .roundRobin
        // After a failed connect it is rested for a second.
        listener.retries.attempts = 0
      }
      for _ in 0..<40 where harness.proxy.unavailableEndpoints.isEmpty {
        let client = Wire.connect(harness.port)
        client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
        _ = client.message()
        client.close()
        if port != resetting.port { try await Task.sleep(for: .milliseconds(110)) }  // between two looks
      }
      #expect(harness.proxy.unavailableEndpoints.first?.reason == "3 failures in a row")
      await harness.stop()
    }
    resetting.stop()
    good.server.stop()
  }

  @Test func anEndpointThatFailsMoreThanTheOthersIsEjected() async throws {
    let number = Counted()
    // Every second answer: never two in a row.
    let flaky = Checked("flaky") {
      number.add(1)
      return number.value % 2 == 0 ? 500 : 200
    }
    let others = (0..<5).map { Checked("good\($0)") }
    let harness = try await Harness(to: [flaky.server.port] + others.map(\.server.port)) { listener, cluster, _ in
      var outliers = Self.outliers()
      // Long enough for a hundred requests to each.
      outliers.interval = .seconds(2)
      cluster.outliers = outliers
      cluster.balance = .roundRobin
      listener.retries.attempts = 0
    }
    let proxy = harness.proxy
    for _ in 0..<100 where proxy.unavailableEndpoints.isEmpty { _ = bodies(120, harness.port) }
    let absent = try #require(proxy.unavailableEndpoints.first)
    #expect(absent.address == "127.0.0.1:\(flaky.server.port)" && absent.state == "ejected")
    #expect(absent.reason.contains(" % of requests succeeded, where the others have "))
    await harness.stop()
    flaky.server.stop()
    for other in others { other.server.stop() }
  }

  @Test func grpcStatusesCountAsTheServersFailures() async throws {
    let server: @Sendable (Int) -> Upstream = { status in
      Upstream.http2 { peer, _, _ in
        while let (key, request) = peer.message() {
          if request.reset != nil { continue }
          try peer.respond(key, "HTTP/1.1 200 \r\ncontent-type: application/grpc\r\n\r\n")
          try peer.send(key, "m", trailers: "grpc-status: \(status)\r\n\r\n")
        }
      }
    }
    let (bad, good) = (server(14), server(5))
    let harness = try await Harness.http2(to: [bad.port, good.port]) { listener, cluster in
      cluster.outliers = Self.outliers()
      cluster.balance = .roundRobin
      listener.retries.attempts = 0
    }
    let client = HTTP2Peer.client(harness.port)
    var statuses: [String] = []
    for _ in 0..<30 {
      let key = try client.ask("POST", "/a.B/C", "content-type: application/grpc\r\n", body: "m")
      statuses.append(try #require(client.message(of: key)).message.trailers)
    }
    #expect(statuses.count { $0.contains("grpc-status: 14") } == 5)
    #expect(
      harness.proxy.unavailableEndpoints.map(\.address) == ["127.0.0.1:\(bad.port)"], "NOT_FOUND is the caller's")
    client.wire.close()
    await harness.stop()
    bad.stop()
    good.stop()
  }
}
