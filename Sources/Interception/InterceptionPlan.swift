package import Vocabulary

/// Which connections the kernel hands to the sidecar, and how: the text for `nft -f -` and for `ip -batch -`.
/// Everything stands in one table, `inet outrider`; TPROXY needs two routing rules besides.
package struct InterceptionPlan: Sendable, Equatable {
  package enum Method: String, Sendable, CaseIterable {
    /// The destination is rewritten; the listener asks conntrack for the original one.
    case redirect
    /// The packet is delivered as it is; the listener's socket must be transparent, which needs CAP_NET_ADMIN.
    case tproxy
  }

  package static let table = "inet outrider"
  /// Marks what is routed to the listener.
  package static let mark: UInt32 = 0x4F52
  package static let routingTable = 20306

  package var method = Method.redirect
  /// The transparent outbound listener; nil = what this machine sends is left alone.
  package var outboundPort: Int?
  /// The transparent inbound listener; nil = what this machine receives is left alone.
  package var inboundPort: Int?
  /// Whose connections are left alone: the sidecar's own user.
  package var excludedUsers: [UInt32] = []
  /// Only these users' connections are taken; empty = everybody's.
  package var users: [UInt32] = []
  package var excludedPorts: [Int] = []
  /// Destinations left alone besides loopback.
  package var excludedRanges: [AddressRange] = []

  package init() {}

  /// Replaces whatever was there in one transaction.
  package var ruleset: String {
    var chains: [String] = []
    if let port = outboundPort { chains.append(method == .redirect ? redirectOutput(port) : markOutput()) }
    switch method {
    case .redirect: if let port = inboundPort { chains.append(redirectInput(port)) }
    case .tproxy: chains.append(deliver())
    }
    let sets = [set("untouched4", "ipv4_addr", ranges4), set("untouched6", "ipv6_addr", ranges6)]
    return Self.removal + "table \(Self.table) {\n" + (sets + chains).joined(separator: "\n") + "}\n"
  }

  /// Removes the table, whether it is there or not.
  package static let removal = "table \(table)\ndelete table \(table)\n"

  // MARK: Parts

  private var ranges4: [String] {
    ["127.0.0.0/8"] + excludedRanges.filter(\.isV4).map(\.description)
  }

  private var ranges6: [String] { ["::1"] + excludedRanges.filter { !$0.isV4 }.map(\.description) }

  private func set(_ name: String, _ type: String, _ elements: [String]) -> String {
    "\tset \(name) {\n\t\ttype \(type)\n\t\tflags interval\n\t\tauto-merge\n"
      + "\t\telements = { \(elements.joined(separator: ", ")) }\n\t}\n"
  }

  private func chain(_ name: String, _ hook: String, _ rules: [String]) -> String {
    "\tchain \(name) {\n\t\ttype \(hook); policy accept;\n" + rules.map { "\t\t\($0)\n" }.joined() + "\t}\n"
  }

  private static func list(_ numbers: [some BinaryInteger]) -> String {
    "{ \(numbers.map { "\($0)" }.joined(separator: ", ")) }"
  }

  /// What is left alone of what this machine sends.
  private var outputExclusions: [String] {
    var rules = ["meta l4proto != tcp return"]
    if !excludedUsers.isEmpty { rules.append("meta skuid \(Self.list(excludedUsers)) return") }
    if !users.isEmpty { rules.append("meta skuid != \(Self.list(users)) return") }
    rules += ["ip daddr @untouched4 return", "ip6 daddr @untouched6 return"]
    if !excludedPorts.isEmpty { rules.append("tcp dport \(Self.list(excludedPorts)) return") }
    return rules
  }

  /// What is left alone of what this machine receives.
  private var inputExclusions: [String] {
    var rules = ["iifname \"lo\" return", "fib daddr type != local return"]
    if !excludedPorts.isEmpty { rules.append("tcp dport \(Self.list(excludedPorts)) return") }
    let four = excludedRanges.filter(\.isV4)
    let six = excludedRanges.filter { !$0.isV4 }
    if !four.isEmpty { rules.append("ip saddr { \(four.map(\.description).joined(separator: ", ")) } return") }
    if !six.isEmpty { rules.append("ip6 saddr { \(six.map(\.description).joined(separator: ", ")) } return") }
    return rules
  }

  private func redirectOutput(_ port: Int) -> String {
    chain("output", "nat hook output priority -100", outputExclusions + ["meta l4proto tcp redirect to :\(port)"])
  }

  private func redirectInput(_ port: Int) -> String {
    chain(
      "input", "nat hook prerouting priority -100",
      ["meta l4proto != tcp return"] + inputExclusions + ["meta l4proto tcp redirect to :\(port)"])
  }

  /// A mark on what is sent makes the kernel route it to loopback, where `deliver` takes it. Replies are left alone.
  private func markOutput() -> String {
    chain(
      "output", "route hook output priority mangle",
      ["ct direction reply return"] + outputExclusions + ["meta mark set \(Self.hex(Self.mark))"])
  }

  private func deliver() -> String {
    var rules = ["meta l4proto != tcp return"]
    if let port = outboundPort {
      rules.append("iifname \"lo\" meta mark \(Self.hex(Self.mark)) meta l4proto tcp tproxy to :\(port) accept")
    }
    if let port = inboundPort {
      rules += inputExclusions + ["ct direction reply return"]
      rules.append("meta l4proto tcp tproxy to :\(port) meta mark set \(Self.hex(Self.mark)) accept")
    }
    return chain("deliver", "filter hook prerouting priority mangle", rules)
  }

  private static func hex(_ number: UInt32) -> String { "0x" + String(number, radix: 16) }

  // MARK: Routing

  /// For `ip -batch -` and `ip -6 -batch -`; empty when nothing is needed.
  package var routing: String {
    method == .redirect
      ? ""
      : "rule add fwmark \(Self.hex(Self.mark)) lookup \(Self.routingTable)\n"
        + "route add local default dev lo table \(Self.routingTable)\n"
  }

  /// For `ip -force -batch -`; lines fail when there is nothing to remove.
  package static let routingRemoval =
    "rule del fwmark \(hex(mark)) lookup \(routingTable)\nroute flush table \(routingTable)\n"
}
