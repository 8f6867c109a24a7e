import Supervisor
import Traffic
import Vocabulary

extension ConfigurationDecoder {
  func traffic(app: AppConfiguration) -> TrafficConfiguration {
    var traffic = TrafficConfiguration()
    traffic.threads = root["threads"].int
    traffic.resolvers = resolvers(root["resolvers"])
    let rules = ClusterReferences(decoder: self, app: app)
    for entry in root["clusters"].entries {
      if let cluster = cluster(entry.key, entry.value, app) { rules.clusters.append(cluster) }
      rules.declared.insert(entry.key)
    }
    traffic.inbound = root["inbound"].entries.map { listener($0.key, $0.value, .inbound, rules) }
    traffic.outbound = root["outbound"].entries.map { listener($0.key, $0.value, .outbound, rules) }
    traffic.clusters = rules.clusters
    return traffic
  }

  // MARK: clusters

  private func cluster(_ name: String, _ view: TreeView, _ app: AppConfiguration) -> ClusterConfiguration? {
    guard let discovery = discovery(name, view, app) else { return nil }
    var cluster = ClusterConfiguration(name: name, discovery: discovery)
    view["protocol"].choice(ClusterConfiguration.Spoken.self).assign(to: &cluster.spoken)
    cluster.proxyProtocol = view["proxy_protocol"].choice(ProxyHeader.Version.self)
    balancing(view, &cluster)
    view["connect_timeout"].duration.assign(to: &cluster.connectTimeout)
    view["pool"]["idle"].duration.assign(to: &cluster.poolIdle)
    view["pool"]["max_requests"].int.assign(to: &cluster.maxRequestsPerConnection)
    view["limits"]["connections"].int.assign(to: &cluster.maxConnections)
    view["limits"]["pending"].int.assign(to: &cluster.maxPending)
    view["limits"]["requests"].int.assign(to: &cluster.maxRequests)
    view["retry_budget"]["percent"].int.assign(to: &cluster.retryBudgetPercent)
    view["retry_budget"]["min"].int.assign(to: &cluster.retryBudgetMinimum)
    cluster.tls = clusterTLS(view["tls"])
    availability(view, &cluster)
    return cluster
  }

  // MARK: listeners

  private func listener(
    _ name: String, _ view: TreeView, _ direction: Direction, _ rules: ClusterReferences
  ) -> ListenerConfiguration {
    let addresses = view["listen"].elements.compactMap(\.address)
    if view["listen"].exists, view["listen"].elements.isEmpty, view["listen"].node?.sequence?.isEmpty == true {
      view["listen"].error("`\(view.path).listen` is empty", "write `listen: \":8080\"`")
    }
    var listener = ListenerConfiguration(name: name, direction: direction, listen: addresses)
    view["protocol"].choice(ListenerConfiguration.ListenerProtocol.self).assign(to: &listener.listenerProtocol)
    listener.proxyProtocol = view["proxy_protocol"].choice(ProxyHeader.Version.self)
    listener.forwardProxy = forwardProxy(view["forward_proxy"])
    view["transparent"].bool.assign(to: &listener.isTransparent)
    if listener.isTransparent, listener.forwardProxy != nil || listener.proxyProtocol != nil {
      view["transparent"].error(
        "`\(view.path)` cannot be transparent and \(listener.forwardProxy != nil ? "a forward proxy" : "take PROXY headers")",
        "use two listeners")
    }
    view["timeout"].duration.assign(to: &listener.timeout)
    view["idle_timeout"].duration.assign(to: &listener.idleTimeout)
    view["head_timeout"].duration.assign(to: &listener.headTimeout)
    view["downstream_idle"].duration.assign(to: &listener.downstreamIdle)
    if view["retries"].exists { listener.retries = retries(view["retries"]) }
    listener.requestHeaders = edits(view["headers"]["request"])
    listener.responseHeaders = edits(view["headers"]["response"])
    listener.inject = injected(view["inject"])
    listener.maxConnections = view["limits"]["connections"].int
    listener.tls = listenerTLS(view["tls"])
    listener.security = security(view)
    listener.routes = view["routes"].elements.enumerated().compactMap {
      route($1, number: $0 + 1, name, direction, rules, hasToken: view["authorize"]["jwt"].exists)
    }
    if let last = lastRoute(name, view, direction, rules) { listener.routes.append(last) }
    takeAccessLog(view["access_log"], &listener)
    if view["to"].elements.contains(where: { $0.text?.hasPrefix("tcp://") == true }) {
      if listener.listenerProtocol == .http {
        view["to"].error("`\(view.path)` speaks HTTP and cannot lead to `tcp://`", "write `http://host:port`")
      }
      listener.listenerProtocol = .tcp
    }
    if listener.forwardProxy != nil, listener.listenerProtocol == .tcp {
      view["protocol"].error("`\(view.path)` is a forward proxy, which speaks HTTP", "remove `protocol`")
    }
    if listener.listenerProtocol == .tcp, view["routes"].exists {
      view["routes"].error("`\(view.path)` is a TCP listener and cannot have routes", "use `to`, or `protocol: http`")
    }
    checkSecurity(of: listener, view)
    return listener
  }

