import NIOCore
import Resilience
import Traffic

/// What tries tell of their endpoint: for outlier detection.
extension ExchangeDriver {
  /// A response head has come.
  final func noteResponse(_ head: ByteBuffer, status: Int, _ endpoint: LoopEndpoint) {
    guard exchange.isGRPC, status == 200 else { return note(failed: status >= 500) }
    let alone = statusAlone(head)
    // Without a status the trailers will have it.
    if alone >= 0 { note(failed: GRPC.isFailure(alone)) }
  }

  /// A try has failed without a response.
  final func noteFailure(_ failure: TryFailure, _ fault: Fault) {
    switch failure {
    // Counted with its head.
    case .status, .marked, .grpc: return
    // It has said that it takes no more on this connection: no fault of its.
    case .refused: return
    // A kept connection that was closed meanwhile.
    case .reset where exchange.tries.reusedConnection && !exchange.tries.replayed && !exchange.tries.responseSeen:
      return
    case .connect, .reset, .timeout: break
    }
    switch fault {
    // Our own certificates are not there, or the configuration does not trust theirs.
    case .tlsUnavailable, .tlsUntrusted: return
    default: note(failed: true)
    }
  }

  /// A try has ended so.
  final func note(failed: Bool) {
    guard let endpoint = exchange.endpoint, endpoint.notesOutcomes, let health = endpoint.health else { return }
    endpoint.tally?.count(failed: failed)
    if !failed { return health.succeeded() }
    guard let count = health.failed(), let cluster = exchange.route?.cluster else { return }
    let now = NIODeadline.now().uptimeNanoseconds
    guard let news = cluster.shared.health.streak(health.id, count: count, now: now) else { return }
    loop.shared.announce([news], of: cluster.shared)
  }

  /// No endpoint can be chosen.
  final func nobodyAvailable(_ cluster: LoopCluster) {
    let name = cluster.shared.configuration.name
    guard cluster.endpoints.isEmpty else {
      let count = cluster.endpoints.count
      return localError(.noneAvailable, detail: "none of the \(count) endpoints of the cluster `\(name)` is available")
    }
    localError(.noEndpoint, detail: "the cluster `\(name)` has no endpoint")
  }
}
