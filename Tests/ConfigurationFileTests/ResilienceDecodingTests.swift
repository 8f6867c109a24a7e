import Testing
import Traffic

@testable import ConfigurationFile

@Suite struct ResilienceDecodingTests {
  private func cluster(_ keys: String) throws -> ClusterConfiguration {
    try Workspace.value("clusters: { a: { endpoints: [\"a:1\", \"b:1\"]\(keys) } }").traffic.clusters[0]
  }

  private func retries(_ text: String) throws -> RetryConfiguration {
    try Workspace.value("outbound: { a: { listen: \":1\", to: \"http://x\", retries: \(text) } }").traffic.outbound[0]
      .retries
  }

  @Test func defaults() throws {
    let cluster = try cluster("")
    #expect(cluster.health == nil && cluster.panicPercent == 50)
    #expect(cluster.outliers == OutlierConfiguration())
    let outliers = OutlierConfiguration()
    #expect(
      outliers.consecutive5xx == 5 && outliers.interval == .seconds(10) && outliers.ejection == .seconds(30)
        && outliers.maxEjection == .seconds(300) && outliers.maxPercent == 10)
    let health = try #require(try self.cluster(", health: { http: /healthz }").health)
    #expect(
      health.probe == .http(path: "/healthz") && health.interval == .seconds(10) && health.timeout == .seconds(1)
        && health.unhealthy == 3 && health.healthy == 2 && health.statuses == [200...299] && health.host == nil
        && health.port == nil)
  }

  @Test func everything() throws {
    let cluster = try cluster(
      """
      , health: { http: /up, interval: 2s, timeout: 500ms, unhealthy: 4, healthy: 5, panic: 0, status: [200, 300-399],
        host: a.test, port: 81 },
      outliers: { consecutive_5xx: 2, interval: 1s, ejection: 2s, max_ejection: 20s, max_percent: 50 }
      """)
    var health = HealthCheckConfiguration(.http(path: "/up"))
    health.interval = .seconds(2)
    health.timeout = .milliseconds(500)
    health.unhealthy = 4
    health.healthy = 5
    health.statuses = [200...200, 300...399]
    health.host = "a.test"
    health.port = 81
    #expect(cluster.health == health && cluster.panicPercent == 0)
    var outliers = OutlierConfiguration()
    outliers.consecutive5xx = 2
    outliers.interval = .seconds(1)
    outliers.ejection = .seconds(2)
    outliers.maxEjection = .seconds(20)
    outliers.maxPercent = 50
    #expect(cluster.outliers == outliers)
    #expect(try self.cluster(", outliers: false").outliers == nil)
    #expect(try self.cluster(", outliers: true").outliers == OutlierConfiguration())
    #expect(try self.cluster(", health: { tcp: true }").health?.probe == .tcp)
    #expect(try self.cluster(", protocol: http2, health: { grpc: true }").health?.probe == .grpc(service: ""))
    #expect(try self.cluster(", tls: true, health: { grpc: shop.Pay }").health?.probe == .grpc(service: "shop.Pay"))
  }

  @Test func retryKeysImplyTheirConditions() throws {
    let safe: Set<RetryConfiguration.Condition> = [.connectFailure, .refusedStream, .resetBeforeRequest]
    let all = try retries(
      "{ attempts: 2, on: [reset], status_codes: [409, 429], response_headers: { X-Retry: true, X-B: c }, retry_after_max: 9s, hedge: { after: 50ms } }"
    )
    #expect(all.statuses == [409, 429] && all.retryAfterMax == .seconds(9) && all.hedgeAfter == .milliseconds(50))
    #expect(all.responseHeaders == [.init(name: "X-Retry", value: nil), .init(name: "X-B", value: "c")])
    #expect(all.conditions == safe.union([.reset, .retriableStatusCodes, .retriableHeaders]))
    let plain = try retries("{ on: [5xx] }")
    #expect(plain.retryAfterMax == .seconds(5) && plain.hedgeAfter == nil && plain.statuses.isEmpty)
    #expect(plain.conditions == safe.union([.serverError]))
  }

  @Test(arguments: [
    ("health: {}", "`clusters.a.health` does not say what to ask"),
    ("health: { tcp: true, http: / }", "`clusters.a.health` names 2 checks"),
    ("health: { http: healthz }", "`healthz` is not a path"),
    ("health: { grpc: true }", "`clusters.a.health.grpc` needs HTTP/2"),
    ("protocol: http1, tls: true, health: { grpc: true }", "`clusters.a.health.grpc` needs HTTP/2"),
    ("health: { tcp: true, status: 200 }", "`clusters.a.health.status` is of HTTP checks"),
    ("health: { http: /, status: [99] }", "`99` is not a status"),
    ("health: { http: /, status: 300-200 }", "`300-200` is not"),
    ("health: { http: /, status: 2xx }", "`2xx` is not a status"), ("health: { http: /, panic: 101 }", "whole number"),
    ("health: { http: /, interval: 0s }", "no time at all"), ("outliers: 5", "neither `true` nor `false`"),
    ("outliers: { max_percent: 0 }", "`0` is not a whole number"),
    ("outliers: { ejections: 5s }", "did you mean `ejection`?"),
  ])
  func problemsOfClusters(text: String, message: String) {
    let problems = Workspace.problems("clusters: { a: { endpoints: [\"a:1\"], \(text) } }")
    #expect(problems.contains(message), "\(problems)")
  }

  @Test(arguments: [
    ("{ on: [retriable-status-codes] }", "`outbound.a.retries.status_codes` is not set"),
    ("{ on: [retriable-headers] }", "`outbound.a.retries.response_headers` is not set"),
    ("{ status_codes: [200] }", "whole number"), ("{ response_headers: { \"a b\": x } }", "not a header field's name"),
    ("{ hedge: {} }", "after"), ("{ hedge: { after: 0 } }", "no time at all"),
  ])
  func problemsOfRetries(text: String, message: String) {
    let problems = Workspace.problems("outbound: { a: { listen: \":1\", to: \"http://x\", retries: \(text) } }")
    #expect(problems.contains(message), "\(problems)")
  }

  @Test(arguments: [
    "health: { http: /up }", "health: { grpc: true, port: 9 }",
    "health: { tcp: true, panic: 0 }, outliers: { ejection: 5s }", "outliers: false", "outliers: true",
    "health: { http: /up, status: [200, 300-399] }",
  ])
  func whatIsExplainedIsTheSame(keys: String) throws {
    let text = """
      clusters: { a: { endpoints: ["a:1"], protocol: http2, \(keys) } }
      outbound:
        o:
          listen: ":1"
          to: a
          retries: { on: [5xx], status_codes: 429, response_headers: { X-A: true, X-B: b }, hedge: { after: 9ms } }
      """
    let loaded = try Workspace.load(text)
    let explained = loaded.explain(json: false)
    #expect(try Workspace.load(explained).value.traffic == loaded.value.traffic, "\(explained)")
  }
}
