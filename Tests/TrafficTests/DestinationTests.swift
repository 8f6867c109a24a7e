import Testing
import Vocabulary

@testable import Traffic

@Suite struct DestinationTests {
  static func destination(_ text: String, _ port: Int? = 80) -> String? {
    Destination(authority: text.utf8, defaultPort: port)?.description
  }

  @Test(arguments: [
    ("a", "a:80"), ("Shop.Example.COM:8080", "shop.example.com:8080"), ("a.", "a:80"), ("1.2.3.4:5", "1.2.3.4:5"),
    ("[::1]", "[::1]:80"), ("[2001:DB8:0::1]:443", "[2001:db8::1]:443"), ("a_b-c.d:65535", "a_b-c.d:65535"),
  ])
  func authoritiesAreRead(text: String, shown: String) { #expect(Self.destination(text) == shown) }

  @Test(arguments: [
    "", ":80", "a:", "a:0", "a:65536", "a:+1", "a:1x", "a b", "user@a", "a/b", "::1", "1::2:80", "[::1", "[a]:1",
    "[1.2.3.4]:1", "[::1]x", "[::1]:", ".a", "-a", ".", "a\u{0}", "é:80", String(repeating: "a", count: 254),
  ])
  func othersAreNot(text: String) { #expect(Self.destination(text) == nil, "\(text)") }

  @Test func withoutADefaultThePortIsNeeded() {
    #expect(Self.destination("a", nil) == nil && Self.destination("[::1]", nil) == nil)
    #expect(Self.destination("a:443", nil) == "a:443")
  }

  @Test func policiesAllowWhatTheyName() throws {
    var policy = DestinationPolicy()
    func refuses(_ text: String) throws -> Bool {
      policy.refusal(try #require(Destination(authority: text.utf8, defaultPort: 80))) != nil
    }
    #expect(try !refuses("anything:1"))
    policy.hosts = try ["api.test", "*.Example.com", "10.0.0.0/8", "::1"].map {
      try #require(DestinationPolicy.Host($0))
    }
    for text in ["api.test", "API.test.", "a.example.com", "a.b.example.com", "10.9.8.7", "[::1]"] {
      #expect(try !refuses(text), "\(text)")
    }
    for text in ["xapi.test", "example.com", "notexample.com", "11.0.0.1", "[::2]", "10.0.0.1.test"] {
      #expect(try refuses(text), "\(text)")
    }
    policy.ports = [443]
    #expect(try refuses("api.test:80") && !refuses("api.test:443"))
    for text in ["*", "*.", "a:1", "a b", "", "*.*.a"] { #expect(DestinationPolicy.Host(text) == nil, "\(text)") }
  }

  @Test(arguments: [
    // Address, port, client, own address: refused?
    ("127.0.0.1", 15000, "127.0.0.1", false, true), ("127.9.9.9", 15000, "127.0.0.1", false, true),
    ("::1", 9001, "127.0.0.1", false, true), ("0.0.0.0", 9001, "127.0.0.1", false, true),
    ("::ffff:127.0.0.1", 9001, "127.0.0.1", false, true), ("10.0.0.5", 9001, "127.0.0.1", true, true),
    ("10.0.0.6", 9001, "127.0.0.1", false, false), ("127.0.0.1", 8080, "127.0.0.1", false, false),
    ("127.0.0.1", 8080, "10.0.0.7", false, true), ("0.0.0.0", 8080, "10.0.0.7", false, true),
    ("10.0.0.5", 8080, "10.0.0.7", true, false), ("93.184.216.34", 443, "10.0.0.7", false, false),
  ])
  func theSidecarProtectsItself(address: String, port: Int, client: String, isOwn: Bool, refused: Bool) throws {
    let protection = SelfProtection(ports: [15000, 9001])
    let refusal = protection.refusal(
      try #require(IPAddress(address)), port: port, client: IPAddress(client), isOwn: { _ in isOwn })
    #expect((refusal != nil) == refused)
  }

  @Test func theTableIsBoundedAndForgets() {
    var table = BoundedTable<String, Int>(limit: 3, idle: 100)
    var busy: Set<Int> = [1, 2, 3]
    for (index, key) in ["a", "b", "c"].enumerated() {
      guard case .added(nil) = table.insert(key, index + 1, now: UInt64(index), isBusy: { busy.contains($0) }) else {
        Issue.record("\(key) had no room")
        return
      }
    }
    guard case .full = table.insert("d", 4, now: 5, isBusy: { busy.contains($0) }) else {
      Issue.record("what is in use went")
      return
    }
    busy = [3]
    #expect(table.find("a", now: 10) == 1)
    // b was used before a.
    guard case .added(2) = table.insert("d", 4, now: 11, isBusy: { busy.contains($0) }) else {
      Issue.record("the oldest stayed")
      return
    }
    #expect(table.count == 3 && table.find("b", now: 12) == nil)
    #expect(table.sweep(now: 109, isBusy: { busy.contains($0) }).isEmpty)
    #expect(table.sweep(now: 110, isBusy: { busy.contains($0) }) == [1])
    #expect(table.sweep(now: 1000, isBusy: { busy.contains($0) }) == [4] && table.values == [3])
  }
}
