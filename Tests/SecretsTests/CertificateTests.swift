import Resilience
import Testing
import Vocabulary

@testable import Secrets

@Suite struct CertificateScheduleTests {
  private var random = SeededRandom(seed: 7)

  @Test mutating func issuedAnewAtTwoThirdsOfItsLife() {
    var schedule = CertificateSchedule()
    #expect(schedule.wait(at: .zero, wall: 1000) == .zero, "due at once")
    schedule.issued(wall: 1000, expires: 1000 + 3600, using: &random)
    #expect(schedule.state == .fresh && schedule.expires == 4600)
    // Between 2/3 less 3 % and 2/3 of an hour.
    #expect(schedule.wait(at: .zero, wall: 1000 + 2291) > .zero)
    #expect(schedule.wait(at: .zero, wall: 1000 + 2400) == .zero)
    #expect(schedule.wait(at: .zero, wall: 1001) == .seconds(60), "never waits past a jump of the clock")
    #expect(schedule.wait(at: .zero, wall: 1000 + 3600) == .zero, "the clock jumped an hour on")
    #expect(schedule.wait(at: .zero, wall: 0) == .seconds(60), "the clock jumped back")
  }

  @Test mutating func failuresWaitLongerButNeverPastTheEnd() {
    var schedule = CertificateSchedule()
    schedule.issued(wall: 0, expires: 90, using: &random)
    var now = Duration.seconds(60)
    var attempts = 0
    while now < .seconds(90) {
      schedule.failed(at: now, wall: now.components.seconds, using: &random)
      #expect(schedule.state == .failing && schedule.expires == 90)
      now += schedule.wait(at: now, wall: now.components.seconds)
      attempts += 1
    }
    #expect(attempts >= 6, "\(attempts) attempts in the last third of 90 s")
    // After its end, as long as any backoff.
    for _ in 0..<12 { schedule.failed(at: now, wall: 91, using: &random) }
    #expect(schedule.wait(at: now, wall: 91) == .seconds(60))
    schedule.issued(wall: 91, expires: 181, using: &random)
    #expect(schedule.state == .fresh)
  }

  @Test mutating func aRefreshTouchesOnlyWhatFails() {
    var schedule = CertificateSchedule()
    schedule.issued(wall: 0, expires: 3600, using: &random)
    schedule.refreshNow(at: .seconds(5))
    #expect(schedule.wait(at: .seconds(5), wall: 5) == .seconds(60), "a login or SIGHUP issues nothing")
    for _ in 0..<5 { schedule.failed(at: .seconds(2400), wall: 2400, using: &random) }
    #expect(schedule.wait(at: .seconds(2400), wall: 2400) > .seconds(5))
    schedule.refreshNow(at: .seconds(2400))
    #expect(schedule.wait(at: .seconds(2400), wall: 2400) == .zero)
  }

  @Test mutating func aDeadCertificateIsNotAskedForInALoop() {
    var schedule = CertificateSchedule()
    schedule.issued(wall: 100, expires: 50, using: &random)
    #expect(schedule.wait(at: .zero, wall: 100) >= .seconds(1))
  }
}

@Suite struct VaultCertificateTests {
  @Test func theRequestsBody() {
    var request = CertificateRequest(path: "pki/issue/web", commonName: "web.shop")
    #expect(
      request.body.json == #"{"common_name":"web.shop","format":"pem","private_key_format":"pkcs8"}"#)
    request.altNames = ["a.shop", "b.shop"]
    request.ipSANs = ["127.0.0.1"]
    request.uriSANs = ["spiffe://shop/web"]
    request.ttl = .seconds(90)
    let body = request.body
    #expect(body["alt_names"]?.string == "a.shop,b.shop")
    #expect(body["ip_sans"]?.string == "127.0.0.1")
    #expect(body["uri_sans"]?.string == "spiffe://shop/web")
    #expect(body["ttl"]?.string == "90s")
  }

  /// A reply recorded from OpenBao 2.7.2.
  @Test func theRecordedReply() throws {
    let bytes = Vectors.read(Vectors.folder + "/vault/26-pki-issue.json")
    guard !bytes.isEmpty else {
      print("skipped: no recording 26-pki-issue in \(Vectors.folder)/vault")
      return
    }
    let exchange = try JSONParser.parse(bytes)
    let reply = try #require(exchange["body"])
    let issued = try VaultCertificate(issue: reply)
    #expect(issued.fields.keys.sorted() == ["ca_chain", "certificate", "issuing_ca", "private_key"])
    #expect(
      issued.fields["private_key"].map { String(decoding: $0.copy(), as: UTF8.self) }?.contains("PRIVATE KEY") == true)
    #expect(issued.expires == 1_795_408_456 && issued.notBefore == 1_795_408_366)
    #expect(issued.serial.hasPrefix("08:2d:8c"))
    #expect(!"\(issued)".contains("BEGIN"))

    let asked = try #require(exchange["request"]?["body"])
    var request = CertificateRequest(path: "pki/issue/web", commonName: "app.lab")
    request.uriSANs = ["spiffe://lab/app"]
    request.ttl = .seconds(60)
    for key in ["common_name", "uri_sans", "ttl", "format", "private_key_format"] {
      #expect(request.body[key] == asked[key], "\(key)")
    }
  }

  @Test(arguments: [
    "{}", #"{"data":{}}"#, #"{"data":{"certificate":"c","private_key":"k"}}"#,
    #"{"data":{"certificate":"c","expiration":1}}"#,
  ])
  func malformedReplies(text: String) throws {
    let node = try JSONParser.parse(Array(text.utf8))
    #expect(throws: VaultFailure.self) { try VaultCertificate(issue: node) }
  }

  @Test func certificatesAreNotRedactedAndKeysAre() {
    let book = SecretBook()
    let certificate = "-----BEGIN CERTIFICATE-----\nabc\n-----END CERTIFICATE-----\n"
    let key = "-----BEGIN PRIVATE KEY-----\nabc\n-----END PRIVATE KEY-----\n"
    book.publish(
      "web",
      [
        "certificate": SecretBytes(certificate), "private_key": SecretBytes(key),
        "both": SecretBytes(certificate + key),
      ])
    #expect(book.redactions().map(\.name).sorted() == ["web.both", "web.private_key"])
  }
}
