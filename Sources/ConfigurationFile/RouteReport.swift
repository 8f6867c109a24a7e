package import Traffic
import Vocabulary

/// Where a request would go, told from the configuration alone: `outrider explain route`.
package struct RouteReport {
  /// Why it cannot be told.
  package struct Problem: Error {
    package var message: String
  }

  private let listener: ListenerConfiguration
  private let clusters: [ClusterConfiguration]
  private let asked: AskedRequest
  private let isSecure: Bool
  private let rules: [ExplainedRule]

  /// `url` is `http://host:port/path`, or a path alone. `listener` is `inbound.web`, or a name that is unique; nil = the
  /// one that listens on the URL's port, or the only one.
  package init(
    _ traffic: TrafficConfiguration, method: String, url: String, fields: [AskedRequest.Field], listener: String?
  ) throws(Problem) {
    var endpoint: Endpoint?
    var target = url
    if !url.hasPrefix("/") {
      // An empty path may be left out before a query.
      let split = url.firstIndex(of: "?") ?? url.endIndex
      guard let found = Endpoint(url: String(url[..<split])), found.scheme != "tcp" else {
        throw Problem(message: "`\(PlainText.shown(url))` is not a URL; write `http://host:port/path`, or a path")
      }
      endpoint = found
      target = (found.path.isEmpty ? "/" : found.path) + url[split...]
    }
    guard target.utf8.allSatisfy({ $0 > 0x20 && $0 < 0x7F && $0 != 0x23 }) else {
      throw Problem(message: "`\(PlainText.shown(url))` holds octets that no request can; write them as `%XX`")
    }
    let chosen = try Self.choose(traffic.inbound + traffic.outbound, named: listener, endpoint)
    self.listener = chosen
    isSecure = endpoint.map { $0.scheme == "https" } ?? (chosen.tls != nil)
    clusters = traffic.clusters
    let named = fields.first { $0.name.lowercased() == "host" }?.value
    var asked = AskedRequest(target, method: method, authority: named ?? endpoint?.authority ?? "", fields)
    if chosen.routes.contains(where: { !$0.security.isEmpty }) {
      // Such listeners choose by the normal form.
      asked.path = String(decoding: NormalPath(Array(asked.path.utf8)).octets, as: UTF8.self)
    }
    self.asked = asked
    rules = RouteTable(chosen.routes).explain(asked, chosen.routes)
  }

  private static func choose(
    _ all: [ListenerConfiguration], named name: String?, _ endpoint: Endpoint?
  ) throws(Problem) -> ListenerConfiguration {
    let http = all.filter { $0.listenerProtocol != .tcp }
    let known = http.map(\.id.description).joined(separator: ", ")
    if let name {
      let found = http.filter { $0.id.description == name || $0.name == name }
      if found.count == 1 { return found[0] }
      throw Problem(
        message: found.isEmpty
          ? "there is no HTTP listener `\(PlainText.shown(name))`; known: \(known)"
          : "two listeners are named `\(name)`; write `inbound.\(name)` or `outbound.\(name)`")
    }
    if let endpoint {
      let found = http.filter { listener in
        listener.listen.contains { if case .tcp(_, let port) = $0 { port == endpoint.port } else { false } }
      }
      if found.count == 1 { return found[0] }
    }
    if http.count == 1 { return http[0] }
    throw Problem(
      message: http.isEmpty
        ? "the configuration has no HTTP listener"
        : "the URL does not say which listener is meant; add `--listener`, one of \(known)")
  }

  /// Whether some rule takes the request.
  private var outcomes: [(rule: ExplainedRule, share: Double)] {
    var left = 1.0
    return rules.compactMap { rule in
      switch rule.verdict {
      case .matches: return (rule, left)
      case .sometimes(let fraction):
        defer { left *= 1 - fraction }
        return (rule, left * fraction)
      case .misses: return nil
      }
    }
  }

  // MARK: What a rule does

  /// In order: a name, and what to say of it.
  private func plan(_ route: RouteConfiguration) -> [(String, JSONText)] {
    switch route.action {
    case .redirect(let to, let code):
      return [("action", .string("redirect")), ("status", .int(code)), ("location", .string(to))]
    case .redirectPart(let edits, let code):
      let octets = Array(asked.authority.utf8).withUnsafeBytes { authority in
        Array(asked.target.utf8).withUnsafeBytes { target in
          CompiledRedirect(edits, route.match.path).location(
            isSecure: isSecure, authority: authority, target: target, pathCount: asked.path.utf8.count)
        }
      }
      let location = octets.map { String(decoding: $0, as: UTF8.self) } ?? "none: the request names no host (400)"
      return [("action", .string("redirect")), ("status", .int(code)), ("location", .string(location))]
    case .respond(let status, let body, _):
      return [("action", .string("respond")), ("status", .int(status)), ("body_bytes", .int(body.utf8.count))]
    case .cluster(let name):
      return [("action", .string("cluster"))] + destination(name, route) + upstream(route)
    case .split(let parts):
      let total = Double(parts.reduce(0) { $0 + $1.weight })
      let targets = parts.map { part in
        JSONText.object([("share", .number(Double(part.weight) / total))] + destination(part.cluster, route))
      }
      return [("action", .string("split")), ("targets", .array(targets))] + upstream(route)
    }
  }

  private func destination(_ name: String, _ route: RouteConfiguration) -> [(String, JSONText)] {
    guard let cluster = clusters.first(where: { $0.name == name }) else { return [("cluster", .string(name))] }
    let endpoints: [JSONText] =
      switch cluster.discovery {
      case .fixed(let list): list.map { .string("\($0.address)") }
      case .dns(let host, let port): [.string("every address of \(host):\(port)")]
      case .srv(let name): [.string("the SRV records of \(name)")]
      case .file(let path): [.string("those in \(path)")]
      }
    var result: [(String, JSONText)] = [("cluster", .string(name))]
    if !endpoints.isEmpty { result.append(("endpoints", .array(endpoints))) }
    let kept = name == "app" ? asked.authority : cluster.hostHeader ?? ""
    let host = route.rewriteHost ?? kept
    result.append(("host", .string(host.isEmpty ? "each endpoint's own name" : host)))
    if cluster.tls != nil { result.append(("tls", .bool(true))) }
    return result
  }

  private func upstream(_ route: RouteConfiguration) -> [(String, JSONText)] {
    let timeout = route.timeout ?? listener.timeout
    let retries = route.retries ?? listener.retries
    var result: [(String, JSONText)] = [
      ("target", .string(target(route))),
      ("timeout", .string(timeout == .zero ? "none" : DurationText.format(timeout))),
      ("retries", .int(retries.attempts)),
      ("retry_on", .array(retries.conditions.map(\.rawValue).sorted().map(JSONText.string))),
    ]
    if let time = retries.perTryTimeout { result.append(("per_try_timeout", .string(DurationText.format(time)))) }
    let set = [listener.requestHeaders, route.requestHeaders].flatMap { $0.set + $0.add }.map(\.name)
    let names = set + (listener.inject + route.inject).map(\.name)
    if !names.isEmpty { result.append(("sets_fields", .array(names.map(JSONText.string)))) }
    let removed = [listener.requestHeaders, route.requestHeaders].flatMap(\.remove)
    if !removed.isEmpty { result.append(("removes_fields", .array(removed.map(JSONText.string)))) }
    if let mirror = route.mirror {
      result.append(("mirror", .string(mirror.cluster)))
      if mirror.fraction < 1 { result.append(("mirror_fraction", .number(mirror.fraction))) }
    }
    return result
  }

  private func checks(_ route: RouteConfiguration?) -> [(String, JSONText)] {
    var names: [String] = []
    for security in [listener.security] + (route.map { [$0.security] } ?? []) {
      if !security.rates.isEmpty { names.append("limits.rate") }
      if security.jwt != nil { names.append("authorize.jwt") }
      if security.rules != nil { names.append("authorize.rbac") }
      if security.external != nil { names.append("authorize.external") }
      if security.fault != nil { names.append("fault") }
    }
    return names.isEmpty ? [] : [("checked_by", .array(names.map(JSONText.string)))]
  }

  /// The path and query that the upstream sees.
  private func target(_ route: RouteConfiguration) -> String {
    Array(asked.target.utf8).withUnsafeBytes { target in
      let count = asked.path.utf8.count
      if let prefix = route.rewritePrefix {
        let rewrite = PrefixRewrite(route.match.path, to: prefix)
        return String(decoding: rewrite.to + rewrite.rest(target, pathCount: count), as: UTF8.self)
      }
      guard let regex = route.rewriteRegex else { return asked.target }
      let result = regex.apply(target, pathCount: count, RouteScratch(seed: 0))
      return result.map { String(decoding: $0, as: UTF8.self) } ?? "none: the rewrite would cost too much (400)"
    }
  }

  private func name(_ index: Int) -> String { listener.routes[index].name }

  private var unmatched: String {
    if listener.isTransparent { return "where the connection was going" }
    return listener.forwardProxy != nil ? "where the request says itself" : "404 no_route"
  }

  // MARK: Text and JSON

  package func json() -> String {
    let compared = rules.map { rule -> JSONText in
      var entry: [(String, JSONText)] = [("rule", .int(rule.index + 1)), ("name", .string(name(rule.index)))]
      switch rule.verdict {
      case .matches: entry.append(("verdict", .string("matches")))
      case .sometimes(let fraction): entry += [("verdict", .string("sometimes")), ("fraction", .number(fraction))]
      case .misses(let condition, let expected, let got):
        entry += [
          ("verdict", .string("misses")), ("condition", .string(condition)), ("expected", .string(expected)),
          ("got", .string(got)),
        ]
      }
      return .object(entry)
    }
    var taken = outcomes.map { outcome -> JSONText in
      let route = listener.routes[outcome.rule.index]
      let head: [(String, JSONText)] = [
        ("rule", .int(outcome.rule.index + 1)), ("name", .string(route.name)), ("share", .number(outcome.share)),
      ]
      return .object(head + checks(route) + plan(route))
    }
    if !isAlwaysTaken { taken.append(.object([("action", .string("none")), ("goes", .string(unmatched))])) }
    return JSONText.object([
      ("listener", .string(listener.id.description)),
      (
        "request",
        .object([
          ("method", .string(asked.method)), ("host", .string(asked.host)), ("path", .string(asked.path)),
          ("query", .string(asked.query)),
        ])
      ),
      ("rules", .array(compared)), ("outcomes", .array(taken)),
    ]).pretty() + "\n"
  }

  private var isAlwaysTaken: Bool { rules.last?.verdict == .matches }

  package func text() -> String {
    var lines = ["\(asked.method) \(asked.target), host `\(asked.host)`, on \(listener.id)"]
    for rule in rules {
      let head = "  rule \(rule.index + 1) `\(name(rule.index))`"
      switch rule.verdict {
      case .matches: lines.append("\(head) matches")
      case .sometimes(let fraction): lines.append("\(head) takes \(Self.percent(fraction)) of such requests")
      case .misses(let condition, let expected, let got):
        lines.append("\(head) does not match: \(condition) is \(got), not \(expected)")
      }
    }
    for outcome in outcomes {
      let route = listener.routes[outcome.rule.index]
      let share = outcome.share < 1 ? ", \(Self.percent(outcome.share)) of such requests" : ""
      lines.append("`\(route.name)`\(share):")
      for (key, value) in checks(route) + plan(route) { lines.append("  \(key): \(Self.inline(value))") }
    }
    if !isAlwaysTaken { lines.append("no rule takes \(outcomes.isEmpty ? "it" : "the rest"): \(unmatched)") }
    return lines.joined(separator: "\n") + "\n"
  }

  private static func inline(_ value: JSONText) -> String {
    switch value {
    case .string(let text): text
    case .int(let number): "\(number)"
    case .number(let number): percent(number)
    case .bool(let flag): "\(flag)"
    case .array(let values): values.map(inline).joined(separator: ", ")
    case .object(let entries): entries.map { "\($0.0) \(inline($0.1))" }.joined(separator: " ")
    }
  }

  private static func percent(_ fraction: Double) -> String {
    let hundredths = Int((fraction * 10_000).rounded())
    let rest = hundredths % 100
    let decimals = rest == 0 ? "" : rest % 10 == 0 ? ".\(rest / 10)" : ".\(rest < 10 ? "0" : "")\(rest)"
    return "\(hundredths / 100)\(decimals) %"
  }
}
