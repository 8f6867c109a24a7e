import HTTP1
import NIOCore
import Traffic

/// What routes do to a request besides leading it somewhere. The loop's parse is of it.
extension ExchangeDriver {
  /// Answers with the request's own address, parts of it changed.
  final func answer(_ redirect: CompiledRedirect, code: Int) {
    let location = exchange.head.withUnsafeReadableBytes { bytes in
      let table = loop.request.table
      let authority = loop.request.authority.count > 0 ? loop.request.authority : table.value(table.host)
      return redirect.location(
        isSecure: session != nil, authority: authority.of(bytes), target: exchange.path.of(bytes),
        pathCount: exchange.pathOnlyCount)
    }
    guard let location else {
      return localError(.badRequest, detail: "the request names no host that it could be redirected on")
    }
    exchange.status = code
    answer(status: code, fields: Array("location: ".utf8) + location + [13, 10], body: [])
  }

  /// Makes the target for the upstream; false when the request was answered instead.
  final func rewritesTarget(_ rewrite: RegexRewrite) -> Bool {
    let target = exchange.head.withUnsafeReadableBytes { bytes in
      rewrite.apply(exchange.path.of(bytes), pathCount: exchange.pathOnlyCount, loop.routing)
    }
    guard let target else {
      listener.noteLimit()
      localError(.badRequest, detail: "the path cannot be rewritten within the limits of expressions")
      return false
    }
    exchange.rewrittenTarget = target
    return true
  }
}

extension LoopState {
  /// The routes of a listener as this loop sees them, with the clusters that they lead to.
  func routes(_ compiled: CompiledListener, _ clusters: [String: LoopCluster]) -> [LoopRoute] {
    compiled.routes.map { route in
      let made = loopRoute(compiled, route, route.clusterName, clusters)
      made.mirror = mirror(compiled, route, clusters)
      if case .split(_, let names) = route.action {
        made.parts = names.map { loopRoute(compiled, route, $0, clusters) }
        for part in made.parts { part.mirror = made.mirror }
      }
      return made
    }
  }

  private func mirror(
    _ compiled: CompiledListener, _ route: CompiledRoute, _ clusters: [String: LoopCluster]
  ) -> LoopMirror? {
    guard let mirror = route.mirror else { return nil }
    let key = "\(compiled.id) \(route.name) \(mirror.cluster)"
    let stats =
      mirrorStats[key] ?? MirrorStats(shared.metrics, compiled, route: route.name, cluster: mirror.cluster)
    mirrorStats[key] = stats
    let copy = loopRoute(compiled, route, mirror.cluster, clusters)
    return LoopMirror(copy, fraction: mirror.fraction, stats)
  }

  private func loopRoute(
    _ compiled: CompiledListener, _ route: CompiledRoute, _ cluster: String, _ clusters: [String: LoopCluster]
  ) -> LoopRoute {
    LoopRoute(route, clusters[cluster], stats(compiled, route.name, cluster))
  }
}
