/// The subject alternative names of a peer's certificate (RFC 5280 section 4.2.1.6), as far as identity goes.
package struct PeerNames: Sendable, Equatable {
  package var uris: [String] = []
  /// As in the certificate; may begin with `*.`.
  package var dns: [String] = []
  /// Four or sixteen bytes each.
  package var addresses: [[UInt8]] = []

  package init(uris: [String] = [], dns: [String] = [], addresses: [[UInt8]] = []) {
    self.uris = uris
    self.dns = dns
    self.addresses = addresses
  }

  /// The SPIFFE id. A certificate with several URIs is no X.509-SVID (SPIFFE X509-SVID section 2): nil.
  package var spiffeID: String? {
    guard uris.count == 1, uris[0].hasPrefix("spiffe://") else { return nil }
    return uris[0]
  }

  /// What the peer is called in records: its SPIFFE id, else its first DNS name, else its first URI; empty = nothing.
  package var identity: String { spiffeID ?? dns.first ?? uris.first ?? "" }

  /// Whether the certificate is good for a host name (RFC 9525 section 6.3): DNS names alone count, never the common
  /// name, and a wildcard stands for one whole leftmost label.
  package func covers(host: String) -> Bool {
    let host = Self.normal(host)
    return dns.contains { Self.covers($0, host) }
  }

  package func covers(address: [UInt8]) -> Bool { addresses.contains(address) }

  static func normal(_ name: some StringProtocol) -> String {
    let name = name.lowercased()
    return name.hasSuffix(".") ? String(name.dropLast()) : name
  }

  /// `host` is normal already.
  private static func covers(_ pattern: String, _ host: String) -> Bool {
    let pattern = normal(pattern)
    guard pattern.hasPrefix("*.") else { return !pattern.contains("*") && !pattern.isEmpty && pattern == host }
    let suffix = pattern.dropFirst()
    guard !suffix.dropFirst().isEmpty, !suffix.contains("*"), host.hasSuffix(suffix) else { return false }
    let label = host.dropLast(suffix.count)
    return !label.isEmpty && !label.contains(".")
  }

  /// For messages: every name, at most `limit` of them.
  package func summary(limit: Int = 6) -> String {
    let all = uris + dns.map { "dns:\($0)" } + addresses.map { "ip:\(Self.text($0))" }
    if all.isEmpty { return "no names (subjectAltName)" }
    let shown = all.prefix(limit).joined(separator: ", ")
    return all.count > limit ? "\(shown) and \(all.count - limit) more" : shown
  }

  private static func text(_ address: [UInt8]) -> String {
    if address.count == 4 { return address.map { "\($0)" }.joined(separator: ".") }
    return stride(from: 0, to: address.count - 1, by: 2).map {
      String(UInt16(address[$0]) << 8 | UInt16(address[$0 + 1]), radix: 16)
    }.joined(separator: ":")
  }
}

/// One entry of `match`.
package enum PeerPattern: Sendable, Hashable, CustomStringConvertible {
  /// A whole SPIFFE id.
  case spiffe(String)
  /// `spiffe://domain/path/*`, kept with its last slash: every id below it.
  case spiffePrefix(String)
  /// A DNS name, lower case.
  case dns(String)
  /// `dns:*.suffix`, kept as `.suffix`: every name below it, however deep.
  case dnsSuffix(String)

  /// Nil for anything that is not written as in the contract.
  package init?(_ text: String) {
    if text.hasPrefix("spiffe://") {
      let rest = text.dropFirst(9)
      guard let domain = rest.split(separator: "/", omittingEmptySubsequences: false).first, !domain.isEmpty,
        !domain.contains("*"), text.utf8.allSatisfy({ $0 > 0x20 && $0 < 0x7F })
      else { return nil }
      if text.hasSuffix("/*") {
        guard !text.dropLast().contains("*") else { return nil }
        self = .spiffePrefix(String(text.dropLast()))
      } else {
        guard !text.contains("*"), !text.hasSuffix("/") else { return nil }
        self = .spiffe(text)
      }
      return
    }
    guard text.hasPrefix("dns:") else { return nil }
    let name = PeerNames.normal(text.dropFirst(4))
    let rest = name.hasPrefix("*.") ? name.dropFirst(2) : name[...]
    guard !rest.isEmpty, !rest.hasPrefix("."), !rest.contains("*"), rest.utf8.allSatisfy(Self.isNameByte) else {
      return nil
    }
    self = name.hasPrefix("*.") ? .dnsSuffix(String(name.dropFirst())) : .dns(name)
  }

  private static func isNameByte(_ byte: UInt8) -> Bool {
    (0x61...0x7A).contains(byte) || (0x30...0x39).contains(byte) || byte == 0x2D || byte == 0x2E || byte == 0x5F
  }

  package var description: String {
    switch self {
    case .spiffe(let id): id
    case .spiffePrefix(let prefix): prefix + "*"
    case .dns(let name): "dns:\(name)"
    case .dnsSuffix(let suffix): "dns:*\(suffix)"
    }
  }

  /// `asServer`: a wildcard in a server's certificate stands for the names it covers; a client's wildcard is no
  /// identity, so it only counts literally.
  package func matches(_ names: PeerNames, asServer: Bool) -> Bool {
    switch self {
    case .spiffe(let id): return names.spiffeID == id
    case .spiffePrefix(let prefix):
      guard let id = names.spiffeID else { return false }
      return id.hasPrefix(prefix) && id.count > prefix.count
    case .dns(let name):
      return asServer ? names.covers(host: name) : names.dns.contains { PeerNames.normal($0) == name }
    case .dnsSuffix(let suffix):
      return names.dns.contains { found in
        let found = PeerNames.normal(found)
        if found.contains("*"), !asServer { return false }
        return found.hasSuffix(suffix) && found.count > suffix.count
      }
    }
  }
}

/// Chooses by the name that a client asks for (RFC 6066 section 3): exact, then the longest `*.suffix`.
package struct ServerNameTable: Sendable, Equatable {
  private var exact: [String: Int] = [:]
  /// Longest first, each beginning with a dot.
  private var suffixes: [(suffix: String, index: Int)] = []

  /// The value found is the pattern's place in `patterns`.
  package init(_ patterns: [String]) {
    for (index, pattern) in patterns.enumerated() {
      if pattern.hasPrefix("*.") {
        suffixes.append((String(pattern.dropFirst()), index))
      } else if exact[pattern] == nil {
        exact[pattern] = index
      }
    }
    suffixes.sort { $0.suffix.utf8.count > $1.suffix.utf8.count }
  }

  package static func == (left: Self, right: Self) -> Bool {
    left.exact == right.exact
      && left.suffixes.elementsEqual(right.suffixes) { $0.suffix == $1.suffix && $0.index == $1.index }
  }

  package func find(_ name: String) -> Int? {
    let name = PeerNames.normal(name)
    if let index = exact[name] { return index }
    return suffixes.first { name.hasSuffix($0.suffix) && name.utf8.count > $0.suffix.utf8.count }?.index
  }
}
