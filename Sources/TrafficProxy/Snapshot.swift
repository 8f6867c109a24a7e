import Traffic
import Vocabulary

/// Field edits as bytes: which names are dropped from the message and what is appended to it.
struct CompiledEdits: Sendable {
  var drops: [[UInt8]] = []
  var appended: [UInt8] = []
  var isEmpty: Bool { drops.isEmpty && appended.isEmpty }

  /// Later edits win over earlier ones.
  init(_ layers: [HeaderEdits], injected: [InjectedHeader] = []) {
    var fields: [HeaderEdits.Field] = []
    for edits in layers {
      for name in edits.remove {
        fields.removeAll { $0.name.lowercased() == name.lowercased() }
        drops.append(Array(name.lowercased().utf8))
      }
      for field in edits.set {
        fields.removeAll { $0.name.lowercased() == field.name.lowercased() }
        drops.append(Array(field.name.lowercased().utf8))
        fields.append(field)
      }
      fields += edits.add
    }
    for header in injected { drops.append(Array(header.name.lowercased().utf8)) }
    // Framing and the Host field are the proxy's own: a second one would make the message ambiguous.
    let own: Set<String> = ["host", "content-length", "transfer-encoding", "connection"]
    for field in fields where !own.contains(field.name.lowercased()) {
      appended += Array(field.name.utf8) + [0x3A, 0x20] + Array(field.value.utf8) + [13, 10]
    }
  }
}

/// A route made ready: everything that configuration can decide is decided.
final class CompiledRoute: Sendable {
  enum Action: Sendable {
    case cluster(String)
    /// One of several clusters, by a draw.
    case split(WeightedSplit, [String])
    case redirect(CompiledRedirect, code: Int)
    /// A whole reply without the Date or Connection fields.
    case reply(status: Int, fields: [UInt8], body: [UInt8])
  }

  let name: String
  let clusterName: String
  let action: Action
  /// Nanoseconds until the response head; 0 = none.
  let timeout: UInt64
  let perTryTimeout: UInt64
  /// Until a second try begins beside the first; 0 = never.
  let hedgeAfter: UInt64
  /// Responses below this status are passed on without asking the policy.
  let leastRetried: Int
  let policy: RetryPolicy
  let rewritePrefix: PrefixRewrite?
  let rewriteRegex: RegexRewrite?
  var rewritesPath: Bool { rewritePrefix != nil || rewriteRegex != nil }
  let rewriteHost: [UInt8]?
  let mirror: MirrorConfiguration?
  /// What its requests are checked for; nil = nothing.
  let gate: CompiledGate?
  let requestEdits: CompiledEdits
  let responseEdits: CompiledEdits
  let inject: [(name: [UInt8], value: SecretTemplate)]
  /// Leads to a cluster and changes nothing in requests and responses.
  var isPlain: Bool {
    guard case .cluster = action else { return false }
    return gate == nil && mirror == nil && !rewritesPath && rewriteHost == nil && inject.isEmpty && requestEdits.isEmpty
      && responseEdits.isEmpty
  }

  init(_ route: RouteConfiguration, _ listener: ListenerConfiguration, _ gates: GateBook) {
    gate = gates.gate(route.security, listener.id, route: route.name)
    name = route.name
    switch route.action {
    case .cluster(let cluster):
      action = .cluster(cluster)
      clusterName = cluster
    case .split(let parts):
      action = .split(WeightedSplit(parts.map(\.weight)), parts.map(\.cluster))
      clusterName = ""
    case .redirectPart(let edits, let code):
      action = .redirect(CompiledRedirect(edits, route.match.path), code: code)
      clusterName = ""
    case .redirect(let to, let code):
      action = .reply(status: code, fields: Array("location: \(to)\r\n".utf8), body: [])
      clusterName = ""
    case .respond(let status, let body, let headers):
      var fields = headers.map { "\($0.name): \($0.value)\r\n" }.joined()
      if !body.isEmpty, !headers.contains(where: { $0.name.lowercased() == "content-type" }) {
        fields += "content-type: text/plain; charset=utf-8\r\n"
      }
      action = .reply(status: status, fields: Array(fields.utf8), body: Array(body.utf8))
      clusterName = ""
    }
    timeout = (route.timeout ?? listener.timeout).nanoseconds
    let retries = route.retries ?? listener.retries
    policy = RetryPolicy(retries)
    hedgeAfter = retries.hedgeAfter?.nanoseconds ?? 0
    leastRetried = policy.leastStatus
    perTryTimeout = retries.perTryTimeout?.nanoseconds ?? 0
    rewriteHost = route.rewriteHost.map { Array($0.utf8) }
    rewritePrefix = route.rewritePrefix.map { PrefixRewrite(route.match.path, to: $0) }
    rewriteRegex = route.rewriteRegex
    mirror = route.mirror
    let injected =
      listener.inject.filter { outer in
        !route.inject.contains { $0.name.lowercased() == outer.name.lowercased() }
      } + route.inject
    inject = injected.map { (Array($0.name.utf8), $0.value) }
    var edits = CompiledEdits([listener.requestHeaders, route.requestHeaders], injected: injected)
    edits.drops += (listener.security.droppedFields + route.security.droppedFields).map { Array($0.utf8) }
    requestEdits = edits
    responseEdits = CompiledEdits([listener.responseHeaders, route.responseHeaders])
  }
}

