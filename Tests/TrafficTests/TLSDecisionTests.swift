import Testing

@testable import Traffic

@Suite struct PeerNameTests {
  private let svid = PeerNames(uris: ["spiffe://shop/ns/prod/web"], dns: ["web.shop"])

  @Test(arguments: [
    ("spiffe://shop/ns/prod/web", true), ("spiffe://shop/ns/prod/webb", false), ("spiffe://shop/ns/*", true),
    ("spiffe://shop/*", true), ("spiffe://shop/ns/prod/web/*", false), ("spiffe://sho/*", false),
    ("dns:web.shop", true), ("dns:WEB.shop", true), ("dns:shop", false), ("dns:*.shop", true),
    ("dns:*.web.shop", false),
  ])
  func patterns(_ text: String, _ expected: Bool) throws {
    let pattern = try #require(PeerPattern(text))
    #expect(pattern.matches(svid, asServer: false) == expected)
    #expect(pattern.matches(svid, asServer: true) == expected)
  }

  @Test(arguments: [
    "", "web.shop", "spiffe://", "spiffe:///a", "spiffe://*/a", "spiffe://shop/*/a", "spiffe://shop/a*",
    "spiffe://shop/",
    "spiffe://shop/a b", "dns:", "dns:*", "dns:a.*.b", "dns:*.", "dns:a b", "uri:x",
  ])
  func refused(_ text: String) { #expect(PeerPattern(text) == nil) }

  @Test func severalURIsAreNoSPIFFEIdentity() throws {
    let two = PeerNames(uris: ["spiffe://shop/a", "spiffe://shop/b"])
    #expect(two.spiffeID == nil)
    #expect(try !#require(PeerPattern("spiffe://shop/a")).matches(two, asServer: false))
    #expect(try !#require(PeerPattern("spiffe://shop/*")).matches(two, asServer: false))
  }

  @Test func aClientsWildcardIsNoIdentityAndAServersCoversNames() throws {
    let wild = PeerNames(dns: ["*.shop"])
    let pattern = try #require(PeerPattern("dns:admin.shop"))
    #expect(!pattern.matches(wild, asServer: false))
    #expect(pattern.matches(wild, asServer: true))
    #expect(try !#require(PeerPattern("dns:*.shop")).matches(wild, asServer: false))
    #expect(try #require(PeerPattern("dns:*.shop")).matches(wild, asServer: true))
  }

  /// RFC 9525 section 6.3.
  @Test(arguments: [
    ("a.shop", "a.shop", true), ("A.Shop", "a.shop", true), ("a.shop", "a.shop.", true), ("*.shop", "a.shop", true),
    ("*.shop", "b.a.shop", false), ("*.shop", "shop", false), ("a*.shop", "ab.shop", false), ("*", "shop", false),
    ("*.*.shop", "a.b.shop", false), ("a.shop", "b.shop", false), ("", "", false), ("*.", "a.", false),
  ])
  func hostNames(_ name: String, _ host: String, _ expected: Bool) {
    #expect(PeerNames(dns: [name]).covers(host: host) == expected)
  }

  @Test func identityAndSummary() {
    #expect(svid.identity == "spiffe://shop/ns/prod/web")
    #expect(PeerNames(uris: ["https://x"], dns: ["a"]).identity == "a")
    #expect(PeerNames().identity == "")
    #expect(PeerNames().summary() == "no names (subjectAltName)")
    let many = PeerNames(dns: ["a", "b", "c"], addresses: [[127, 0, 0, 1]])
    #expect(many.summary(limit: 2) == "dns:a, dns:b and 2 more")
    #expect(many.summary() == "dns:a, dns:b, dns:c, ip:127.0.0.1")
  }

  @Test func serverNames() {
    let table = ServerNameTable(["a.shop", "*.shop", "*.eu.shop"])
    #expect(table.find("A.shop.") == 0)
    #expect(table.find("b.shop") == 1)
    #expect(table.find("c.b.shop") == 1)
    #expect(table.find("x.eu.shop") == 2)
    #expect(table.find("shop") == nil)
    #expect(table.find("ashop") == nil)
  }
}

@Suite struct ClientHelloTests {
  private static func read(_ bytes: [UInt8]) -> ClientHello.Reading { bytes.withUnsafeBytes { ClientHello.read($0) } }

