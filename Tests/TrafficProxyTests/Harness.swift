import Foundation
import Logging
import NIOCore
import NIOPosix
import Secrets
import Synchronization
import Telemetry
import Traffic
import Vocabulary

@testable import TrafficProxy

/// A proxy with one listener in front of upstreams, on loopback.
final class Harness: Sendable {
  let proxy: TrafficProxy
  let port: Int
  let metrics = MetricRegistry()
  let events = EventStream()
  let records: Records
  let configuration: TrafficConfiguration
  private let group = MultiThreadedEventLoopGroup(numberOfThreads: 1)

  final class Records: Sendable {
    let text = Mutex("")
    /// The records so far, waiting up to five seconds for as many as `count`.
    func lines(_ count: Int) async -> [String] {
      for _ in 0..<500 {
        let lines = text.withLock { $0.split(separator: "\n").map(String.init) }
        if lines.count >= count { return lines }
        try? await Task.sleep(for: .milliseconds(10))  // between two looks
      }
      return []
    }
  }

  init(
    to upstreams: [Int], direction: Direction = .outbound, app: Address? = nil,
    secrets: @escaping TrafficProxy.SecretResolver = { _ in nil }, book: SecretBook = SecretBook(),
    endpointFiles: @escaping EndpointFileDecoder = { _, path in .failure(EndpointFileProblem("unexpected \(path)")) },
    _ edit: (inout ListenerConfiguration, inout ClusterConfiguration, inout TrafficConfiguration) -> Void
  ) async throws {
    var listener = ListenerConfiguration(name: "web", direction: direction, listen: [])
    let target = direction == .inbound ? "app" : "up"
    listener.routes = [RouteConfiguration(action: .cluster(target))]
    var cluster = ClusterConfiguration(
      name: target,
      discovery: .fixed(upstreams.map { EndpointConfiguration(address: .tcp(host: "127.0.0.1", port: $0)) }))
    var configuration = TrafficConfiguration()
    edit(&listener, &cluster, &configuration)
    configuration.clusters.append(cluster)
    if direction == .inbound { configuration.inbound = [listener] } else { configuration.outbound = [listener] }
    self.configuration = configuration
    let records = Records()
    self.records = records
    events.follow { _, bytes in records.text.withLock { $0 += String(decoding: bytes, as: UTF8.self) } }
    proxy = try TrafficProxy(
      configuration: configuration, app: app ?? upstreams.first.map { .tcp(host: "127.0.0.1", port: $0) },
      threads: 1, group: group, metrics: metrics, events: events, secrets: secrets, book: book,
      endpointFiles: endpointFiles, logger: Logger(label: "test"))
    let (fd, port) = listeningSocket()
    self.port = port
    try await proxy.open(listener: "web", direction: direction, descriptors: [fd])
  }

  convenience init(to upstreams: [Int], direction: Direction = .outbound) async throws {
    try await self.init(to: upstreams, direction: direction) { _, _, _ in }
  }

  /// One turn of the loop: what had arrived before is dealt with.
  func turn() async throws { for worker in proxy.workers { try await worker.eventLoop.submit {}.get() } }

  /// Takes a configuration over, on every loop.
  func reload(_ configuration: TrafficConfiguration) async throws {
    try proxy.reload(configuration, app: nil)
    try await turn()
  }

  func stop() async {
    await proxy.close()
    try? await group.shutdownGracefully()
  }
}

func get(_ path: String = "/", _ fields: String = "", method: String = "GET") -> String {
  "\(method) \(path) HTTP/1.1\r\nHost: shop.test\r\n\(fields)\r\n"
}

func post(_ body: String) -> String {
  "POST / HTTP/1.1\r\nHost: shop.test\r\nContent-Length: \(body.utf8.count)\r\n\r\n\(body)"
}

/// A port on which nobody listens.
func closedPort() -> Int {
  let (fd, port) = listeningSocket()
  close(fd)
  return port
}

/// Waits until it holds, five seconds at most.
func until(_ holds: () -> Bool) async {
  for _ in 0..<500 where !holds() {
    try? await Task.sleep(for: .milliseconds(10))  // between two looks
  }
}
