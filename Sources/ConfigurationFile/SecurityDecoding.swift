import Traffic
import Vocabulary

extension ConfigurationDecoder {
  /// What a listener or a route checks. `hasToken` tells a route that its listener verifies one.
  func security(_ view: TreeView, hasToken: Bool = false) -> SecurityConfiguration {
    var security = SecurityConfiguration()
    security.rates = view["limits"]["rate"].elements.compactMap(rate)
    if view["limits"]["rate"].node?.sequence?.isEmpty == true {
      view["limits"]["rate"].error("`\(view.path).limits.rate` is empty", "write `{ requests: 100, per: 1s }`")
    }
    let authorize = view["authorize"]
    let kinds = ["rbac", "jwt", "external"]
    if authorize.exists, !kinds.contains(where: { authorize[$0].exists || authorize.isBroken($0) }) {
      authorize.error("`\(authorize.path)` checks nothing", "add `rbac`, `jwt` or `external`")
    }
    security.jwt = jwt(authorize["jwt"])
    security.external = external(authorize["external"])
    security.rules = rbac(authorize["rbac"])
    security.fault = fault(view["fault"])
    if !hasToken, !authorize["jwt"].exists, !authorize.isBroken("jwt"), let rules = security.rules,
      (rules.deny + (rules.allow ?? [])).contains(where: { !$0.claims.isEmpty })
    {
      authorize["rbac"].error(
        "`\(authorize["rbac"].path)` looks at claims, but no token is verified", "add `jwt` beside `rbac`")
    }
    return security
  }

  /// What does not fit the listener as a whole: `view` is the listener's.
  func checkSecurity(of listener: ListenerConfiguration, _ view: TreeView) {
    if listener.listenerProtocol == .tcp, listener.security.needsHTTP {
      let place = view["authorize"].exists ? view["authorize"] : view["fault"].exists ? view["fault"] : view["limits"]
      place.error(
        "`\(view.path)` passes octets unread: only `principals`, `sources`, and rates for all or `by: source` can be checked",
        "remove the others, or use `protocol: http`")
    }
    let asks = listener.tls.map { $0.clientCertificate != .none } ?? false
    let guarded = [listener.security] + listener.routes.map(\.security)
    let usesPrincipals = guarded.compactMap(\.rules).contains { rules in
      (rules.deny + (rules.allow ?? [])).contains { !$0.principals.isEmpty }
    }
    if usesPrincipals, !asks, !view.isBroken("tls") {
      (view["authorize"].exists ? view["authorize"] : view).error(
        "`\(view.path)` has rules about principals, but its clients show no certificates",
        "add `tls: { client_ca: FILE, … }` to the listener")
    }
  }

  // MARK: Rates

  private func rate(_ view: TreeView) -> RateLimitConfiguration? {
    guard let requests = view["requests"].int else { return nil }
    var key = RateLimitConfiguration.Key.all
    let by = view["by"]
    if let name = by["header"].text {
      key = .header(name.lowercased())
    } else if by.text == "source" {
      key = .source
    } else if by.text == "path" {
      key = .path
    }
    return RateLimitConfiguration(
      requests: requests, period: view["per"].duration ?? .seconds(1), burst: view["burst"].int ?? requests, key: key)
  }

  // MARK: Rules

  private func rbac(_ view: TreeView) -> RBACConfiguration? {
    guard view.exists else { return nil }
    var rules = RBACConfiguration()
    if view["allow"].exists { rules.allow = view["allow"].elements.map(rule) }
    rules.deny = view["deny"].elements.map(rule)
    if rules.allow == nil, rules.deny.isEmpty, !view.isBroken("allow"), !view.isBroken("deny") {
      view.error("`\(view.path)` has no rule", "add `allow` or `deny`; `allow: []` denies everything")
    }
    return rules
  }

