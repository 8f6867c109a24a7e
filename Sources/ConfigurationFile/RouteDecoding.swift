import Supervisor
import Traffic
import Vocabulary

extension ConfigurationDecoder {
  func route(
    _ view: TreeView, number: Int, _ listener: String, _ direction: Direction, _ rules: ClusterReferences,
    hasToken: Bool
  ) -> RouteConfiguration? {
    let name = view["name"].text ?? "route-\(number)"
    let match = match(view["match"])
    guard let action = action(view, name, listener, direction, rules, match.path) else { return nil }
    var route = RouteConfiguration(action: action)
    route.name = name
    route.match = match
    rewrite(view["rewrite"], into: &route)
    route.mirror = mirror(view["mirror"], of: route, listener, direction, rules)
    route.timeout = view["timeout"].duration
    if view["retries"].exists { route.retries = retries(view["retries"]) }
    route.requestHeaders = edits(view["headers"]["request"])
    route.responseHeaders = edits(view["headers"]["response"])
    route.inject = injected(view["inject"])
    route.security = security(view, hasToken: hasToken)
    return route
  }
}

/// Resolves `to`: the app, a named cluster, or URLs that imply a cluster.
final class ClusterReferences {
  let decoder: ConfigurationDecoder
  let app: AppConfiguration
  var clusters: [ClusterConfiguration] = []
  /// Also the names of clusters that could not be decoded.
  var declared: Set<String> = []
  private var isAppReported = false

  init(decoder: ConfigurationDecoder, app: AppConfiguration) {
    self.decoder = decoder
    self.app = app
  }

  /// `part` is the route's name; nil for the listener's own `to`.
  func action(_ view: TreeView, listener: String, _ direction: Direction, part: String?) -> RouteConfiguration.Action? {
    let elements = view.elements
    guard let first = elements.first else {
      if view.node?.sequence?.isEmpty == true, !view.isBrokenItself {
        view.error("`\(view.path)` is empty", "write `app`, a cluster's name or `http://host:port`")
      }
      return nil
    }
    if elements.count == 1, let text = first.text, !text.contains("://"), !text.hasPrefix("unix:") {
      return name(text, first)
    }
    if elements.contains(where: { $0.text?.hasPrefix("unix:") == true }) {
      return sockets(elements).map { addresses in
        let name = freeName(listener, direction, part)
        let endpoints = addresses.map { EndpointConfiguration(address: $0) }
        clusters.append(ClusterConfiguration(name: name, discovery: .fixed(endpoints)))
        return .cluster(name)
      }
    }
    let endpoints = elements.compactMap(url)
    guard endpoints.count == elements.count else { return nil }
    guard Set(endpoints.map { $0.scheme == "https" }).count == 1 else {
      view.error("`\(view.path)` mixes `https` with other URLs", "write two clusters, and a route for each")
      return nil
    }
    let name = freeName(listener, direction, part)
    clusters.append(implied(name, endpoints))
    return .cluster(name)
  }

  private func name(_ text: String, _ view: TreeView) -> RouteConfiguration.Action? {
    if text == "app" { return appAction(at: view) }
    if declared.contains(text) { return .cluster(text) }
    if Address(text) != nil {
      view.error("`\(view.path)`: `\(text)` has no scheme", "did you mean `http://\(text)`?")
      return nil
    }
    let names = declared.sorted() + ["app"]
    let near = Suggestion.nearest(to: text, among: names).map { "did you mean `\($0)`? " } ?? ""
    view.error(
      "`\(view.path)`: there is no cluster `\(PlainText.shown(text))`",
      near + "known: \(names.joined(separator: ", ")); or write `http://host:port`")
    return nil
  }

  func appAction(at view: TreeView) -> RouteConfiguration.Action? {
    guard let port = app.port else {
      if !decoder.root["app"].isBroken("port") {
        view.error("`\(view.path)` leads to the app, but `app.port` is not set", "add `port: 8080` to `app`, or a `to`")
      }
      return nil
    }
    if !declared.contains("app") {
      declared.insert("app")
      let address = Address.tcp(host: app.address, port: port)
      clusters.append(ClusterConfiguration(name: "app", discovery: .fixed([EndpointConfiguration(address: address)])))
    }
    return .cluster("app")
  }

  /// Unix sockets, all of them; nil when one was refused.
  private func sockets(_ elements: [TreeView]) -> [Address]? {
    let addresses = elements.compactMap { view -> Address? in
      if case .unix(let path)? = view.address { return .unix(path: path) }
      view.error("`\(PlainText.shown(view.text ?? ""))` is not a Unix socket", "write `unix:/absolute/path` for each")
      return nil
    }
    return addresses.count == elements.count ? addresses : nil
  }

  private func url(_ view: TreeView) -> Endpoint? {
    guard let text = view.text else { return nil }
    guard let endpoint = Endpoint(url: text) else {
      view.error("`\(PlainText.shown(text))` is not a URL", "write `http://host:port`")
      return nil
    }
    if endpoint.path.count > 1 {
      view.error(
        "`\(PlainText.shown(text))` has a path",
        "leave it out here; a route with `rewrite: { prefix: … }` changes paths")
      return nil
    }
    return endpoint
  }

  /// The listener's name, or a longer one when that is taken.
  private func freeName(_ listener: String, _ direction: Direction, _ part: String?) -> String {
    let base = part.map { "\(listener)/\($0)" } ?? listener
    let taken = declared.union(clusters.map(\.name)).union(["app"])
    let candidates = [base, "\(direction.rawValue).\(base)"] + (2...1000).map { "\(direction.rawValue).\(base).\($0)" }
    return candidates.first { !taken.contains($0) } ?? base
  }

  private func implied(_ name: String, _ endpoints: [Endpoint]) -> ClusterConfiguration {
    let hosts = Set(endpoints.map(\.authority))
    var cluster: ClusterConfiguration
    if endpoints.count == 1, !Endpoint.isLiteral(endpoints[0].host) {
      cluster = ClusterConfiguration(name: name, discovery: .dns(host: endpoints[0].host, port: endpoints[0].port))
    } else {
      let fixed = endpoints.map { EndpointConfiguration(address: .tcp(host: $0.host, port: $0.port)) }
      cluster = ClusterConfiguration(name: name, discovery: .fixed(fixed))
    }
    if hosts.count == 1 { cluster.hostHeader = hosts.first }
    if endpoints.first?.scheme == "https" { cluster.tls = ClusterTLSConfiguration() }
    return cluster
  }
}

extension TreeView {
  /// Whether the check already reported an element of this list.
  var isBrokenItself: Bool { report.problems.contains { $0.message.contains("`\(path)") } }
}