  /// The route of `to`, which matches everything.
  private func lastRoute(
    _ name: String, _ view: TreeView, _ direction: Direction, _ rules: ClusterReferences
  ) -> RouteConfiguration? {
    let hasRoutes = !(view["routes"].node?.sequence ?? []).isEmpty
    let forward = view["forward_proxy"]
    let isForward = forward.isScalar ? forward.bool == true : forward.exists
    if isForward, view["to"].exists {
      view["to"].error(
        "`\(view.path)` is a forward proxy and cannot have `to`", "use `routes` for what is not to go where it says")
      return nil
    }
    if isForward { return nil }
    if view["to"].exists {
      return rules.action(view["to"], listener: name, direction, part: nil).map(RouteConfiguration.init(action:))
    }
    // What no route takes goes where it was going.
    if view["transparent"].bool == true { return nil }
    if root[direction.rawValue][name].node?.mapping == nil { return nil }
    if direction == .outbound {
      if !hasRoutes, !view.isBroken("to"), !view.isBroken("routes") {
        view.error("`\(view.path)` does not say where to", "add `to: \"http://host:port\"` or the name of a cluster")
      }
      return nil
    }
    if hasRoutes, rules.app.port == nil { return nil }
    return rules.appAction(at: view).map(RouteConfiguration.init(action:))
  }

  private func forwardProxy(_ view: TreeView) -> DestinationPolicy? {
    guard view.isScalar ? view.bool == true : view.exists else { return nil }
    var policy = DestinationPolicy()
    if view.isScalar { return policy }
    policy.ports = view["ports"].elements.compactMap(\.int)
    policy.hosts = view["hosts"].elements.compactMap { element in
      guard let text = element.text else { return nil }
      let host = DestinationPolicy.Host(text)
      if host == nil {
        element.error(
          "`\(PlainText.shown(text))` is not a host", "write `api.example.com`, `*.example.com` or `10.0.0.0/8`")
      }
      return host
    }
    return policy
  }

  func edits(_ view: TreeView) -> HeaderEdits {
    var edits = HeaderEdits()
    edits.set = fields(view["set"])
    edits.add = fields(view["add"])
    edits.remove = view["remove"].texts
    return edits
  }

  func fields(_ view: TreeView) -> [HeaderEdits.Field] {
    view.entries.compactMap { entry in
      checkName(entry.key, entry.mark)
      guard let text = entry.value.text else { return nil }
      checkValue(text, entry.value)
      return HeaderEdits.Field(entry.key, text)
    }
  }

  func injected(_ view: TreeView) -> [InjectedHeader] {
    view.entries.compactMap { entry in
      checkName(entry.key, entry.mark)
      guard let template = declared(entry.value) else { return nil }
      for case .literal(let text) in template.parts { checkValue(text, entry.value) }
      return InjectedHeader(name: entry.key, value: template)
    }
  }

  func checkName(_ name: String, _ mark: Mark) {
    guard !HeaderName.isValid(name) else { return }
    report.error(mark, "`\(PlainText.shown(name))` is not a header field's name", "use letters, digits and `-`")
  }

  private func checkValue(_ text: String, _ view: TreeView) {
    guard !HeaderName.isValidValue(text) else { return }
    view.error("`\(view.path)` holds a line break or a control character", "keep a field's value on one line")
  }
}

extension TreeView {
  /// Whether the check refused this key, so that its absence needs no second message.
  func isBroken(_ key: String) -> Bool {
    guard !self[key].exists, let mark = node?.mark else { return false }
    let full = "`\(path).\(key)"
    return report.problems.contains { $0.mark?.file == mark.file && $0.message.contains(full) }
  }
}