/// A listener made ready.
final class CompiledListener: Sendable {
  let id: ListenerID
  let name: String
  let direction: Direction
  let isInbound: Bool
  let isTCP: Bool
  /// The first octets tell what is spoken.
  let isAuto: Bool
  /// What is not HTTP can be passed on: one cluster takes everything, and nothing is done that only HTTP allows.
  let passesTCP: Bool
  let proxyProtocol: ProxyHeader.Version?
  /// Where requests may go that name their destination themselves; nil = nowhere.
  let forwardPolicy: DestinationPolicy?
  let isTransparent: Bool
  let listen: [Address]
  /// What such requests have in common.
  let destinationRoute: CompiledRoute?
  let table: RouteTable
  let routes: [CompiledRoute]
  let idleTimeout: UInt64
  let downstreamIdle: UInt64
  let headTimeout: UInt64
  let maxConnections: Int
  /// What every request and stream is checked for; nil = nothing.
  let gate: CompiledGate?
  /// Some routes check more than others: which one a request takes must not depend on how its path is spelt.
  let guardsRoutes: Bool
  /// Fraction of successful requests recorded, 0...1; below 0 = none at all.
  let sample: Double
  let accessForm: AccessForm
  /// Response fields that its records hold, in lower case.
  let notedFields: [[UInt8]]
  /// Nil = plaintext.
  let tls: ServerTLS?

  init(_ listener: ListenerConfiguration, _ gates: GateBook, tls: ServerTLS? = nil) {
    gate = gates.gate(listener.security, listener.id, route: nil)
    self.tls = tls
    id = listener.id
    name = listener.name
    direction = listener.direction
    isInbound = listener.direction == .inbound
    isTCP = listener.listenerProtocol == .tcp
    isAuto = listener.listenerProtocol == .auto
    proxyProtocol = listener.proxyProtocol
    forwardPolicy = listener.forwardProxy
    isTransparent = listener.isTransparent
    listen = listener.listen
    var named = RouteConfiguration(action: .cluster("\(listener.name)/destinations"))
    named.name = listener.isTransparent ? "original" : "destination"
    destinationRoute =
      listener.forwardProxy == nil && !listener.isTransparent ? nil : CompiledRoute(named, listener, gates)
    table = RouteTable(listener.routes)
    routes = listener.routes.map { CompiledRoute($0, listener, gates) }
    guardsRoutes = routes.contains { $0.gate != nil }
    passesTCP =
      gate == nil && routes.count == 1 && listener.routes[0].match == RouteConfiguration.Match() && routes[0].isPlain
    idleTimeout = listener.idleTimeout.nanoseconds
    downstreamIdle = listener.downstreamIdle.nanoseconds
    headTimeout = listener.headTimeout.nanoseconds
    maxConnections = listener.maxConnections ?? .max
    accessForm = listener.accessForm
    notedFields = listener.accessForm.responseFields
    sample =
      switch listener.accessLog {
      case .off: -1
      case .on: 1
      case .sample(let fraction): fraction
      }
  }
}

extension Duration {
  /// Whole nanoseconds, 0 when negative.
  var nanoseconds: UInt64 { UInt64(max(0, inNanoseconds)) }
}