  private func rule(_ view: TreeView) -> RBACConfiguration.Rule {
    var rule = RBACConfiguration.Rule()
    rule.principals = view["principals"].elements.compactMap { element in
      guard let text = element.text else { return nil }
      let pattern = PrincipalPattern(text)
      if pattern == nil {
        element.error(
          "`\(PlainText.shown(text))` is not a principal",
          "write `spiffe://domain/path`, with `*` for a whole segment, `dns:name`, `dns:*.suffix` or `*`")
      }
      return pattern
    }
    rule.sources = view["sources"].elements.compactMap { element in
      guard let text = element.text else { return nil }
      let range = AddressRange(text)
      if range == nil {
        element.error("`\(PlainText.shown(text))` is not an address", "write `10.0.0.0/8`, `10.1.2.3` or `fd00::/8`")
      }
      return range
    }
    rule.paths = view["paths"].elements.compactMap(path)
    rule.methods = view["methods"].elements.compactMap { element in
      guard let text = element.text else { return nil }
      if !HeaderName.isValid(text) {
        element.error("`\(PlainText.shown(text))` is not a method", "write for example `GET`")
      }
      return text.uppercased()
    }
    rule.headers = fields(view["headers"])
    rule.claims = view["jwt"].entries.map { RBACConfiguration.Rule.Claim($0.key, $0.value.texts) }
    // A list that is written and empty would say nothing, and so match everybody.
    let keys = ["principals", "sources", "paths", "methods", "headers", "jwt"]
    let empty = keys.first { view[$0].exists && view[$0].elements.isEmpty && view[$0].entries.isEmpty }
    if let empty, !view[empty].isBrokenItself {
      view[empty].error("`\(view[empty].path)` is empty", "name something, or remove the key")
    } else if rule.isEmpty, !keys.contains(where: { view[$0].exists || view.isBroken($0) }) {
      view.error(
        "`\(view.path)` is a rule without a condition",
        "write one, or for everybody `sources: [\"0.0.0.0/0\", \"::/0\"]`")
    }
    return rule
  }

  private func path(_ view: TreeView) -> RBACConfiguration.Rule.Path? {
    guard let text = view.text else { return nil }
    let isPrefix = text.hasSuffix("/*")
    let plain = isPrefix ? String(text.dropLast()) : text
    if plain.contains("*") {
      view.error("`*` may only end a path, after `/`", "write `/exact` or `/prefix/*`")
      return nil
    }
    let normal = NormalPath(plain)
    let shown = String(decoding: normal.octets, as: UTF8.self)
    guard !normal.isAmbiguous, shown == plain else {
      view.error(
        "`\(PlainText.shown(text))` is not in its normal form, and would never match",
        normal.isAmbiguous
          ? "leave out escapes, `;` and `\\`" : "write `\(PlainText.shown(shown))\(isPrefix ? "*" : "")`")
      return nil
    }
    return isPrefix ? .prefix(plain) : .exact(plain)
  }

  // MARK: Tokens

  private func jwt(_ view: TreeView) -> JWTConfiguration? {
    guard view.exists, let issuer = view["issuer"].text, let keys = keys(view["jwks"]) else { return nil }
    if issuer.isEmpty { view["issuer"].error("`\(view.path).issuer` is empty", "write the value of `iss`") }
    var jwt = JWTConfiguration(issuer: issuer, keys: keys)
    jwt.audiences = view["audiences"].texts
    if view["from"].exists { jwt.places = view["from"].elements.compactMap(place) }
    view["forward"].bool.assign(to: &jwt.forwards)
    jwt.claimHeaders = view["claims_to_headers"].entries.compactMap { entry in
      guard let header = entry.value.text else { return nil }
      checkOwn(header, entry.value)
      return JWTConfiguration.ClaimHeader(claim: entry.key, header: header)
    }
    view["required"].bool.assign(to: &jwt.required)
    view["leeway"].duration.assign(to: &jwt.leeway)
    if view["algorithms"].exists {
      jwt.algorithms = Set(view["algorithms"].elements.compactMap { $0.choice(JWTAlgorithm.self) })
    }
    for key in ["audiences", "from", "algorithms"] where view[key].node?.sequence?.isEmpty == true {
      view[key].error("`\(view[key].path)` is empty", "name one, or remove the key")
    }
    let isElsewhere = jwt.places.contains { if case .header = $0 { false } else { true } }
    if isElsewhere, !jwt.forwards {
      view["from"].error(
        "`\(view.path)` takes tokens from a query or a cookie, which are not taken out of requests",
        "add `forward: true`")
    }
    return jwt
  }

