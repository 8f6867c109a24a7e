import Testing
import Vocabulary

@testable import Interception

/// The whole text, written out: what the kernel is told is what matters.
@Suite struct InterceptionPlanTests {
  @Test func redirectOfWhatIsSent() {
    var plan = InterceptionPlan()
    plan.outboundPort = 15001
    plan.excludedUsers = [1337]
    #expect(
      plan.ruleset == """
        table inet outrider
        delete table inet outrider
        table inet outrider {
        \tset untouched4 {
        \t\ttype ipv4_addr
        \t\tflags interval
        \t\tauto-merge
        \t\telements = { 127.0.0.0/8 }
        \t}

        \tset untouched6 {
        \t\ttype ipv6_addr
        \t\tflags interval
        \t\tauto-merge
        \t\telements = { ::1 }
        \t}

        \tchain output {
        \t\ttype nat hook output priority -100; policy accept;
        \t\tmeta l4proto != tcp return
        \t\tmeta skuid { 1337 } return
        \t\tip daddr @untouched4 return
        \t\tip6 daddr @untouched6 return
        \t\tmeta l4proto tcp redirect to :15001
        \t}
        }

        """)
    #expect(plan.routing == "")
  }

  static let rows: [(String, @Sendable (inout InterceptionPlan) -> Void, has: [String], hasNot: [String])] = [
    (
      "inbound", { $0.inboundPort = 15006 },
      [
        "type nat hook prerouting priority -100;", "iifname \"lo\" return", "fib daddr type != local return",
        "meta l4proto tcp redirect to :15006",
      ], ["skuid", "hook output"]
    ),
    (
      "both",
      {
        $0.outboundPort = 1
        $0.inboundPort = 2
      }, ["redirect to :1\n", "redirect to :2\n"], ["tproxy", "skuid"]
    ),
    (
      "only some users",
      {
        $0.outboundPort = 1
        $0.users = [1000, 1001]
      }, ["meta skuid != { 1000, 1001 } return"], []
    ),
    (
      "exclusions",
      {
        $0.outboundPort = 1
        $0.inboundPort = 2
        $0.excludedUsers = [0, 1337]
        $0.excludedPorts = [22, 6443]
        $0.excludedRanges = [AddressRange("10.0.0.0/8")!, AddressRange("fd00::/8")!, AddressRange("192.0.2.1")!]
      },
      [
        "meta skuid { 0, 1337 } return", "tcp dport { 22, 6443 } return",
        "elements = { 127.0.0.0/8, 10.0.0.0/8, 192.0.2.1 }", "elements = { ::1, fd00::/8 }",
        "ip saddr { 10.0.0.0/8, 192.0.2.1 } return", "ip6 saddr { fd00::/8 } return",
      ], []
    ),
    (
      "tproxy out",
      {
        $0.method = .tproxy
        $0.outboundPort = 15001
        $0.excludedUsers = [7]
      },
      [
        "type route hook output priority mangle;", "ct direction reply return", "meta skuid { 7 } return",
        "meta mark set 0x4f52", "iifname \"lo\" meta mark 0x4f52 meta l4proto tcp tproxy to :15001 accept",
      ],
      ["redirect", "fib daddr"]
    ),
    (
      "tproxy in",
      {
        $0.method = .tproxy
        $0.inboundPort = 15006
      },
      ["fib daddr type != local return", "meta l4proto tcp tproxy to :15006 meta mark set 0x4f52 accept"],
      ["redirect", "hook output"]
    ),
  ]

  @Test(arguments: 0..<rows.count)
  func plans(row: Int) {
    let (name, edit, has, hasNot) = Self.rows[row]
    var plan = InterceptionPlan()
    edit(&plan)
    let text = plan.ruleset
    for part in has { #expect(text.contains(part), "\(name): \(part)\n\(text)") }
    for part in hasNot { #expect(!text.contains(part), "\(name): \(part)\n\(text)") }
    #expect(text.hasPrefix(InterceptionPlan.removal) && text.count { $0 == "{" } == text.count { $0 == "}" })
    let expected = "rule add fwmark 0x4f52 lookup 20306\nroute add local default dev lo table 20306\n"
    #expect(plan.routing == (plan.method == .tproxy ? expected : ""))
  }

  /// What is left alone stands before what is taken.
  @Test func exclusionsComeFirst() throws {
    var plan = InterceptionPlan()
    plan.outboundPort = 15001
    plan.excludedUsers = [1337]
    plan.excludedPorts = [5]
    for method in InterceptionPlan.Method.allCases {
      plan.method = method
      let lines = plan.ruleset.split(separator: "\n").map(String.init)
      let last = try #require(lines.firstIndex { $0.contains("redirect to") || $0.contains("mark set") })
      for part in ["skuid", "@untouched4", "@untouched6", "dport"] {
        #expect(try #require(lines.firstIndex { $0.contains(part) }) < last)
      }
    }
  }
}