  private static func pair(_ number: Int) -> [UInt8] { [UInt8(number >> 8), UInt8(number & 255)] }

  /// A ClientHello with that name, in records of at most `record` octets.
  static func hello(_ name: String?, record: Int = 1 << 14) -> [UInt8] {
    var extensions: [UInt8] = [0, 43, 0, 3, 2, 3, 4]
    if let name {
      let host = [0] + pair(name.utf8.count) + Array(name.utf8)
      extensions += [0, 0] + pair(host.count + 2) + pair(host.count) + host
    }
    var body: [UInt8] = [3, 3] + [UInt8](repeating: 7, count: 32) + [4, 1, 2, 3, 4] + [0, 2, 0x13, 1] + [1, 0]
    body += pair(extensions.count) + extensions
    let message = [1, 0] + pair(body.count) + body
    return stride(from: 0, to: message.count, by: record).flatMap { start -> [UInt8] in
      let piece = message[start..<min(start + record, message.count)]
      return [22, 3, 1] + pair(piece.count) + piece
    }
  }

  @Test(arguments: [1, 3, 40, 1 << 14])
  func theNameWhateverTheRecords(record: Int) {
    let bytes = Self.hello("api.shop", record: record)
    #expect(Self.read(bytes) == .tls(serverName: "api.shop"))
    for count in 0..<bytes.count { #expect(Self.read(Array(bytes[..<count])) == .incomplete, "\(count)") }
  }

  @Test func withoutANameAndNotTLS() {
    #expect(Self.read(Self.hello(nil)) == .tls(serverName: nil))
    #expect(Self.read(Array("GET / HTTP/1.1\r\n".utf8)) == .other)
    #expect(Self.read([22, 1]) == .other)
    #expect(Self.read([0x80, 0x2E, 1, 3, 1]) == .other)
  }

  /// No malformed hello has a name, waits for more than it may, or is read past its end.
  @Test func everyOctetChanged() {
    let bytes = Self.hello("api.shop")
    for index in 2..<bytes.count {
      for value in [0, 1, 0x7F, 0xFF] as [UInt8] {
        var changed = bytes
        changed[index] = value
        switch Self.read(changed + [UInt8](repeating: 0, count: 40_000)) {
        case .incomplete: Issue.record("octet \(index) = \(value) waits")
        case .tls, .other: break
        }
      }
    }
    #expect(Self.read(Self.hello("bad name")) == .tls(serverName: nil))
    #expect(Self.read(Self.hello(String(repeating: "a", count: 300))) == .tls(serverName: nil))
  }
}

@Suite struct MaterialWatchTests {
  @Test func aBadVersionKeepsTheLastGoodAndIsSaidOnce() {
    var watch = MaterialWatch<Int>()
    #expect(watch.wantsReading(1))
    #expect(watch.loaded(1) == .changed)
    #expect(!watch.wantsReading(1))
    #expect(watch.wantsReading(2))
    #expect(watch.failed(2, "no pair") == .failed("no pair"))
    #expect(watch.state == .stale)
    #expect(watch.wantsReading(2), "a pair may be whole a moment later, a date may come")
    #expect(watch.failed(2, "no pair") == .none)
    #expect(watch.failed(3, "expired") == .failed("expired"))
    #expect(watch.failure == "expired")
    #expect(watch.loaded(3) == .healed)
    #expect(watch.failure == nil && watch.state == .good)
    #expect(watch.loaded(4) == .changed)
  }

  @Test func missingStaysMissingUntilItIsGood() {
    var watch = MaterialWatch<Int>()
    #expect(watch.failed(0, "absent") == .failed("absent"))
    #expect(watch.state == .missing)
    #expect(watch.loaded(1) == .healed)
  }
}
