package import RegularExpressions
package import Vocabulary

/// Everything the traffic part is told: validated, defaults filled in. Names are the user's.
package struct TrafficConfiguration: Sendable, Equatable {
  package var inbound: [ListenerConfiguration] = []
  package var outbound: [ListenerConfiguration] = []
  /// Named clusters, and those that a listener's or route's `to:` URL implies.
  package var clusters: [ClusterConfiguration] = []
  /// What else the sidecar listens on: the admin API. No destination that a client names leads there.
  package var reserved: [Address] = []
  /// DNS servers, `address:port`; empty = those of the system.
  package var resolvers: [Address] = []
  package var stories = StoriesConfiguration()
  /// Nil = no spans are made.
  package var tracing: TracingConfiguration? = nil
  /// Nil = metrics are not sent anywhere.
  package var metricPush: MetricPushConfiguration? = nil
  /// Event loops; nil = one per core, at most 4.
  package var threads: Int? = nil
  package var maxHeadBytes = 64 << 10
  package var maxFields = 100
  /// Bytes buffered on one side of a connection before the other side's reading stops.
  package var watermark = 256 << 10
  /// Largest body kept for a replay.
  package var replayLimit = 64 << 10
  package init() {}
}

package enum Direction: String, Sendable { case inbound, outbound }

/// Which listener: names of inbound and of outbound listeners are separate, so that `inbound.web` and `outbound.web`
/// may stand in one file.
package struct ListenerID: Sendable, Hashable, CustomStringConvertible {
  package var direction: Direction
  package var name: String
  package init(_ direction: Direction, _ name: String) {
    self.direction = direction
    self.name = name
  }
  /// As the configuration's path has it: `inbound.web`.
  package var description: String { "\(direction.rawValue).\(name)" }
}

package struct ListenerConfiguration: Sendable, Equatable {
  package enum ListenerProtocol: String, Sendable, CaseIterable { case auto, http, tcp }
  package enum AccessLog: Sendable, Equatable {
    case off, on
    /// Fraction 0...1 of requests recorded; errors are always recorded.
    case sample(Double)
  }

  package var name: String
  package var direction: Direction
  package var listen: [Address]
  package var listenerProtocol: ListenerProtocol = .auto
  /// The PROXY header that every connection must begin with; nil = none.
  package var proxyProtocol: ProxyHeader.Version? = nil
  /// Takes connections that the kernel redirected; they go where they were going.
  package var isTransparent = false
  /// Requests that no route takes go where they say themselves, within this policy; nil = they do not.
  package var forwardProxy: DestinationPolicy? = nil
  /// First match wins; the last one matches everything unless the listener has no `to`.
  package var routes: [RouteConfiguration] = []
  /// Until the response head is complete, all tries included; zero = none.
  package var timeout: Duration = .seconds(15)
  /// A stream without progress.
  package var idleTimeout: Duration = .seconds(300)
  /// A downstream connection without a request.
  package var downstreamIdle: Duration = .seconds(3600)
  /// Until a request head is complete, from its first byte.
  package var headTimeout: Duration = .seconds(10)
  package var retries = RetryConfiguration()
  package var requestHeaders = HeaderEdits()
  package var responseHeaders = HeaderEdits()
  /// Request fields set from secrets just before sending; never logged.
  package var inject: [InjectedHeader] = []
  /// Concurrent downstream connections; nil = unlimited.
  package var maxConnections: Int? = nil
  /// nil = plaintext.
  package var tls: ListenerTLSConfiguration? = nil
  package var accessLog: AccessLog = .on
  /// What every request is checked for.
  package var security = SecurityConfiguration()
  package var accessForm = AccessForm()

  package init(name: String, direction: Direction, listen: [Address]) {
    self.name = name
    self.direction = direction
    self.listen = listen
  }

  package var id: ListenerID { ListenerID(direction, name) }
}

