package import Vocabulary

/// What a listener or a route checks before a request goes on. A route's is checked after its listener's: both must allow.
package struct SecurityConfiguration: Sendable, Equatable {
  /// Every one of them must have room.
  package var rates: [RateLimitConfiguration] = []
  package var rules: RBACConfiguration? = nil
  package var jwt: JWTConfiguration? = nil
  package var external: ExternalAuthorizationConfiguration? = nil
  package var fault: FaultConfiguration? = nil
  package init() {}

  /// Request fields that hold tokens, lower case: no record may hold them.
  package var tokenFields: [String] {
    (jwt?.places ?? []).compactMap { if case .header(let name) = $0 { name.lowercased() } else { nil } }
  }

  package var isEmpty: Bool { self == SecurityConfiguration() }

  /// What only HTTP allows is asked for: octets that are passed unread cannot be judged.
  package var needsHTTP: Bool {
    if jwt != nil || external != nil || fault != nil { return true }
    if rates.contains(where: { $0.key.needsHTTP }) { return true }
    return rules.map { $0.deny.contains(where: \.needsHTTP) || ($0.allow ?? []).contains(where: \.needsHTTP) } ?? false
  }
}

/// At most `requests` in each `period`, `burst` of them at once.
package struct RateLimitConfiguration: Sendable, Equatable {
  package enum Key: Sendable, Equatable {
    /// One bucket for all.
    case all
    /// One for each client address; IPv6 clients by their /64.
    case source
    /// One for each value of a field; those without it share one.
    case header(String)
    /// One for each normal path, without the query.
    case path

    package var needsHTTP: Bool {
      switch self {
      case .all, .source: false
      case .header, .path: true
      }
    }
  }
  package var requests: Int
  package var period: Duration
  package var burst: Int
  package var key: Key
  package init(requests: Int, period: Duration, burst: Int, key: Key = .all) {
    self.requests = requests
    self.period = period
    self.burst = burst
    self.key = key
  }
}

/// Who may do what. A matching rule of `deny` wins.
package struct RBACConfiguration: Sendable, Equatable {
  /// Not nil: what none of them matches is denied.
  package var allow: [Rule]? = nil
  package var deny: [Rule] = []
  package init() {}

  /// All that it says must hold; of each list one entry.
  package struct Rule: Sendable, Equatable {
    package enum Path: Sendable, Equatable {
      case exact(String)
      /// `/api/*` is stored as `/api/`; it also matches `/api`.
      case prefix(String)
    }
    package struct Claim: Sendable, Equatable {
      package var name: String
      package var values: [String]
      package init(_ name: String, _ values: [String]) {
        self.name = name
        self.values = values
      }
    }
    package var principals: [PrincipalPattern] = []
    package var sources: [AddressRange] = []
    package var paths: [Path] = []
    package var methods: [String] = []
    /// Values by name; `*` stands for any value.
    package var headers: [HeaderEdits.Field] = []
    package var claims: [Claim] = []
    package init() {}

    package var isEmpty: Bool { self == Rule() }
    package var needsHTTP: Bool { !paths.isEmpty || !methods.isEmpty || !headers.isEmpty || !claims.isEmpty }
  }
}

/// A signed token (RFC 7519) that requests must carry.
package struct JWTConfiguration: Sendable, Equatable {
  package enum Keys: Sendable, Hashable {
    /// Watched.
    case file(String)
    /// Fetched again after each `refresh`; `authorities` is a PEM file, nil = the system's.
    case url(String, refresh: Duration, authorities: String? = nil)
  }
  package enum Place: Sendable, Equatable {
    /// In `Authorization` behind `Bearer `; in other fields alone or behind it.
    case header(String)
    case query(String)
    case cookie(String)
  }
  package struct ClaimHeader: Sendable, Equatable {
    package var claim: String
    package var header: String
    package init(claim: String, header: String) {
      self.claim = claim
      self.header = header
    }
  }
  package var issuer: String
  /// Empty = not looked at.
  package var audiences: [String] = []
  package var keys: Keys
  /// The first place that holds something counts.
  package var places: [Place] = [.header("authorization")]
  /// The field that held the token goes on to the upstream.
  package var forwards = false
  package var claimHeaders: [ClaimHeader] = []
  /// False: requests without a token pass, as nobody.
  package var required = true
  /// Clocks may differ by this much.
  package var leeway: Duration = .seconds(60)
  package var algorithms: Set<JWTAlgorithm> = Set(JWTAlgorithm.allCases)
  package init(issuer: String, keys: Keys) {
    self.issuer = issuer
    self.keys = keys
  }
}

/// A service that is asked about each request.
package struct ExternalAuthorizationConfiguration: Sendable, Equatable {
  /// `http://host:port`, without a path.
  package var url: String
  /// Stands before the request's own path; empty or beginning with `/`.
  package var pathPrefix = ""
  /// A PEM file; nil = the system's authorities.
  package var authorities: String? = nil
  package var timeout: Duration = .milliseconds(200)
  /// Request fields that it is told.
  package var headers: [String] = ["authorization"]
  /// Fields of its answer that go to the upstream in place of the client's.
  package var allowedHeaders: [String] = []
  /// What cannot be asked about is let through.
  package var failsOpen = false
  package init(url: String) { self.url = url }
}

/// Failures on purpose, for tests.
package struct FaultConfiguration: Sendable, Equatable {
  package struct Delay: Sendable, Equatable {
    package var duration: Duration
    /// 0...1 of requests.
    package var fraction: Double
    package init(duration: Duration, fraction: Double) {
      self.duration = duration
      self.fraction = fraction
    }
  }
  package struct Abort: Sendable, Equatable {
    package var status: Int
    /// 0...1 of requests.
    package var fraction: Double
    package init(status: Int, fraction: Double) {
      self.status = status
      self.fraction = fraction
    }
  }
  package var delay: Delay? = nil
  package var abort: Abort? = nil
  package init() {}
}
