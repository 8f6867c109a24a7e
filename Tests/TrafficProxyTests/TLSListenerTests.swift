import Foundation
import NIOSSL
import Secrets
import Synchronization
import Telemetry
import Testing
import Traffic
import Vocabulary

@testable import TrafficProxy

@Suite struct TLSListenerTests {
  private let authority: Authority
  private let web: (certificate: String, key: String)

  init() throws {
    authority = try Authority()
    web = try authority.issue("web", "DNS:web.shop")
  }

  private func harness(
    to upstream: Upstream, book: SecretBook = SecretBook(), certificate: CertificateSource? = nil,
    _ edit: (inout ListenerTLSConfiguration, inout ListenerConfiguration) -> Void = { _, _ in }
  ) async throws -> Harness {
    try await Harness(to: [upstream.port], direction: .inbound, book: book) { listener, _, _ in
      var tls = ListenerTLSConfiguration(
        certificate: certificate ?? .files(certificate: web.certificate, key: web.key))
      edit(&tls, &listener)
      listener.tls = tls
    }
  }

  private func requireClients(_ tls: inout ListenerTLSConfiguration, _ match: String...) {
    tls.clientCA = .file(authority.file)
    tls.clientCertificate = .required
    tls.match = match.compactMap { PeerPattern($0) }
  }

  private func metric(_ harness: Harness, _ line: String) -> Bool {
    harness.metrics.prometheusText().contains(line + "\n")
  }

  @Test(arguments: [12...12, 13...13])
  func terminatesAndTellsTheApp(versions: ClosedRange<Int>) async throws {
    let upstream = Upstream.answering()
    let harness = try await harness(to: upstream)
    let client = try await TLSClient(harness.port, trust: authority, versions: versions)
    #expect(await client.isReady)
    #expect(client.inbox.state.withLock { $0.negotiated } == "http/1.1")
    for count in 1...3 {
      client.send(get())
      _ = await eventually { client.inbox.text.components(separatedBy: "200 OK").count == count + 1 }
    }
    #expect(upstream.requests.count == 3 && upstream.connectionCount == 1)
    #expect(upstream.requests.allSatisfy { $0.contains("X-Forwarded-Proto: https\r\n") })
    let record = try #require(await harness.records.lines(3).first)
    #expect(record.contains("\"tls\":\"\(versions.lowerBound == 12 ? "1.2" : "1.3")\"") && !record.contains("\"peer\""))
    #expect(metric(harness, "outrider_tls_handshakes_total{listener=\"web\"} 1"))
    let expiry = harness.metrics.prometheusText().split(separator: "\n")
      .first { $0.hasPrefix("outrider_tls_certificate_expiry_seconds{listener=\"web\",name=\"default\"} ") }
    let seconds = try #require(expiry?.split(separator: " ").last.flatMap { Int($0) })
    #expect((170_000...172_800).contains(seconds))
    await client.close()
    await harness.stop()
    upstream.stop()
  }

