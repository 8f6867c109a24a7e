import Foundation
import Telemetry
import Testing
import Traffic
import Vocabulary

@testable import TrafficProxy

/// PROXY headers, taken and sent, on real sockets.
@Suite struct ProxyProtocolTests {
  static let line = "PROXY TCP4 192.0.2.77 198.51.100.7 56324 443\r\n"
  static let binary: [UInt8] =
    [0x0D, 0x0A, 0x0D, 0x0A, 0x00, 0x0D, 0x0A, 0x51, 0x55, 0x49, 0x54, 0x0A, 0x21, 0x11, 0, 12]
    + [192, 0, 2, 77, 198, 51, 100, 7, 0xDC, 0x04, 0x01, 0xBB]

  @Test(arguments: [ProxyHeader.Version.v1, .v2])
  func theClientsAddressIsTheHeaders(version: ProxyHeader.Version) async throws {
    let header = version == .v1 ? Array(Self.line.utf8) : Self.binary
    let upstream = Upstream.answering()
    let harness = try await Harness(to: [upstream.port], direction: .inbound) { listener, _, _ in
      listener.proxyProtocol = version
    }
    let whole = Wire.connect(harness.port)
    whole.send(header + Array((get("/a") + get("/b")).utf8))
    #expect(whole.message()?.body == "ok" && whole.message()?.body == "ok")
    whole.close()
    let pieces = Wire.connect(harness.port)
    for octet in header + Array(get("/c").utf8) { pieces.send([octet]) }
    #expect(pieces.message()?.body == "ok")
    pieces.close()
    #expect(upstream.requests.count == 3)
    #expect(upstream.requests.allSatisfy { $0.contains("X-Forwarded-For: 192.0.2.77\r\n") })
    #expect(await harness.records.lines(3).allSatisfy { $0.contains("\"client\":\"192.0.2.77\"") })
    await harness.stop()
    upstream.stop()
  }

  @Test func withoutAHeaderNothingIsServed() async throws {
    let upstream = Upstream.answering()
    for version in ProxyHeader.Version.allCases {
      let harness = try await Harness(to: [upstream.port], direction: .inbound) { listener, _, _ in
        listener.proxyProtocol = version
        listener.headTimeout = .milliseconds(200)
      }
      let other = version == .v1 ? Self.binary : Array(Self.line.utf8)
      for octets in [Array(get().utf8), other + Array(get().utf8), Array(Self.line.utf8.prefix(9)), []] {
        let client = Wire.connect(harness.port)
        client.send(octets)
        #expect(client.takeAll() == [])
        client.close()
      }
      #expect(
        harness.metrics.prometheusText().contains(
          "outrider_downstream_refused_total{direction=\"inbound\",listener=\"web\"} 4"))
      #expect(harness.proxy.inFlight == 0)
      await harness.stop()
    }
    #expect(upstream.connectionCount == 0)
    upstream.stop()
  }

  @Test func aLocalConnectionKeepsItsOwnAddress() async throws {
    let upstream = Upstream.answering()
    let harness = try await Harness(to: [upstream.port], direction: .inbound) { listener, _, _ in
      listener.proxyProtocol = .v2
    }
    let client = Wire.connect(harness.port)
    client.send(Array(Self.binary.prefix(12)) + [0x20, 0, 0, 0] + Array(get().utf8))
    #expect(client.message()?.body == "ok")
    #expect(upstream.requests.first?.contains("X-Forwarded-For: 127.0.0.1\r\n") == true)
    client.close()
    await harness.stop()
    upstream.stop()
  }

  @Test func whatIsSentNamesEachClient() async throws {
    let upstream = Upstream { wire, _, upstream in
      guard let line = wire.take(until: "\r\n") else { return }
      while upstream.request(wire) != nil {
        wire.send("HTTP/1.1 200 OK\r\nContent-Length: \(line.utf8.count)\r\n\r\n\(line)")
      }
    }
    let harness = try await Harness(to: [upstream.port]) { _, cluster, _ in cluster.proxyProtocol = .v1 }
    var seen: Set<String> = []
    for _ in 0..<3 {
      let client = Wire.connect(harness.port)
      var lines: Set<String> = []
      for _ in 0..<3 {
        client.send(get())
        lines.insert(client.message()?.body ?? "")
      }
      #expect(lines.count == 1)
      seen.formUnion(lines)
      client.close()
    }
    // A connection that says whose it is serves nobody else.
    #expect(seen.count == 3 && upstream.connectionCount == 3)
    #expect(seen.allSatisfy { $0.hasPrefix("PROXY TCP4 127.0.0.1 127.0.0.1 ") && $0.hasSuffix(" \(harness.port)\r\n") })
    await harness.stop()
    upstream.stop()
  }

  @Test func aHeaderIsPassedOnInTheOtherForm() async throws {
    let upstream = Upstream { wire, _, _ in
      let header = wire.take(28)
      wire.send(header + wire.take(4))
    }
    for kind in [ListenerConfiguration.ListenerProtocol.tcp, .auto] {
      let harness = try await Harness(to: [upstream.port]) { listener, cluster, _ in
        listener.listenerProtocol = kind
        listener.proxyProtocol = .v1
        cluster.proxyProtocol = .v2
      }
      let client = Wire.connect(harness.port)
      client.send(Array(Self.line.utf8) + [1, 2, 3, 4])
      #expect(client.takeAll() == Self.binary + [1, 2, 3, 4])
      client.close()
      await harness.stop()
    }
    upstream.stop()
  }
}
