import Testing
import Traffic
import Vocabulary

@testable import ConfigurationFile

/// How clusters find and choose their endpoints, and files of endpoints.
@Suite struct ClusterDecodingTests {
  func cluster(_ text: String) throws -> ClusterConfiguration {
    try #require(try Workspace.value("clusters: { a: { \(text) } }").traffic.clusters.first)
  }

  @Test func sources() throws {
    #expect(try cluster("dns: \"pay:80\"").discovery == .dns(host: "pay", port: 80))
    #expect(try cluster("srv: _http._tcp.shop.test").discovery == .srv("_http._tcp.shop.test"))
    guard case .file(let path) = try cluster("file: shop/endpoints.yaml").discovery else {
      Issue.record("no file")
      return
    }
    #expect(path.hasPrefix("/") && path.hasSuffix("/shop/endpoints.yaml"))
    let listed = try cluster(
      "endpoints: [\"10.0.0.1:80\", { address: \"b:81\", weight: 3, locality: zone-a, priority: 2 }]")
    #expect(
      listed.discovery
        == .fixed([
          EndpointConfiguration(address: .tcp(host: "10.0.0.1", port: 80)),
          EndpointConfiguration(address: .tcp(host: "b", port: 81), weight: 3, locality: "zone-a", priority: 2),
        ]))
  }

  @Test func balances() throws {
    let defaults = try cluster("dns: \"a:1\"")
    #expect(defaults.balance == .leastRequest && defaults.hashOn == .source && defaults.slowStart == .zero)
    #expect(defaults.locality == nil && defaults.panicPercent == 50)
    for balance in ClusterConfiguration.Balance.allCases {
      #expect(try cluster("dns: \"a:1\", balance: \(balance.rawValue)").balance == balance)
    }
    let peak = try cluster("dns: \"a:1\", balance: peak_ewma, locality: zone-a, slow_start: 30s")
    #expect(peak.locality == "zone-a" && peak.slowStart == .seconds(30))
    let sources: [(String, HashSource)] = [
      ("source", .source), ("path", .path), ("{ header: X-User }", .header("X-User")),
      ("{ cookie: sid }", .cookie("sid")), ("{ query: user }", .query("user")),
    ]
    for (text, source) in sources {
      #expect(try cluster("dns: \"a:1\", balance: ring_hash, hash_on: \(text)").hashOn == source)
    }
  }

  @Test func resolvers() throws {
    let value = try Workspace.value("resolvers: [\"127.0.0.1:5353\", 10.0.0.53, \"[::1]:53\", \"::1\"]")
    #expect(
      value.traffic.resolvers == [
        .tcp(host: "127.0.0.1", port: 5353), .tcp(host: "10.0.0.53", port: 53), .tcp(host: "::1", port: 53),
        .tcp(host: "::1", port: 53),
      ])
    #expect(try Workspace.value("resolvers: 10.0.0.53").traffic.resolvers.count == 1)
  }

  @Test(arguments: [
    ("clusters: { a: {} }", "1:16", "needs one of `endpoints`, `dns`, `srv` and `file`"),
    ("clusters: { a: { dns: \"a:1\", srv: b } }", "1:16", "has `dns` and `srv`, which exclude each other"),
    ("clusters: { a: { srv: \"_http._tcp.a:80\" } }", "1:23", "is not a name with SRV records"),
    ("clusters: { a: { srv: \"a..b\" } }", "1:23", "is not a name with SRV records"),
    ("clusters: { a: { endpoints: [{ address: \"a:1\", weight: 0 }] } }", "1:56", "is not a whole number"),
    ("clusters: { a: { endpoints: [{ address: \"a:1\", priority: 500 }] } }", "1:58", "write one from 0 to 127"),
    ("clusters: { a: { endpoints: [{ address: \"a:1\", zone: x }] } }", "1:48", "unknown key `zone`"),
    ("clusters: { a: { dns: \"a:1\", balance: maglew } }", "1:39", "did you mean `maglev`?"),
    ("clusters: { a: { dns: \"a:1\", hash_on: source } }", "1:39", "needs a balance that hashes"),
    ("clusters: { a: { dns: \"a:1\", balance: ring_hash, hash_on: cookie } }", "1:59", "is not allowed here"),
    (
      "clusters: { a: { dns: \"a:1\", balance: ring_hash, hash_on: { cookie: a, header: b } } }", "1:59",
      "names 2 keys"
    ),
    ("clusters: { a: { dns: \"a:1\", balance: ring_hash, hash_on: {} } }", "1:59", "names nothing"),
    (
      "clusters: { a: { dns: \"a:1\", balance: ring_hash, hash_on: { cookie: \"a=b\" } } }", "1:69",
      "is not a name"
    ),
    ("clusters: { a: { dns: \"a:1\", balance: maglev, slow_start: 3s } }", "1:59", "has no effect"),
    ("clusters: { a: { dns: \"a:1\", locality: \"\" } }", "1:40", "is empty"),
    ("resolvers: [dns.test]", "1:13", "is not the address of a server"),
    ("resolvers: [\"127.0.0.1:0\"]", "1:13", "is not the address of a server"),
  ])
  func refusals(text: String, place: String, message: String) {
    let rendered = Workspace.problems(text)
    #expect(rendered.contains(message) && rendered.contains("outrider.yaml:\(place): error: "), "\(rendered)")
    #expect(rendered.split(separator: "\n").count { $0.contains(": error: ") } == 1, "\(rendered)")
  }
}