  private func keys(_ view: TreeView) -> JWTConfiguration.Keys? {
    guard view.exists else { return nil }
    let (file, url) = (view["file"], view["url"])
    guard file.exists != url.exists else {
      if !view.isBroken("file"), !view.isBroken("url") {
        view.error("`\(view.path)` needs either `file` or `url`", "write `jwks: { file: keys.json }`")
      }
      return nil
    }
    if let text = url.text {
      return .url(text, refresh: view["refresh"].duration ?? .seconds(300), authorities: authorities(view, text))
    }
    return file.filePath.map { .file($0) }
  }

  /// `ca`, which only `https` has a use for.
  private func authorities(_ view: TreeView, _ url: String) -> String? {
    if view["ca"].exists, !url.hasPrefix("https:") {
      view["ca"].error(
        "`\(view.path).ca` is about certificates, and the URL is not `https`", "remove it, or write `https`")
    }
    return view["ca"].filePath
  }

  private func place(_ view: TreeView) -> JWTConfiguration.Place? {
    let named = ["header", "query", "cookie"].filter { view[$0].exists }
    guard named.count == 1, let text = view[named[0]].text else {
      view.error("`\(view.path)` names \(named.isEmpty ? "no place" : "several places")", "write `{ header: NAME }`")
      return nil
    }
    switch named[0] {
    case "header": return .header(text.lowercased())
    case "query": return .query(text)
    default: return .cookie(text)
    }
  }

  /// Fields that frame a message or say whose it is are the proxy's own.
  private func checkOwn(_ name: String, _ view: TreeView) {
    let own = ["host", "content-length", "transfer-encoding", "connection", "te", "trailer", "upgrade", "keep-alive"]
    guard own.contains(name.lowercased()) else { return }
    view.error("`\(name)` is the proxy's own field", "choose another name")
  }

  // MARK: The service, and failures

  private func external(_ view: TreeView) -> ExternalAuthorizationConfiguration? {
    guard view.exists, let url = view["url"].text, let endpoint = Endpoint(url: url) else { return nil }
    if endpoint.path.count > 1 {
      view["url"].error("`\(PlainText.shown(url))` has a path", "write it as `path_prefix`")
    }
    var external = ExternalAuthorizationConfiguration(url: "\(endpoint.scheme)://\(endpoint.authority)")
    external.authorities = authorities(view, url)
    if let prefix = view["path_prefix"].text {
      external.pathPrefix = prefix.hasSuffix("/") ? String(prefix.dropLast()) : prefix
      if prefix.contains("?") || prefix.contains("#") {
        view["path_prefix"].error("`\(PlainText.shown(prefix))` is not a path alone", "remove what follows the path")
      }
    }
    view["timeout"].duration.assign(to: &external.timeout)
    if view["headers"].exists { external.headers = view["headers"].texts.map { $0.lowercased() } }
    external.allowedHeaders = view["allowed_headers"].elements.compactMap { element in
      guard let name = element.text else { return nil }
      checkOwn(name, element)
      return name
    }
    external.failsOpen = view["fail"].text == "open"
    return external
  }

  private func fault(_ view: TreeView) -> FaultConfiguration? {
    guard view.exists else { return nil }
    var fault = FaultConfiguration()
    if let duration = view["delay"]["duration"].duration {
      fault.delay = .init(duration: duration, fraction: view["delay"]["fraction"].fraction ?? 1)
    }
    if let status = view["abort"]["status"].int {
      fault.abort = .init(status: status, fraction: view["abort"]["fraction"].fraction ?? 1)
    }
    if fault == FaultConfiguration(), !view.isBroken("delay"), !view.isBroken("abort"), !view["delay"].exists,
      !view["abort"].exists
    {
      view.error("`\(view.path)` makes no failure", "add `delay` or `abort`")
    }
    return fault
  }
}
