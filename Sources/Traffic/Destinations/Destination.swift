package import Vocabulary

/// A host and a port that a request or a connection names itself.
package struct Destination: Sendable, Hashable, CustomStringConvertible {
  /// Lower case, without brackets and without a last dot.
  package let host: String
  package let port: Int

  package init(host: String, port: Int) {
    self.host = host
    self.port = port
  }

  /// `host`, `host:port` or `[v6]:port` (RFC 3986 section 3.2); without a port it is `defaultPort`, nil when that is nil.
  package init?(authority: some Collection<UInt8>, defaultPort: Int?) {
    guard authority.count <= 300 else { return nil }
    let text = String(decoding: authority, as: UTF8.self)
    var name = Substring(text)
    var digits: Substring?
    if text.hasPrefix("[") {
      guard let close = text.firstIndex(of: "]") else { return nil }
      name = text[text.index(after: text.startIndex)..<close]
      guard let address = IPAddress(String(name)), !address.isV4 || name.contains(":") else { return nil }
      let tail = text[text.index(after: close)...]
      if !tail.isEmpty {
        guard tail.hasPrefix(":") else { return nil }
        digits = tail.dropFirst()
      }
    } else if let colon = text.lastIndex(of: ":") {
      name = text[..<colon]
      digits = text[text.index(after: colon)...]
    }
    guard let port = digits.map(Self.port) ?? defaultPort, let host = Self.host(name, isBracketed: text.hasPrefix("["))
    else { return nil }
    self.init(host: host, port: port)
  }

  private static func port(_ digits: Substring) -> Int? {
    guard (1...5).contains(digits.utf8.count), digits.utf8.allSatisfy({ (48...57).contains($0) }),
      let port = Int(digits), (1...65535).contains(port)
    else { return nil }
    return port
  }

  private static func host(_ text: Substring, isBracketed: Bool) -> String? {
    if isBracketed { return IPAddress(String(text))?.description }
    var name = text.lowercased()
    if name.hasSuffix(".") { name.removeLast() }
    guard (1...253).contains(name.utf8.count), !name.hasPrefix("."), !name.hasPrefix("-"),
      name.utf8.allSatisfy({ byte in
        (0x30...0x39).contains(byte) || (0x61...0x7A).contains(byte) || byte == 0x2D || byte == 0x2E || byte == 0x5F
      })
    else { return nil }
    return name
  }

  package var description: String { host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)" }
}

/// Which destinations a forward proxy leads to. What is not allowed is refused before anything is resolved or connected.
package struct DestinationPolicy: Sendable, Equatable {
  package enum Host: Sendable, Equatable {
    case name(String)
    /// `*.example.com` as `.example.com`.
    case suffix(String)
    case range(AddressRange)

    /// `api.example.com`, `*.example.com`, `10.0.0.0/8` or an address; nil for anything else.
    package init?(_ text: String) {
      if let range = AddressRange(text) {
        self = .range(range)
      } else if text.hasPrefix("*.") {
        guard let inner = Destination(authority: text.dropFirst(2).utf8, defaultPort: 1), !text.contains(":") else {
          return nil
        }
        self = .suffix("." + inner.host)
      } else {
        guard let inner = Destination(authority: text.utf8, defaultPort: 1), !text.contains(":") else { return nil }
        self = .name(inner.host)
      }
    }
  }
  /// Empty = every host.
  package var hosts: [Host] = []
  /// Empty = every port.
  package var ports: [Int] = []
  package init() {}

  /// Why it is refused; nil = allowed by its name, or to be judged again by its address.
  package func refusal(_ destination: Destination) -> String? {
    if !ports.isEmpty, !ports.contains(destination.port) {
      return "port \(destination.port) is not among the `ports` of this forward proxy"
    }
    return hosts.isEmpty || hosts.contains { Self.allows($0, destination.host) }
      ? nil : "the host is not among the `hosts` of this forward proxy"
  }

  private static func allows(_ host: Host, _ name: String) -> Bool {
    switch host {
    case .name(let text): text == name
    case .suffix(let text): name.hasSuffix(text) && name.utf8.count > text.utf8.count
    case .range(let range): IPAddress(name).map(range.contains) ?? false
    }
  }
}

/// What no connection that names its own destination may reach: this sidecar itself, and this machine from outside.
package struct SelfProtection: Sendable, Equatable {
  /// Ports that the sidecar's listeners and its admin API have.
  package var ports: Set<Int>
  package init(ports: Set<Int>) { self.ports = ports }

  /// Why it is refused. `client` is nil for clients of this machine that have no address; `isOwn` tells the machine's
  /// own addresses, and is asked only about ports that the sidecar has.
  package func refusal(
    _ address: IPAddress, port: Int, client: IPAddress?, isOwn: (IPAddress) -> Bool
  ) -> String? {
    let isHere = address.isLoopback || address.isUnspecified
    if ports.contains(port), isHere || isOwn(address) {
      return "\(address) port \(port) is this sidecar itself: it would lead in a circle, or to its admin API"
    }
    if isHere, let client, !client.isLoopback {
      return "\(address) is this machine's own, and the client is not of this machine"
    }
    return nil
  }
}
