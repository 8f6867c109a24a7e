import Supervisor
import Traffic
import Vocabulary

/// How a cluster finds and chooses its endpoints.
extension ConfigurationDecoder {
  private static let sources = ["endpoints", "dns", "srv", "file"]

  func discovery(_ name: String, _ view: TreeView, _ app: AppConfiguration) -> ClusterConfiguration.Discovery? {
    let written = Self.sources.filter { view[$0].exists }
    if name == "app" {
      if !written.isEmpty {
        view.error("`clusters.app` is the app itself and takes no endpoints", "set `app.port`, or choose another name")
      } else if let port = app.port {
        return .fixed([EndpointConfiguration(address: .tcp(host: app.address, port: port))])
      } else if !root["app"]["port"].exists {
        view.error("`clusters.app` is the app itself, but `app.port` is not set", "add `port: 8080` to `app`")
      }
      return nil
    }
    guard written.count == 1 else {
      let found = written.map { "`\($0)`" }.joined(separator: " and ")
      view.error(
        written.isEmpty
          ? "`\(view.path)` needs one of `endpoints`, `dns`, `srv` and `file`"
          : "`\(view.path)` has \(found), which exclude each other",
        "write `endpoints: [\"10.0.0.1:80\"]`, `dns: \"name:80\"`, `srv: _http._tcp.name` or `file: endpoints.yaml`")
      return nil
    }
    let place = view[written[0]]
    switch written[0] {
    case "dns":
      guard let address = place.address else { return nil }
      guard case .tcp(let host, let port) = address, !host.isEmpty, port > 0 else {
        place.error("`\(place.path)` needs a name and a port", "write `dns: \"name:80\"`")
        return nil
      }
      return .dns(host: host, port: port)
    case "srv":
      guard let name = place.text else { return nil }
      guard Self.isDomain(name) else {
        place.error(
          "`\(place.path)`: `\(PlainText.shown(name))` is not a name with SRV records",
          "write `_service._tcp.name`, without a port")
        return nil
      }
      return .srv(name)
    case "file": return place.filePath.map { .file($0) }
    default:
      if place.elements.isEmpty {
        place.error("`\(place.path)` is empty", "write `endpoints: [\"10.0.0.1:80\"]`")
      }
      return .fixed(EndpointDecoding.endpoints(place))
    }
  }

  /// RFC 1035 section 2.3.1, and the underscores of RFC 2782.
  private static func isDomain(_ name: String) -> Bool {
    let labels = name.split(separator: ".", omittingEmptySubsequences: false)
    let rest = labels.last == "" ? labels.dropLast() : labels[...]
    return name.utf8.count <= 254 && !rest.isEmpty
      && rest.allSatisfy { label in
        (1...63).contains(label.utf8.count)
          && label.utf8.allSatisfy { octet in
            switch octet {
            case 0x30...0x39, 0x41...0x5A, 0x61...0x7A, 0x2D, 0x5F: true
            default: false
            }
          }
      }
  }

  func balancing(_ view: TreeView, _ cluster: inout ClusterConfiguration) {
    view["balance"].choice(ClusterConfiguration.Balance.self).assign(to: &cluster.balance)
    cluster.locality = view["locality"].text
    if cluster.locality == "" {
      view["locality"].error("`\(view.path).locality` is empty", "write a name, for example `locality: zone-a`")
    }
    view["slow_start"].duration.assign(to: &cluster.slowStart)
    if cluster.balance.isByHash, cluster.slowStart > .zero {
      view["slow_start"].error(
        "`\(view.path).slow_start` has no effect with `balance: \(cluster.balance.rawValue)`: keys do not move slowly",
        "remove it, or choose another `balance`")
    }
    let place = view["hash_on"]
    guard place.exists else { return }
    if !cluster.balance.isByHash, view["balance"].text != nil || !view["balance"].exists {
      place.error(
        "`\(place.path)` needs a balance that hashes", "add `balance: ring_hash` or `balance: maglev`, or remove it")
    }
    hashSource(place).assign(to: &cluster.hashOn)
  }

  private func hashSource(_ view: TreeView) -> HashSource? {
    if let word = view.text { return word == "path" ? .path : .source }
    var sources: [HashSource] = []
    for (key, make) in [("header", HashSource.header), ("cookie", HashSource.cookie), ("query", HashSource.query)] {
      guard let name = view[key].text else { continue }
      if name.isEmpty || name.utf8.contains(where: { $0 <= 0x20 || $0 == 0x7F || "=;&".utf8.contains($0) }) {
        view[key].error("`\(view[key].path)` is not a name", "write the name alone, for example `\(key): session`")
      }
      sources.append(make(name))
    }
    guard sources.count == 1 else {
      let isMisread = ["header", "cookie", "query"].contains { view[$0].exists } && sources.isEmpty
      if !isMisread {
        view.error(
          "`\(view.path)` names \(sources.isEmpty ? "nothing" : "\(sources.count) keys")",
          "write `source`, `path`, or one of `{ header: NAME }`, `{ cookie: NAME }` and `{ query: NAME }`")
      }
      return nil
    }
    return sources[0]
  }

  /// Servers by their address: a name would have to be looked up first.
  func resolvers(_ view: TreeView) -> [Address] {
    if view.elements.count > 8 {
      view.error("`resolvers` names \(view.elements.count) servers", "name at most 8")
    }
    return view.elements.compactMap { element in
      guard let text = element.text else { return nil }
      let bare = IPAddress(text) != nil ? Address.tcp(host: text, port: 53) : Address(text)
      guard case .tcp(let host, let port)? = bare, IPAddress(host) != nil, port > 0 else {
        element.error(
          "`\(element.path)`: `\(PlainText.shown(text))` is not the address of a server",
          "write `10.0.0.53`, `10.0.0.53:53` or `[fd00::53]:53`")
        return nil
      }
      return .tcp(host: host, port: port)
    }
  }
}

/// Endpoints as `endpoints` and files write them.
enum EndpointDecoding {
  static func endpoints(_ view: TreeView) -> [EndpointConfiguration] { view.elements.compactMap(endpoint) }

  private static func endpoint(_ view: TreeView) -> EndpointConfiguration? {
    let place = view.isScalar ? view : view["address"]
    guard let address = place.address else { return nil }
    if case .tcp(let host, let port) = address, host.isEmpty || port == 0 {
      place.error("`\(place.path)` needs a host and a port", "write `host:port`")
      return nil
    }
    var endpoint = EndpointConfiguration(address: address)
    if view.isScalar { return endpoint }
    view["weight"].int.assign(to: &endpoint.weight)
    view["priority"].int.assign(to: &endpoint.priority)
    endpoint.locality = view["locality"].text
    return endpoint
  }
}
