import Testing

@testable import Vocabulary

@Suite struct IPAddressTests {
  @Test(arguments: [
    ("1.2.3.4", "1.2.3.4"), ("::1", "::1"), ("2001:DB8::0:1", "2001:db8::1"), ("::ffff:1.2.3.4", "1.2.3.4"),
    ("0.0.0.0", "0.0.0.0"), ("::", "::"), ("fe80::1:2:3:4", "fe80::1:2:3:4"),
  ])
  func textsAreReadAndShown(text: String, shown: String) throws {
    let address = try #require(IPAddress(text))
    #expect(address.description == shown)
    #expect(IPAddress(octets: address.octets) == address && IPAddress(octets: address.mappedOctets) == address)
  }

  @Test(arguments: ["", "1.2.3", "1.2.3.4.5", "01.2.3.4", "256.1.1.1", "a", "[::1]", "fe80::1%lo", "1.2.3.4 ", ":"])
  func othersAreNot(text: String) { #expect(IPAddress(text) == nil) }

  @Test func kindsAreTold() throws {
    for text in ["127.0.0.1", "127.255.0.3", "::1", "::ffff:127.0.0.1"] { #expect(IPAddress(text)?.isLoopback == true) }
    for text in ["128.0.0.1", "::2", "126.0.0.1", "::"] { #expect(IPAddress(text)?.isLoopback == false) }
    for text in ["0.0.0.0", "::", "::ffff:0.0.0.0"] { #expect(IPAddress(text)?.isUnspecified == true) }
    #expect(IPAddress("0.0.0.1")?.isUnspecified == false)
  }

  @Test func rangesHoldWhatTheyShould() throws {
    let ten = try #require(AddressRange("10.1.2.3/8"))
    #expect(ten.description == "10.0.0.0/8" && ten.isV4)
    #expect(ten.contains(IPAddress("10.255.0.1")!) && !ten.contains(IPAddress("11.0.0.1")!))
    #expect(!ten.contains(IPAddress("::")!))
    let all = try #require(AddressRange("0.0.0.0/0"))
    #expect(all.contains(IPAddress("255.1.1.1")!) && !all.contains(IPAddress("::1")!))
    let local = try #require(AddressRange("fd00::/8"))
    #expect(local.contains(IPAddress("fdff::1")!) && !local.contains(IPAddress("fe00::1")!))
    let odd = try #require(AddressRange("2001:db8::/65"))
    #expect(odd.contains(IPAddress("2001:db8::7fff:0:0:1")!) && !odd.contains(IPAddress("2001:db8::8000:0:0:1")!))
    #expect(AddressRange("::1")?.description == "::1" && AddressRange("1.2.3.4/32")?.description == "1.2.3.4")
    for text in ["10.0.0.0/33", "::/129", "10.0.0.0/", "10.0.0.0/-1", "x/8", "1.2.3.4/8/8", "::ffff:0:0/+1"] {
      #expect(AddressRange(text) == nil, "\(text)")
    }
  }
}
