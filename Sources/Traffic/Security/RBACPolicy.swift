package import Vocabulary

/// What rules are asked about. Texts point into the received head.
package struct SecuritySubject {
  /// Names of the client's certificate, which was verified; nil = it showed none.
  package var names: PeerNames?
  /// The client's address, after a PROXY header; nil = it has none. Never what `X-Forwarded-For` says.
  package var source: IPAddress?
  package var method: UnsafeRawBufferPointer
  package var path: NormalPath
  /// The claims of a token that was verified; nil = there is none.
  package var claims: JSONNode?

  package init(
    names: PeerNames?, source: IPAddress?, method: UnsafeRawBufferPointer, path: NormalPath, claims: JSONNode?
  ) {
    self.names = names
    self.source = source
    self.method = method
    self.path = path
    self.claims = claims
  }
}

/// Role-based access control, compiled. A matching rule of `deny` wins; when `allow` is there, what none of its rules
/// matches is denied.
package struct RBACPolicy: Sendable {
  package enum Verdict: Sendable, Equatable {
    case allowed
    /// Why, without the rule's content.
    case denied(String)
  }
  /// Gives every value of the fields of a lower-case name.
  package typealias Fields = (_ name: UnsafeRawBufferPointer) -> [UnsafeRawBufferPointer]

  private struct Rule: Sendable {
    var rule: RBACConfiguration.Rule
    var paths: [(isPrefix: Bool, octets: [UInt8])]
    var methods: [[UInt8]]
    /// Lower-case names; a nil value stands for any.
    var headers: [(name: [UInt8], value: [UInt8]?)]
  }

  private let allow: [Rule]?
  private let deny: [Rule]
  /// Some rule looks at paths: ambiguous ones are denied.
  package let looksAtPaths: Bool
  /// Some rule looks at what only a request has.
  package let needsHTTP: Bool
  /// Some rule looks at a token's claims.
  package let looksAtClaims: Bool

  package init(_ configuration: RBACConfiguration) {
    allow = configuration.allow?.map(Self.compile)
    deny = configuration.deny.map(Self.compile)
    let all = configuration.deny + (configuration.allow ?? [])
    looksAtPaths = all.contains { !$0.paths.isEmpty }
    needsHTTP = all.contains(where: \.needsHTTP)
    looksAtClaims = all.contains { !$0.claims.isEmpty }
  }

  private static func compile(_ rule: RBACConfiguration.Rule) -> Rule {
    Rule(
      rule: rule,
      paths: rule.paths.map { path in
        switch path {
        case .exact(let text): (false, Array(text.utf8))
        case .prefix(let text): (true, Array(text.utf8))
        }
      },
      methods: rule.methods.map { Array($0.utf8) },
      headers: rule.headers.map { (Array($0.name.lowercased().utf8), $0.value == "*" ? nil : Array($0.value.utf8)) })
  }

  /// Judges the connection alone, by whose it is and where it comes from; nil = that does not decide.
  package func decide(names: PeerNames?, source: IPAddress?) -> Verdict? {
    if deny.contains(where: { !$0.rule.needsHTTP && Self.isOf($0.rule, names, source) }) { return Self.denied }
    if let allow, !allow.contains(where: { Self.isOf($0.rule, names, source) }) { return Self.notAllowed }
    return needsHTTP ? nil : .allowed
  }

  /// Judges a whole request.
  package func decide(_ subject: SecuritySubject, fields: Fields) -> Verdict {
    if looksAtPaths, subject.path.isAmbiguous {
      return .denied("the path can be read in more than one way, so that no rule about paths holds for it")
    }
    if deny.contains(where: { Self.matches($0, subject, fields, strictly: false) }) { return Self.denied }
    guard let allow else { return .allowed }
    return allow.contains { Self.matches($0, subject, fields, strictly: true) } ? .allowed : Self.notAllowed
  }

  private static let denied = Verdict.denied("a rule of `deny` matches")
  private static let notAllowed = Verdict.denied("no rule of `allow` matches")

  private static func isOf(_ rule: RBACConfiguration.Rule, _ names: PeerNames?, _ source: IPAddress?) -> Bool {
    if !rule.principals.isEmpty {
      guard let names, rule.principals.contains(where: { $0.matches(names) }) else { return false }
    }
    if !rule.sources.isEmpty {
      guard let source, rule.sources.contains(where: { $0.contains(source) }) else { return false }
    }
    return true
  }

  /// `strictly`: every field of a name must have the value, not one of them, so that a second field opens nothing.
  private static func matches(_ rule: Rule, _ subject: SecuritySubject, _ fields: Fields, strictly: Bool) -> Bool {
    guard isOf(rule.rule, subject.names, subject.source) else { return false }
    if !rule.methods.isEmpty, !rule.methods.contains(where: { subject.method.elementsEqual($0) }) { return false }
    if !rule.paths.isEmpty, !rule.paths.contains(where: { isUnder($0, subject.path.octets) }) { return false }
    for header in rule.headers {
      let values = header.name.withUnsafeBytes { fields($0) }
      guard !values.isEmpty else { return false }
      guard let wanted = header.value else { continue }
      let isSame = { (value: UnsafeRawBufferPointer) in value.elementsEqual(wanted) }
      guard strictly ? values.allSatisfy(isSame) : values.contains(where: isSame) else { return false }
    }
    return rule.rule.claims.allSatisfy { claim in
      guard let found = subject.claims.flatMap({ JWTClaims.find(claim.name, in: $0) }) else { return false }
      return JWTClaims.texts(found, of: claim.name).contains { claim.values.contains($0) }
    }
  }

  private static func isUnder(_ pattern: (isPrefix: Bool, octets: [UInt8]), _ path: [UInt8]) -> Bool {
    guard pattern.isPrefix else { return path == pattern.octets }
    return path.starts(with: pattern.octets)
      || path.count + 1 == pattern.octets.count && pattern.octets.starts(with: path)
  }
}
