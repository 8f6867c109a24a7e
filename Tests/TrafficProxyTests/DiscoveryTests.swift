import Foundation
import HTTP2
import NIOCore
import Synchronization
import Testing
import Traffic
import Vocabulary

@testable import TrafficProxy

/// Endpoints that come and go, as the proxy's own parts see it; with names and real files: `test_discovery.py`.
@Suite(.timeLimit(.minutes(2))) struct DiscoveryTests {
  /// What a file of ports, one a line, says.
  static let ports: EndpointFileDecoder = { content, _ in
    .success(
      String(decoding: content, as: UTF8.self).split(separator: "\n").compactMap { line in
        Int(line).map { EndpointConfiguration(address: .tcp(host: "127.0.0.1", port: $0)) }
      })
  }

  final class Count: Sendable {
    let value = Mutex(0)
    var now: Int { value.withLock { $0 } }
  }

  static func addresses(_ harness: Harness) async -> [String] {
    await harness.proxy.clusters().first { $0.name == "up" }?.endpoints.map(\.address) ?? []
  }

  @Test func anHTTP2ConnectionEndsWithItsEndpoint() async throws {
    let path = FileManager.default.temporaryDirectory.appendingPathComponent("outrider-\(UUID()).ports").path
    let released = DispatchSemaphore(value: 0)
    let asked = Count()
    let ended = Count()
    let leaving = Upstream.http2 { peer, _, _ in
      while let (key, _) = peer.message() {
        asked.value.withLock { $0 += 1 }
        released.wait()
        try peer.respond(key, "HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\n")
        try peer.send(key, "leaving")
      }
      ended.value.withLock { $0 += 1 }
    }
    let staying = Upstream.http2 { peer, _, _ in
      while let (key, _) = peer.message() {
        try peer.respond(key, "HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\n")
        try peer.send(key, "staying")
      }
    }
    try "\(leaving.port)\n".write(toFile: path, atomically: true, encoding: .utf8)
    let harness = try await Harness(to: [], endpointFiles: Self.ports) { _, cluster, _ in
      cluster.discovery = .file(path)
      cluster.spoken = .http2
    }
    let slow = Wire.connect(harness.port)
    slow.send(get())
    await until { asked.now == 1 }
    try "\(staying.port)\n".write(toFile: path, atomically: true, encoding: .utf8)
    for _ in 0..<500 where await Self.addresses(harness) != ["127.0.0.1:\(staying.port)"] {
      try await Task.sleep(for: .milliseconds(10))  // between two looks
    }
    let quick = Wire.connect(harness.port)
    quick.send(get())
    #expect(quick.message()?.body == "staying")
    #expect(ended.now == 0)
    released.signal()
    #expect(slow.message()?.body == "leaving")
    // Nobody asks there any more, and the hour of an idle connection is not waited for.
    await until { ended.now == 1 }
    #expect(ended.now == 1 && asked.now == 1)
    slow.close()
    quick.close()
    await harness.stop()
    leaving.stop()
    staying.stop()
    try FileManager.default.removeItem(atPath: path)
  }

  @Test func moreEndpointsThanTheLimitAreSpokenOf() throws {
    func set(_ count: Int) throws -> EndpointSet {
      let found = try (0..<count).map { index in
        ResolvedEndpoint(
          address: try SocketAddress(ipAddress: "10.\(index >> 16).\(index >> 8 & 255).\(index & 255)", port: 80),
          host: "many", weight: 1, locality: nil, priority: 0)
      }
      return EndpointSet(found + found, for: ClusterConfiguration(name: "up", discovery: .fixed([])))
    }
    let full = try set(EndpointSet.limit)
    #expect(full.endpoints.count == EndpointSet.limit && full.leftOut == 0)
    let more = try set(EndpointSet.limit + 3)
    #expect(more.endpoints.count == EndpointSet.limit && more.leftOut == 3)
    let path = FileManager.default.temporaryDirectory.appendingPathComponent("outrider-\(UUID()).ports").path
    defer { try? FileManager.default.removeItem(atPath: path) }
    try (1...EndpointSet.limit + 2).map { "\($0)\n" }.joined().write(toFile: path, atomically: true, encoding: .utf8)
    let cluster = ClusterShared(ClusterConfiguration(name: "up", discovery: .file(path)), app: nil)
    _ = cluster.discover(NameResolver(), EndpointFileSource(decode: Self.ports))
    #expect(
      cluster.newFailure()
        == "it has 16386 endpoints, and the first 16384 are used: split it over several clusters")
    #expect(cluster.newFailure() == nil)
  }

  @Test func aReloadKeepsWhatWasFound() throws {
    let path = FileManager.default.temporaryDirectory.appendingPathComponent("outrider-\(UUID()).ports").path
    try "1\n2\n".write(toFile: path, atomically: true, encoding: .utf8)
    var configuration = ClusterConfiguration(name: "up", discovery: .file(path))
    let before = ClusterShared(configuration, app: nil)
    let files = EndpointFileSource(decode: Self.ports)
    #expect(before.fileHasChanged)
    let first = before.discover(NameResolver(), files)
    #expect(first.hasChanged && first.isGood && first.lifetime == nil)
    #expect(!before.fileHasChanged)
    #expect(!before.discover(NameResolver(), files).hasChanged)
    try FileManager.default.removeItem(atPath: path)
    configuration.balance = .maglev
    let after = ClusterShared(configuration, app: nil, before: before)
    guard case .ready(let kept) = after.current else {
      Issue.record("the endpoints are forgotten")
      return
    }
    #expect(kept.endpoints.map(\.text) == ["127.0.0.1:1", "127.0.0.1:2"])
    let round = after.discover(NameResolver(), files)
    #expect(!round.hasChanged && !round.isGood && after.failure.contains("No such file"))
    #expect(after.newFailure() != nil && after.newFailure() == nil)
  }

  @Test func anEndpointThatStaysIsTheSameWhateverItsWeight() {
    func found(_ weights: [Int: Int]) -> EndpointSet {
      EndpointSet(
        weights.sorted { $0.key < $1.key }.compactMap { port, weight in
          (try? SocketAddress(ipAddress: "127.0.0.1", port: port)).map {
            ResolvedEndpoint(address: $0, host: "a:\(port)", weight: weight, locality: nil, priority: 0)
          }
        }, for: ClusterConfiguration(name: "up", discovery: .fixed([])))
    }
    #expect(found([1: 1]).endpoints[0].identity == found([1: 9]).endpoints[0].identity)
    #expect(found([1: 1, 2: 1]).endpoints[0].identity != found([1: 1, 2: 1]).endpoints[1].identity)
    let twice = found([1: 1]).endpoints + found([1: 5, 2: 1]).endpoints
    #expect(EndpointSet(twice, for: ClusterConfiguration(name: "up", discovery: .fixed([]))).endpoints.count == 2)
  }
}
