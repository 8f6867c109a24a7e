/// Whom a rule is about: the name of a certificate that was verified.
package enum PrincipalPattern: Sendable, Hashable, CustomStringConvertible {
  /// Anybody who showed a certificate with a name.
  case anybody
  case peer(PeerPattern)
  /// `spiffe://domain/ns/*/sa/*`: a `*` stands for one whole segment, the last one for one or more.
  case segments([String])

  /// Nil for anything that is not written as in the contract.
  package init?(_ text: String) {
    if text == "*" {
      self = .anybody
    } else if let pattern = PeerPattern(text) {
      self = .peer(pattern)
    } else {
      let scheme = "spiffe://"
      guard text.hasPrefix(scheme), text.utf8.allSatisfy({ $0 > 0x20 && $0 < 0x7F }) else { return nil }
      let segments = text.dropFirst(scheme.count).split(separator: "/", omittingEmptySubsequences: false).map(
        String.init)
      guard let domain = segments.first, !domain.isEmpty, !domain.contains("*"),
        segments.dropFirst().allSatisfy({ !$0.isEmpty && ($0 == "*" || !$0.contains("*")) })
      else { return nil }
      self = .segments(segments)
    }
  }

  package var description: String {
    switch self {
    case .anybody: "*"
    case .peer(let pattern): pattern.description
    case .segments(let segments): "spiffe://" + segments.joined(separator: "/")
    }
  }

  package func matches(_ names: PeerNames) -> Bool {
    switch self {
    case .anybody: return !names.identity.isEmpty
    case .peer(let pattern): return pattern.matches(names, asServer: false)
    case .segments(let segments):
      guard let id = names.spiffeID else { return false }
      let found = id.dropFirst("spiffe://".count).split(separator: "/", omittingEmptySubsequences: false)
      let isOpen = segments.last == "*"
      guard isOpen ? found.count >= segments.count : found.count == segments.count else { return false }
      return zip(segments, found).allSatisfy { wanted, segment in
        wanted == "*" ? !segment.isEmpty : wanted == segment
      }
    }
  }
}