package struct InjectedHeader: Sendable, Equatable {
  package var name: String
  package var value: SecretTemplate
  package init(name: String, value: SecretTemplate) {
    self.name = name
    self.value = value
  }
}

package struct HeaderEdits: Sendable, Equatable {
  package struct Field: Sendable, Equatable {
    package var name: String
    package var value: String
    package init(_ name: String, _ value: String) {
      self.name = name
      self.value = value
    }
  }
  package var set: [Field] = []
  package var add: [Field] = []
  package var remove: [String] = []
  package var isEmpty: Bool { self.set.isEmpty && add.isEmpty && remove.isEmpty }
  package init() {}
}

package struct RetryConfiguration: Sendable, Equatable {
  package enum Condition: String, Sendable, CaseIterable {
    case connectFailure = "connect-failure"
    case refusedStream = "refused-stream"
    case reset
    case resetBeforeRequest = "reset-before-request"
    case gatewayError = "gateway-error"
    case serverError = "5xx"
    case retriable4xx = "retriable-4xx"
    /// The statuses of `statuses`.
    case retriableStatusCodes = "retriable-status-codes"
    /// Responses with one of `responseHeaders`.
    case retriableHeaders = "retriable-headers"
    // Of gRPC, when the response is nothing but its status.
    case cancelled
    case deadlineExceeded = "deadline-exceeded"
    case internalError = "internal"
    case resourceExhausted = "resource-exhausted"
    case unavailable
  }
  /// Tries after the first. `retries: N` gives N and, when `on` is not written, adds `gateway-error` and `reset` for idempotent methods.
  package var attempts = 1
  package var conditions: Set<Condition> = [.connectFailure, .refusedStream, .resetBeforeRequest]
  package var perTryTimeout: Duration? = nil
  package var backoffBase: Duration = .milliseconds(25)
  package var backoffCap: Duration = .milliseconds(250)
  package var statuses: [Int] = []
  /// Fields that mark a response as one to retry; a value of nil = whatever it is.
  package var responseHeaders: [MarkingField] = []
  /// A response that asks for a longer wait than this is passed on.
  package var retryAfterMax: Duration = .seconds(5)
  /// Without a response head for so long, a second try begins beside the first; nil = never.
  package var hedgeAfter: Duration? = nil

  package struct MarkingField: Sendable, Equatable {
    package var name: String
    package var value: String?
    package init(name: String, value: String?) {
      self.name = name
      self.value = value
    }
  }
  package init() {}
}

package struct RouteConfiguration: Sendable, Equatable {
  package struct Match: Sendable, Equatable {
    package enum Path: Sendable, Equatable {
      case any
      case exact(String)
      /// `/api/*` is stored as `/api/`; it also matches `/api`.
      case prefix(String)
      /// Of the whole path.
      case regex(RegularExpression)
    }
    /// Lower case, without port: `api.example.com`, `*.example.com`, nil = any.
    package var host: String? = nil
    package var path: Path = .any
    /// Upper-case methods; empty = any.
    package var methods: [String] = []
    package var headers: [NamedMatch] = []
    /// Of the query's parameters, decoded.
    package var query: [NamedMatch] = []
    /// Part of the requests that meet the rest, 0...1, which it takes by a draw.
    package var fraction = 1.0
    package init() {}
  }
  package enum Action: Sendable, Equatable {
    /// A name in `TrafficConfiguration.clusters`; `app` is the app.
    case cluster(String)
    /// By weight; one is above 0.
    case split([SplitPart])
    case redirect(to: String, code: Int)
    /// To the request's own address, parts of it changed.
    case redirectPart(RedirectEdits, code: Int)
    case respond(status: Int, body: String, headers: [HeaderEdits.Field])
  }
  package struct SplitPart: Sendable, Equatable {
    package var cluster: String
    package var weight: Int
    package init(cluster: String, weight: Int) {
      self.cluster = cluster
      self.weight = weight
    }
  }
  /// The user's name for metrics, or `default`.
  package var name = "default"
  package var match = Match()
  package var action: Action
  package var rewritePrefix: String? = nil
  package var rewriteRegex: RegexRewrite? = nil
  package var rewriteHost: String? = nil
  /// Where copies of its requests go; nil = nowhere.
  package var mirror: MirrorConfiguration? = nil
  /// nil = the listener's.
  package var timeout: Duration? = nil
  package var retries: RetryConfiguration? = nil
  package var requestHeaders = HeaderEdits()
  package var responseHeaders = HeaderEdits()
  package var inject: [InjectedHeader] = []
  /// What its requests are checked for, after what the listener checks.
  package var security = SecurityConfiguration()
  package init(action: Action) { self.action = action }
}

