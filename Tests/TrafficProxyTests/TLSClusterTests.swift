import Foundation
import Secrets
import Telemetry
import Testing
import Traffic
import Vocabulary

@testable import TrafficProxy

@Suite struct TLSClusterTests {
  private let authority: Authority

  init() throws { authority = try Authority() }

  private func harness(
    to port: Int, host: String = "localhost", book: SecretBook = SecretBook(),
    _ edit: (inout ClusterTLSConfiguration, inout ListenerConfiguration) -> Void = { _, _ in }
  ) async throws -> Harness {
    try await Harness(to: [], book: book) { listener, cluster, _ in
      cluster.discovery = .fixed([EndpointConfiguration(address: .tcp(host: host, port: port))])
      var tls = ClusterTLSConfiguration()
      tls.trust = .file(authority.file)
      listener.retries.attempts = 0
      edit(&tls, &listener)
      cluster.tls = tls
    }
  }

  private func ask(_ harness: Harness) -> (head: String, body: String)? {
    let client = Wire.connect(harness.port)
    defer { client.close() }
    client.send(get())
    return client.message()
  }

  @Test func verifiesTheNameItAsksFor() async throws {
    let upstream = try await TLSUpstream(authority.issue("up", "DNS:localhost"))
    let harness = try await harness(to: upstream.port)
    let client = Wire.connect(harness.port)
    for _ in 0..<3 {
      client.send(get())
      #expect(client.message()?.body == "ok")
    }
    client.close()
    #expect(upstream.connectionCount == 1 && upstream.requests.count == 3)
    #expect(upstream.names == ["localhost"])
    #expect(upstream.requests[0].contains("Host: localhost:\(upstream.port)\r\n"))
    let record = try #require(await harness.records.lines(1).first)
    #expect(record.contains("\"tls_ms\":"))
    #expect(harness.metrics.prometheusText().contains("outrider_tls_handshakes_total{cluster=\"up\"} 1\n"))
    await harness.stop()
    await upstream.stop()
  }

  @Test func anAddressIsCheckedAsOneAndIsNotAskedFor() async throws {
    let upstream = try await TLSUpstream(authority.issue("up", "IP:127.0.0.1"))
    let good = try await harness(to: upstream.port, host: "127.0.0.1")
    #expect(ask(good)?.body == "ok")
    #expect(upstream.names == [nil])
    await good.stop()
    // An address in the certificate does not stand for a name that is wanted.
    let bad = try await harness(to: upstream.port, host: "localhost")
    #expect(ask(bad)?.head.contains("error=tls_certificate_error") == true)
    await bad.stop()
    await upstream.stop()
  }

  struct Bad: Sendable {
    var names = "DNS:localhost"
    var days = 2
    var stranger = false
    var match: [String] = []
    var reason = "tls_certificate_invalid"
    var blame = "upstream"
    var details: [String]
  }

  @Test(arguments: [
    Bad(names: "DNS:other.shop", details: ["CN=up", "dns:other.shop", "not for localhost"]),
    Bad(days: -1, details: ["CN=up", "expired at 20"]),
    Bad(
      stranger: true, reason: "tls_certificate_untrusted", blame: "config",
      details: ["CN=up", "issued by CN=stranger", "ca.pem"]),
    Bad(match: ["spiffe://shop/pay"], details: ["not for spiffe://shop/pay"]),
    Bad(names: "URI:spiffe://shop/pay2", match: ["spiffe://shop/pay"], details: ["spiffe://shop/pay2"]),
  ])
  func aBadCertificateIsNamed(_ bad: Bad) async throws {
    let signer = bad.stranger ? try Authority("stranger") : authority
    let upstream = try await TLSUpstream(signer.issue("up", bad.names, days: bad.days))
    let harness = try await harness(to: upstream.port) { tls, _ in tls.match = bad.match.compactMap { PeerPattern($0) }
    }
    let reply = try #require(ask(harness))
    #expect(reply.head.hasPrefix("HTTP/1.1 503"))
    #expect(reply.head.contains("Proxy-Status: outrider; error=tls_certificate_error; next-hop="))
    #expect(reply.body.contains("\"reason\":\"\(bad.reason)\",\"blame\":\"\(bad.blame)\""), "\(reply.body)")
    for text in bad.details { #expect(reply.head.contains(text), "\(reply.head)") }
    #expect(!reply.body.contains("BEGIN") && upstream.requests.isEmpty)
    let record = try #require(await harness.records.lines(1).first)
    #expect(record.contains("\"flags\":\"UF\""))
    #expect(
      await eventually {
        harness.metrics.prometheusText().contains("outrider_upstream_connections_active{cluster=\"up\"} 0\n")
      })
    await harness.stop()
    await upstream.stop()
  }

  @Test func spiffeNamesStandInForTheHost() async throws {
    let upstream = try await TLSUpstream(authority.issue("up", "URI:spiffe://shop/pay"))
    let harness = try await harness(to: upstream.port) { tls, _ in
      tls.match = [PeerPattern("spiffe://shop/*")].compactMap(\.self)
      tls.serverName = "pay.shop"
    }
    #expect(ask(harness)?.body == "ok")
    #expect(upstream.names == ["pay.shop"])
    await harness.stop()
    await upstream.stop()
  }

