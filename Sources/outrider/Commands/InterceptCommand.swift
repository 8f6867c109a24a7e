import ArgumentParser
import ConfigurationFile
import Glibc
import Interception
import Supervisor
import Traffic
import Vocabulary

/// Lets the kernel hand connections to the transparent listeners, and takes that back.
struct InterceptCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "intercept",
    abstract: "Redirect connections to the transparent listeners with nftables (needs CAP_NET_ADMIN).",
    subcommands: [Up.self, Down.self, Show.self])

  struct Up: ParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Begin; what was there of an earlier `up` is replaced in one step.")
    @OptionGroup var options: CommonOptions
    @Option(name: .long, help: "The user id that the sidecar runs as: its connections are left alone (default: yours).")
    var uid: UInt32?
    @Option(name: .long, help: "Take only connections of this user id; may be given more than once.")
    var onlyUid: [UInt32] = []
    @Option(name: .long, help: "Port of the transparent outbound listener (default: the configuration's).")
    var port: Int?
    @Flag(name: .long, help: "Take what arrives at this machine, too.")
    var inbound = false
    @Option(
      name: .long, help: "Port of the transparent inbound listener (default: the configuration's); implies --inbound.")
    var inboundPort: Int?
    @Flag(name: .long, help: "Take nothing of what this machine sends.")
    var noOutbound = false
    @Flag(name: .long, help: "TPROXY instead of REDIRECT: the sidecar needs CAP_NET_ADMIN, too.")
    var tproxy = false
    @Option(name: .long, help: "Leave this destination port alone; may be given more than once.")
    var excludePort: [Int] = []
    @Option(name: .long, help: "Leave this address or range alone; may be given more than once.")
    var excludeCidr: [String] = []
    @Flag(name: .long, help: "Print the rules and change nothing.")
    var dryRun = false

    func validate() throws {
      for number in [port, inboundPort].compactMap({ $0 }) + excludePort where !(1...65535).contains(number) {
        throw ValidationError("\(number) is not a port: write a number from 1 to 65535")
      }
      for text in excludeCidr where AddressRange(text) == nil {
        throw ValidationError("`\(text)` is not an address or a range: write for example 10.0.0.0/8")
      }
    }

    func run() throws {
      let plan = try plan()
      if dryRun {
        print(plan.ruleset, terminator: "")
        for family in ["ip", "ip -6"] where !plan.routing.isEmpty {
          print("# \(family) -batch -\n\(plan.routing)", terminator: "")
        }
        return
      }
      try InterceptionDriver.remove()
      try InterceptionDriver.apply(plan)
      let parts = [plan.outboundPort.map { "outbound to :\($0)" }, plan.inboundPort.map { "inbound to :\($0)" }]
      let users = plan.excludedUsers.map { "\($0)" }.joined(separator: ", ")
      switch options.output {
      case .json: print("{\"up\":true,\"method\":\"\(plan.method.rawValue)\"}")
      case .text:
        print(
          "intercepting \(parts.compactMap { $0 }.joined(separator: ", ")) (\(plan.method.rawValue)); left alone: uid \(users)"
        )
      }
    }

    private func plan() throws -> InterceptionPlan {
      var plan = InterceptionPlan()
      plan.method = tproxy ? .tproxy : .redirect
      plan.excludedUsers = [uid ?? geteuid()]
      plan.users = onlyUid
      plan.excludedPorts = excludePort
      plan.excludedRanges = excludeCidr.compactMap { AddressRange($0) }
      if !noOutbound { plan.outboundPort = try port ?? configured(\.outbound, "outbound", "--port") }
      if inbound || inboundPort != nil {
        plan.inboundPort = try inboundPort ?? configured(\.inbound, "inbound", "--inbound-port")
      }
      guard plan.outboundPort != nil || plan.inboundPort != nil else {
        throw ValidationError("nothing to intercept: leave out --no-outbound, or add --inbound")
      }
      return plan
    }

    /// The port of the first transparent listener of that direction.
    private func configured(
      _ listeners: KeyPath<TrafficConfiguration, [ListenerConfiguration]>, _ direction: String, _ option: String
    ) throws -> Int {
      let transparent = try options.load().value.traffic[keyPath: listeners].filter(\.isTransparent)
      for case .tcp(_, let port) in transparent.flatMap(\.listen) where port > 0 { return port }
      throw ValidationError(
        "no \(direction) listener is transparent: add `\(direction): { all: { listen: \":15001\", transparent: true } }` "
          + "to the configuration, or give \(option)")
    }
  }

  struct Down: ParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "End; removes everything that `up` made, if there is any.")

    func run() throws { try InterceptionDriver.remove() }
  }

  struct Show: ParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Print the rules that are in force; exit 1 when there are none.")
    @OptionGroup var options: CommonOptions

    func run() throws {
      guard let text = try InterceptionDriver.show(json: options.output == .json) else {
        StandardError.write("nothing is intercepted: `outrider intercept up` begins")
        throw ExitCode(1)
      }
      print(text, terminator: "")
    }
  }
}