@Suite struct EndpointFileTests {
  func decode(_ text: String) -> Result<[EndpointConfiguration], EndpointFileProblem> {
    EndpointFile.decode(Array(text.utf8), path: "/e/shop.yaml")
  }

  @Test func listsAndMaps() throws {
    let wanted = [
      EndpointConfiguration(address: .tcp(host: "10.0.0.1", port: 80)),
      EndpointConfiguration(address: .tcp(host: "b", port: 81), weight: 3, locality: "zone-a", priority: 2),
    ]
    for text in [
      "- 10.0.0.1:80\n- { address: \"b:81\", weight: 3, locality: zone-a, priority: 2 }\n",
      "endpoints:\n- 10.0.0.1:80\n- address: b:81\n  weight: 3\n  locality: zone-a\n  priority: 2\n",
      "{\"endpoints\": [\"10.0.0.1:80\", {\"address\": \"b:81\", \"weight\": 3, \"locality\": \"zone-a\", \"priority\": 2}]}",
    ] {
      #expect(try decode(text).get() == wanted)
    }
    #expect(try decode("[]").get() == [])
  }

  @Test(arguments: [
    ("", "1:1", "the file is empty"),
    ("a: b\n", "1:1", "unknown key `a`"),
    ("endpoints:\n- 10.0.0.1\n", "2:3", "is not an address"),
    ("- 10.0.0.1:80\n- :80\n", "2:3", "needs a host and a port"),
    ("- { address: \"a:1\", weight: 5000 }\n", "1:29", "write one from 1 to 1000"),
    ("- \"${HOME}:80\"\n", "1:4", "HOME"),
    ("just a text\n", "1:1", "is a map"),
    ("- [a\n", "2:1", "invalid YAML"),
    ("- a:1\n--- \n- b:1\n", "2:1", "a second document"),
  ])
  func refusals(text: String, place: String, message: String) {
    guard case .failure(let problem) = decode(text) else {
      Issue.record("\(text) was accepted")
      return
    }
    #expect(
      problem.description.contains(message) && problem.description.contains("/e/shop.yaml:\(place): error: "),
      "\(problem)")
  }

  @Test func boundedInNumber() {
    let text = (0...EndpointFile.maxEndpoints).map { "- 10.\($0 >> 16).\($0 >> 8 & 255).\($0 & 255):80\n" }.joined()
    guard case .failure(let problem) = decode(text) else {
      Issue.record("accepted")
      return
    }
    #expect(problem.description.contains("name at most 10000"))
  }
}