package struct ClusterConfiguration: Sendable, Equatable {
  package enum Balance: String, Sendable, CaseIterable {
    case leastRequest = "least_request"
    case roundRobin = "round_robin"
    case random
    case peakEWMA = "peak_ewma"
    case ringHash = "ring_hash"
    case maglev

    /// Requests of one key go to one endpoint.
    package var isByHash: Bool {
      switch self {
      case .ringHash, .maglev: true
      case .leastRequest, .roundRobin, .random, .peakEWMA: false
      }
    }
  }
  package enum Discovery: Sendable, Equatable {
    case fixed([EndpointConfiguration])
    /// Every address of the name is an endpoint; resolved again as records expire, last good kept.
    case dns(host: String, port: Int)
    /// The SRV records of the name; each target's addresses are endpoints (RFC 2782).
    case srv(String)
    /// An absolute path; the file lists endpoints and is read again when it changes.
    case file(String)
  }
  package var name: String
  package var discovery: Discovery
  package var balance: Balance = .leastRequest
  /// The key of `ring_hash` and `maglev`.
  package var hashOn: HashSource = .source
  /// The own locality: its endpoints come first within their priority; nil = all are alike.
  package var locality: String? = nil
  /// Endpoints that join or come back take their share within this time; zero = at once.
  package var slowStart: Duration = .zero
  /// What is spoken to the endpoints; `auto` = what ALPN says, and HTTP/1.1 in plaintext.
  package enum Spoken: String, Sendable, CaseIterable { case auto, http1, http2 }
  package var spoken: Spoken = .auto
  /// The PROXY header that connections to the endpoints begin with; nil = none.
  package var proxyProtocol: ProxyHeader.Version? = nil
  /// Host field sent upstream; nil = the client's for the app, the endpoint's name elsewhere.
  package var hostHeader: String? = nil
  package var connectTimeout: Duration = .seconds(5)
  package var poolIdle: Duration = .seconds(4)
  /// As `poolIdle`, of connections that speak HTTP/2.
  package var multiplexedIdle: Duration = .seconds(3600)
  package var maxRequestsPerConnection: Int? = nil
  /// When fewer endpoints than these percent are available, all are used; 0 = never.
  package var panicPercent = 50
  package var maxConnections = 1024
  package var maxPending = 1024
  package var maxRequests = 1024
  package var retryBudgetPercent = 20
  package var retryBudgetMinimum = 3
  /// Active checks; nil = none.
  package var health: HealthCheckConfiguration? = nil
  /// Ejection by what requests see; nil = off.
  package var outliers: OutlierConfiguration? = OutlierConfiguration()
  /// nil = plaintext.
  package var tls: ClusterTLSConfiguration? = nil
  package init(name: String, discovery: Discovery) {
    self.name = name
    self.discovery = discovery
  }
}

package struct EndpointConfiguration: Sendable, Equatable {
  package var address: Address
  /// 1...1000 as written, 1...65535 of an SRV record.
  package var weight = 1
  package var locality: String? = nil
  /// 0 comes first.
  package var priority = 0
  package init(address: Address, weight: Int = 1, locality: String? = nil, priority: Int = 0) {
    self.address = address
    self.weight = weight
    self.locality = locality
    self.priority = priority
  }
}
