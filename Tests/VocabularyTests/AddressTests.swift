import Testing

@testable import Vocabulary

@Suite struct AddressTests {
  @Test(arguments: [
    ("127.0.0.1:80", Address.tcp(host: "127.0.0.1", port: 80)), (":8080", .tcp(host: "", port: 8080)),
    ("[::1]:443", .tcp(host: "::1", port: 443)), ("name.internal:0", .tcp(host: "name.internal", port: 0)),
    ("unix:/run/a.sock", .unix(path: "/run/a.sock")), ("a:65535", .tcp(host: "a", port: 65535)),
  ])
  func readsAndWrites(text: String, address: Address) {
    #expect(Address(text) == address)
    #expect(address.description == text)
  }

  @Test(arguments: [
    "", "80", "host", "host:", "host:65536", "host:-1", "host:8o", "::1:80", "[]:80", "[::1:80", "unix:run", "unix:",
    "a b:80", "http://a:80", "a/b:80", "ä:80",
  ])
  func refuses(text: String) { #expect(Address(text) == nil) }

  @Test func refusesSocketPathsLongerThanTheKernelTakes() {
    #expect(Address("unix:/" + String(repeating: "a", count: 106)) != nil)
    #expect(Address("unix:/" + String(repeating: "a", count: 107)) == nil)
  }
}
