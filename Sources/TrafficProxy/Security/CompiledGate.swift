import Synchronization
import Telemetry
import Traffic

/// What a listener or a route checks, made ready. Nil where nothing is checked, which costs one branch a request.
final class CompiledGate: Sendable {
  /// What one filter decided, over all loops.
  struct Results: Sendable {
    var allowed: Counter
    var denied: Counter
    /// It could not decide.
    var failed: Counter
  }

  /// A route's, asked after its listener's.
  let isOfRoute: Bool
  let rates: [RateLimitConfiguration]
  let limiter: SharedLimiter?
  let rules: RBACPolicy?
  let jwt: TokenGate?
  let external: ExternalAuthorizationConfiguration?
  let externalTrust: OutsideTrust
  let fault: FaultPolicy?
  /// What passes unread cannot be judged, and is refused.
  let needsHTTP: Bool
  /// Something looks at the path's normal form.
  let needsPath: Bool
  /// Tokens stand in the query, which records leave out.
  let hidesQuery: Bool
  let rulesResults: Results
  let jwtResults: Results
  let externalResults: Results
  let limited: Counter
  let delayed: Counter
  let aborted: Counter

  /// The counters of filters that are not there stay unregistered.
  init(
    _ configuration: SecurityConfiguration, isOfRoute: Bool, limiter: SharedLimiter?, jwt: TokenGate?,
    results: (String, Bool) -> Results, limited: Counter, delayed: Counter, aborted: Counter
  ) {
    self.isOfRoute = isOfRoute
    rates = configuration.rates
    self.limiter = limiter
    rules = configuration.rules.map(RBACPolicy.init)
    self.jwt = jwt
    external = configuration.external
    externalTrust = OutsideTrust(configuration.external?.authorities)
    fault = configuration.fault.map(FaultPolicy.init)
    needsHTTP = configuration.needsHTTP
    needsPath = rules?.looksAtPaths ?? false || configuration.rates.contains { $0.key == .path }
    hidesQuery = configuration.jwt?.places.contains { if case .query = $0 { true } else { false } } ?? false
    rulesResults = results("rbac", rules != nil)
    jwtResults = results("jwt", jwt != nil)
    externalResults = results("external", external != nil)
    self.limited = limited
    self.delayed = delayed
    self.aborted = aborted
  }
}

/// The buckets of one listener or route, the same for all loops.
final class SharedLimiter: Sendable {
  let configuration: [RateLimitConfiguration]
  private let machine: Mutex<RateLimiter>

  init(_ configuration: [RateLimitConfiguration]) {
    self.configuration = configuration
    machine = Mutex(RateLimiter(configuration))
  }

  /// As `RateLimiter.take`.
  func take(_ keys: [RateKey], now: UInt64) -> UInt64 { machine.withLock { $0.take(keys, now: now) } }
}

/// How tokens are verified, and with which keys.
final class TokenGate: Sendable {
  /// Tells this one from those of earlier configurations in the loops' memory of verified tokens.
  let number: Int
  let verifier: JWTVerifier
  let source: KeySource

  init(number: Int, verifier: JWTVerifier, source: KeySource) {
    self.number = number
    self.verifier = verifier
    self.source = source
  }
}

extension SecurityConfiguration {
  /// Request fields that only the checks may set, and those that held a token which is not to go on: a client's own are
  /// dropped from every request, lower case. Many servers read `_` in a name as `-`, so those spellings go as well.
  var droppedFields: [String] {
    var names = (jwt?.claimHeaders.map(\.header) ?? []) + (external?.allowedHeaders ?? [])
    if let jwt, !jwt.forwards { names += tokenFields }
    return names.flatMap { Self.spellings($0.lowercased()) }
  }

  /// A name with each of its dashes as it is or as `_`; with many dashes, all of them alike.
  private static func spellings(_ name: String) -> [String] {
    let parts = name.split(separator: "-", omittingEmptySubsequences: false).map(String.init)
    if parts.count > 5 { return [name, parts.joined(separator: "_")] }
    return parts.dropFirst().reduce([parts[0]]) { found, part in found.flatMap { ["\($0)-\(part)", "\($0)_\(part)"] } }
  }
}
