import NIOCore
import Traffic
import Vocabulary

/// What becomes of a connection that the kernel handed to a transparent listener.
enum Interception {
  enum Decision {
    /// It belongs to that listener: its own, or the one that it was going to.
    case listener(LoopListener, original: LoopRoute?)
    case refused(String)
  }

  /// The listener that has the original address, else the cluster that has such an endpoint, else the address itself.
  static func decide(_ channel: any Channel, _ loop: LoopState, _ listener: LoopListener, _ now: UInt64) -> Decision {
    guard let (address, port) = OriginalDestination.of(channel) else {
      return .refused("it has no original destination")
    }
    // The machine's addresses are asked for only where a port of the sidecar's makes it matter.
    if loop.shared.own.has(port), OwnAddresses.isHere(address) {
      guard let other = loop.listener(at: address, port) else {
        return .refused("\(address) port \(port) is this sidecar itself: it would go in a circle")
      }
      if other === listener || other.compiled.isTransparent {
        return .refused("it was made to the transparent listener itself")
      }
      return .listener(other, original: nil)
    }
    if let cluster = cluster(loop, listener, address, port) {
      return .listener(listener, original: listener.route(to: cluster, loop))
    }
    let destination = Destination(host: address.description, port: port)
    guard let route = listener.destinations?.route(to: destination, now: now) else {
      return .refused("\(Destinations.limit) other destinations are in use, the limit")
    }
    return .listener(listener, original: route)
  }

  private static func cluster(
    _ loop: LoopState, _ listener: LoopListener, _ address: IPAddress, _ port: Int
  ) -> LoopCluster? {
    // Whatever address of this machine it came to, the app is where the configuration says.
    if listener.compiled.direction == .inbound, let app = loop.clusters["app"],
      app.endpoints.contains(where: { $0.resolved.address.port == port })
    {
      return app
    }
    return loop.ordered.first { cluster in
      cluster.endpoints.contains { endpoint in
        endpoint.resolved.address.port == port && IPAddress(of: endpoint.resolved.address) == address
      }
    }
  }
}

extension LoopState {
  /// The listener that was configured for an address of this machine; the most specific first.
  func listener(at address: IPAddress, _ port: Int) -> LoopListener? {
    var everywhere: LoopListener?
    for listener in listeners.values {
      for case .tcp(let host, port) in listener.compiled.listen {
        if IPAddress(host == "localhost" ? "127.0.0.1" : host) == address { return listener }
        if host.isEmpty || host == "0.0.0.0" || host == "::" { everywhere = listener }
      }
    }
    return everywhere
  }
}

extension LoopListener {
  /// The route that leads intercepted connections to a configured cluster.
  func route(to cluster: LoopCluster, _ loop: LoopState) -> LoopRoute? {
    let name = cluster.shared.configuration.name
    if let found = clusterRoutes[name] { return found }
    guard let route = compiled.destinationRoute else { return nil }
    let made = LoopRoute(route, cluster, loop.stats(compiled, route.name, name))
    clusterRoutes[name] = made
    return made
  }
}