  @Test func withoutVerificationEverythingIsTaken() async throws {
    let stranger = try Authority("stranger")
    let upstream = try await TLSUpstream(stranger.issue("up", "DNS:other", days: -1))
    let harness = try await harness(to: upstream.port) { tls, _ in tls.verify = false }
    #expect(ask(harness)?.body == "ok")
    await harness.stop()
    await upstream.stop()
  }

  @Test func aPlainUpstreamIsAProtocolError() async throws {
    let upstream = Upstream { wire, _, _ in
      _ = wire.receive()
      wire.send("HTTP/1.1 400 Bad Request\r\n\r\n")
    }
    let harness = try await harness(to: upstream.port)
    let reply = try #require(ask(harness))
    #expect(reply.head.contains("error=tls_protocol_error") && reply.body.contains("\"blame\":\"upstream\""))
    await harness.stop()
    upstream.stop()
  }

  @Test func aSilentUpstreamIsCutByTheConnectTimeout() async throws {
    let upstream = Upstream { wire, _, _ in _ = wire.takeAll() }
    let harness = try await Harness(to: []) { listener, cluster, _ in
      cluster.discovery = .fixed([EndpointConfiguration(address: .tcp(host: "localhost", port: upstream.port))])
      cluster.connectTimeout = .milliseconds(200)
      cluster.tls = ClusterTLSConfiguration()
      cluster.tls?.trust = .file(authority.file)
      listener.retries.attempts = 0
    }
    let reply = try #require(ask(harness))
    #expect(reply.head.hasPrefix("HTTP/1.1 504") && reply.head.contains("error=connection_timeout"))
    await harness.stop()
    upstream.stop()
  }

  @Test func aClientCertificateFromASecret() async throws {
    let upstream = try await TLSUpstream(authority.issue("up", "DNS:localhost"), clientCA: authority)
    let book = SecretBook()
    let harness = try await harness(to: upstream.port, book: book) { tls, _ in
      tls.certificate = .secret("client")
      tls.trust = .secret("client")
    }
    let early = try #require(ask(harness))
    #expect(early.head.contains("error=proxy_configuration_error") && early.body.contains("tls_not_ready"))
    let made = try authority.issue("client", "URI:spiffe://shop/web")
    let fields = [
      "tls.crt": try authority.text(made.certificate), "tls.key": try authority.text(made.key),
      "ca.crt": try authority.text(authority.file),
    ]
    book.publish("client", fields.mapValues { SecretBytes($0) })
    #expect(await eventually { ask(harness)?.body == "ok" })
    await harness.stop()
    await upstream.stop()
  }

  @Test func aRefusedClientIsToldWhy() async throws {
    let upstream = try await TLSUpstream(authority.issue("up", "DNS:localhost"), clientCA: authority)
    let harness = try await harness(to: upstream.port)
    let reply = try #require(ask(harness))
    #expect(reply.head.contains("error=tls_alert_received"), "\(reply.head)")
    #expect(reply.body.contains("\"reason\":\"tls_certificate_refused\",\"blame\":\"config\""), "\(reply.body)")
    await harness.stop()
    await upstream.stop()
  }

  /// RFC 9112 section 9.8.
  @Test func aBodyThatEndsWithTheConnectionNeedsCloseNotify() async throws {
    let upstream = try await TLSUpstream(
      authority.issue("up", "DNS:localhost"), answer: "HTTP/1.1 200 OK\r\n\r\nhalf", closesRaw: true)
    let harness = try await harness(to: upstream.port)
    let client = Wire.connect(harness.port)
    client.send(get())
    let record = try #require(await harness.records.lines(1).first)
    #expect(record.contains("\"flags\":\"UC\"") && record.contains("\"blame\":\"upstream\""), "\(record)")
    client.close()
    await harness.stop()
    await upstream.stop()
  }

  @Test func tcpListenersOriginateTLS() async throws {
    let upstream = try await TLSUpstream(authority.issue("up", "DNS:localhost"), answer: "pong")
    let harness = try await harness(to: upstream.port) { _, listener in listener.listenerProtocol = .tcp }
    let client = Wire.connect(harness.port)
    client.send("ping\r\n\r\n")
    #expect(client.take(4) == Array("pong".utf8))
    client.close()
    await harness.stop()
    await upstream.stop()
  }

  @Test func aReloadWithABadFileChangesNothing() async throws {
    let upstream = try await TLSUpstream(authority.issue("up", "DNS:localhost"))
    let harness = try await harness(to: upstream.port)
    var bad = harness.configuration
    bad.clusters[0].tls?.trust = .file("/nonexistent/ca.pem")
    #expect(throws: TLSMaterialError.self) { try harness.proxy.reload(bad, app: nil) }
    #expect(ask(harness)?.body == "ok")
    await harness.stop()
    await upstream.stop()
  }
}