  @Test func aVersionBelowTheMinimumIsRefused() async throws {
    let upstream = Upstream.answering()
    let harness = try await harness(to: upstream) { tls, _ in tls.minimumVersion = .tls13 }
    let client = try await TLSClient(harness.port, versions: 12...12)
    #expect(await !client.isReady)
    #expect(
      await eventually {
        metric(harness, "outrider_tls_handshake_failures_total{listener=\"web\",reason=\"negotiation\"} 1")
      })
    await harness.stop()
    upstream.stop()
  }

  @Test func aClientsCertificateIsItsIdentity() async throws {
    let upstream = Upstream.answering()
    let harness = try await harness(to: upstream) { tls, _ in requireClients(&tls, "spiffe://shop/*") }
    let certificate = try authority.issue("cart", "URI:spiffe://shop/cart,DNS:cart.shop")
    let client = try await TLSClient(harness.port, trust: authority, certificate: certificate)
    client.send(get())
    #expect(await client.receive("200 OK").contains("200 OK"))
    let record = try #require(await harness.records.lines(1).first)
    #expect(record.contains("\"peer\":\"spiffe://shop/cart\""))
    await client.close()
    await harness.stop()
    upstream.stop()
  }

  @Test func clientsWithoutAGoodCertificateReachNothing() async throws {
    let upstream = Upstream.answering()
    let harness = try await harness(to: upstream) { tls, _ in
      requireClients(&tls, "spiffe://shop/cart", "dns:cart.shop")
    }
    let other = try Authority("another root")
    let cases: [((certificate: String, key: String)?, String)] = [
      (nil, "no_certificate"),
      (try other.issue("cart", "URI:spiffe://shop/cart"), "untrusted"),
      (try authority.issue("old", "URI:spiffe://shop/cart", days: -1), "expired"),
      (try authority.issue("ads", "URI:spiffe://shop/ads,DNS:ads.shop"), "mismatch"),
      (try authority.issue("two", "URI:spiffe://shop/cart,URI:spiffe://shop/ads"), "mismatch"),
      (try authority.issue("wild", "DNS:*.shop"), "mismatch"),
    ]
    for (certificate, reason) in cases {
      let before = count(harness, reason)
      let client = try await TLSClient(harness.port, certificate: certificate)
      // With TLS 1.3 a client believes itself connected before the server has judged its certificate.
      client.send(get())
      #expect(await client.isClosed, "\(reason)")
      #expect(!client.inbox.text.contains("HTTP/1.1"))
      #expect(await eventually { count(harness, reason) == before + 1 }, "\(reason)")
    }
    #expect(upstream.requests.isEmpty)
    await harness.stop()
    upstream.stop()
  }

  private func count(_ harness: Harness, _ reason: String) -> Int {
    let start = "outrider_tls_handshake_failures_total{listener=\"web\",reason=\"\(reason)\"} "
    let line = harness.metrics.prometheusText().split(separator: "\n").first { $0.hasPrefix(start) }
    return line.flatMap { Int($0.dropFirst(start.count)) } ?? 0
  }

  @Test func anOptionalCertificateIsCheckedWhenItIsThere() async throws {
    let upstream = Upstream.answering()
    let harness = try await harness(to: upstream) { tls, _ in
      requireClients(&tls)
      tls.clientCertificate = .optional
    }
    let without = try await TLSClient(harness.port, trust: authority)
    without.send(get())
    #expect(await without.receive("200 OK").contains("200 OK"))
    let stranger = try Authority("another root")
    let bad = try await TLSClient(harness.port, certificate: try stranger.issue("x", "DNS:x"))
    bad.send(get())
    #expect(await bad.isClosed)
    #expect(upstream.requests.count == 1)
    await without.close()
    await harness.stop()
    upstream.stop()
  }

  @Test func theNameAskedForChoosesTheCertificate() async throws {
    let upstream = Upstream.answering()
    let api = try authority.issue("api", "DNS:api.shop")
    let wild = try authority.issue("wild", "DNS:*.eu.shop")
    let harness = try await harness(to: upstream) { tls, _ in
      tls.hosts = [
        .init(pattern: "api.shop", certificate: .files(certificate: api.certificate, key: api.key)),
        .init(pattern: "*.eu.shop", certificate: .files(certificate: wild.certificate, key: wild.key)),
      ]
    }
    for (name, subject) in [("api.shop", "api"), ("a.eu.shop", "wild"), ("web.shop", "web")] {
      let client = try await TLSClient(harness.port, name: name, trust: authority)
      #expect(await client.isReady, "\(name)")
      #expect(try await client.peerCertificate()?.subject == "CN=\(subject)")
      client.send(get())
      #expect(await client.receive("200 OK").contains("200 OK"))
      await client.close()
    }
    let unnamed = try await TLSClient(harness.port, name: nil)
    #expect(await unnamed.isReady)
    #expect(try await unnamed.peerCertificate()?.subject == "CN=web")
    await unnamed.close()
    await harness.stop()
    upstream.stop()
  }

  @Test func permissiveTakesBoth() async throws {
    let upstream = Upstream.answering()
    let harness = try await harness(to: upstream) { tls, _ in tls.permissive = true }
    let plain = Wire.connect(harness.port)
    plain.send(get())
    #expect(plain.message()?.head.hasPrefix("HTTP/1.1 200") == true)
    plain.close()
    let client = try await TLSClient(harness.port, trust: authority)
    client.send(get())
    #expect(await client.receive("200 OK").contains("200 OK"))
    #expect(upstream.requests.map { $0.contains("X-Forwarded-Proto: https") } == [false, true])
    await client.close()
    await harness.stop()
    upstream.stop()
  }

  @Test func aPermissiveTCPListenerWaitsForNeitherSide() async throws {
    let upstream = Upstream { wire, _, _ in
      wire.send("hello")
      wire.send(wire.receive())
    }
    let harness = try await harness(to: upstream) { tls, listener in
      tls.permissive = true
      listener.listenerProtocol = .tcp
    }
    let plain = Wire.connect(harness.port)
    #expect(plain.take(5) == Array("hello".utf8), "a server that speaks first is heard by a silent client")
    plain.send("abc")
    #expect(plain.take(3) == Array("abc".utf8))
    plain.close()
    let client = try await TLSClient(harness.port, trust: authority)
    #expect(await client.receive("hello") == "hello")
    client.send("abc")
    #expect(await client.receive("abc") == "helloabc")
    await client.close()
    // A hello that comes in two pieces, the second after the time for silent clients.
    let slow = Relay(to: harness.port, pausing: .milliseconds(700))
    let late = try await TLSClient(slow.port, trust: authority)
    #expect(await late.receive("hello") == "hello")
    await late.close()
    slow.stop()
    await harness.stop()
    upstream.stop()
  }

  @Test func plaintextWithoutPermissiveReachesNothing() async throws {
    let upstream = Upstream.answering()
    let harness = try await harness(to: upstream)
    let plain = Wire.connect(harness.port)
    plain.send(get())
    #expect(!String(decoding: plain.takeAll(), as: UTF8.self).contains("200"))
    plain.close()
    #expect(await eventually { count(harness, "plaintext") == 1 })
    #expect(upstream.requests.isEmpty)
    await harness.stop()
    upstream.stop()
  }

  @Test(arguments: [false, true])
  func aSilentClientIsNotWaitedFor(permissive: Bool) async throws {
    let upstream = Upstream.answering()
    let harness = try await harness(to: upstream) { tls, listener in
      tls.permissive = permissive
      listener.headTimeout = .milliseconds(200)
      listener.maxConnections = 1
    }
    let silent = Wire.connect(harness.port)
    silent.send([22, 3, 1])
    #expect(silent.takeAll().isEmpty)
    silent.close()
    #expect(await eventually { count(harness, "timeout") == 1 })
    // Its place is free again.
    let client = try await TLSClient(harness.port, trust: authority)
    #expect(await client.isReady)
    await client.close()
    await harness.stop()
    upstream.stop()
  }

  @Test func aNewFileServesNewHandshakesAndOldConnectionsStay() async throws {
    let upstream = Upstream.answering()
    let harness = try await harness(to: upstream)
    let old = try await TLSClient(harness.port, trust: authority)
    #expect(await old.isReady)
    let first = try await old.peerCertificate()

    let next = try authority.issue("next", "DNS:web.shop")
    // A certificate without its key is no pair: the last good one stays.
    rename(next.certificate, web.certificate)
    #expect(await eventually { metric(harness, "outrider_tls_certificate_errors_total{listener=\"web\"} 1") })
    let between = try await TLSClient(harness.port, trust: authority)
    #expect(await between.isReady)
    #expect(try await between.peerCertificate() == first)
    rename(next.key, web.key)
    #expect(
      await eventually {
        guard let client = try? await TLSClient(harness.port, trust: authority), await client.isReady else {
          return false
        }
        defer { Task { await client.close() } }
        return (try? await client.peerCertificate()?.subject) == "CN=next"
      })
    old.send(get())
    #expect(await old.receive("200 OK").contains("200 OK"), "an established connection stays")
    await old.close()
    await between.close()
    await harness.stop()
    upstream.stop()
  }

  @Test func aReloadMayTurnTLSOnAndChangeItsFiles() async throws {
    let upstream = Upstream.answering()
    let harness = try await harness(to: upstream)
    let next = try authority.issue("next", "DNS:web.shop")
    var configuration = harness.configuration
    configuration.inbound[0].tls?.certificate = .files(certificate: next.certificate, key: next.key)
    try harness.proxy.reload(configuration, app: .tcp(host: "127.0.0.1", port: upstream.port))
    #expect(
      await eventually {
        guard let client = try? await TLSClient(harness.port, trust: authority), await client.isReady else {
          return false
        }
        defer { Task { await client.close() } }
        return (try? await client.peerCertificate()?.subject) == "CN=next"
      })
    configuration.inbound[0].tls = nil
    try harness.proxy.reload(configuration, app: .tcp(host: "127.0.0.1", port: upstream.port))
    #expect(
      await eventually {
        let plain = Wire.connect(harness.port)
        defer { plain.close() }
        plain.send(get())
        return plain.message()?.head.hasPrefix("HTTP/1.1 200") == true
      })
    await harness.stop()
    upstream.stop()
  }

  @Test func headAndSmallBodyAreOneRecordAndLargeOnesAreWhole() async throws {
    let body = String(repeating: "0123456789", count: 30_000)
    let upstream = Upstream { wire, _, upstream in
      while let request = upstream.request(wire) {
        let body = request.head.contains("/large") ? body : "ok"
        wire.send("HTTP/1.1 200 OK\r\nContent-Length: \(body.utf8.count)\r\n\r\n\(body)")
      }
    }
    let harness = try await harness(to: upstream)
    // A hand on the raw octets: the client's own connection, relayed.
    let relay = Relay(to: harness.port)
    let client = try await TLSClient(relay.port, trust: authority)
    client.send(get())
    #expect(await client.receive("\r\n\r\nok").hasSuffix("\r\n\r\nok"))
    let before = relay.records
    client.send(get())
    #expect(await eventually { client.inbox.text.components(separatedBy: "\r\n\r\nok").count == 3 })
    #expect(relay.records == before + 1)
    client.send(get("/large"))
    #expect(await eventually { client.inbox.text.hasSuffix(body) })
    await client.close()
    await harness.stop()
    relay.stop()
    upstream.stop()
  }

  @Test func anUnusableFileIsAnErrorThatNamesIt() async throws {
    let upstream = Upstream.answering()
    let expired = try authority.issue("expired", "DNS:web.shop", days: -1)
    let other = try authority.issue("other", "DNS:web.shop")
    let cases: [(CertificateSource, [String])] = [
      (
        .files(certificate: expired.certificate, key: expired.key),
        [expired.certificate, "CN=expired", "expired at 20"]
      ),
      (.files(certificate: web.certificate, key: other.key), [other.key, "CN=web", "does not belong", "valid 20"]),
      (.files(certificate: "/nonexistent/a.pem", key: web.key), ["/nonexistent/a.pem", "No such file"]),
      (.files(certificate: web.key, key: web.key), ["no certificate in PEM form"]),
      (.files(certificate: web.certificate, key: web.certificate), ["no private key in PEM form"]),
    ]
    for (source, texts) in cases {
      let error = await #expect(throws: TLSMaterialError.self) {
        try await self.harness(to: upstream, certificate: source)
      }
      for text in texts + ["inbound.web.tls"] {
        #expect(error?.description.contains(text) == true, "\(error?.description ?? "")")
      }
    }
    upstream.stop()
  }

  @Test func aSecretServesAListenerAndRotates() async throws {
    let upstream = Upstream.answering()
    let book = SecretBook()
    let harness = try await harness(to: upstream, book: book, certificate: .secret("web")) { tls, _ in
      tls.clientCA = .secret("web")
      tls.clientCertificate = .optional
    }
    let early = try await TLSClient(harness.port)
    #expect(await !early.isReady, "nothing is served before the secret is there")
    func publish(_ name: String) throws {
      let made = try authority.issue(name, "DNS:web.shop")
      let fields = [
        "certificate": try authority.text(made.certificate), "private_key": try authority.text(made.key),
        "ca_chain": try authority.text(authority.file),
      ]
      book.publish("web", fields.mapValues { SecretBytes($0) })
    }
    for name in ["one", "two"] {
      try publish(name)
      let start = ContinuousClock.now
      #expect(
        await eventually {
          guard let client = try? await TLSClient(harness.port, trust: authority), await client.isReady else {
            return false
          }
          defer { Task { await client.close() } }
          return (try? await client.peerCertificate()?.subject) == "CN=\(name)"
        })
      #expect(ContinuousClock.now - start < .seconds(5))
    }
    book.publish("web", ["certificate": SecretBytes("x"), "private_key": SecretBytes("y")])
    let late = try await TLSClient(harness.port, trust: authority)
    #expect(await late.isReady, "the last good certificate stays")
    await late.close()
    await harness.stop()
    upstream.stop()
  }

  @Test func aCutResponseHasNoRegularEnd() async throws {
    let upstream = Upstream { wire, _, upstream in
      guard upstream.request(wire) != nil else { return }
      wire.send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
      wire.reset()
    }
    let harness = try await harness(to: upstream)
    let client = try await TLSClient(harness.port, trust: authority)
    client.send(get())
    #expect(await client.isClosed)
    #expect(client.inbox.state.withLock { $0.error != nil }, "`close_notify` would be a regular end")
    await harness.stop()
    upstream.stop()
  }

  @Test func tcpListenersTerminateAndKeepHalvesApart() async throws {
    let upstream = Upstream { wire, _, _ in
      let all = wire.takeAll()
      wire.send(Array(all.reversed()))
    }
    let harness = try await harness(to: upstream) { _, listener in listener.listenerProtocol = .tcp }
    let client = try await TLSClient(harness.port, trust: authority)
    #expect(await client.isReady)
    #expect(client.inbox.state.withLock { $0.negotiated } == nil)
    client.send("abc")
    client.finishSending()
    #expect(await client.receive("cba") == "cba")
    await client.close()
    await harness.stop()
    upstream.stop()
  }
}
