import NIOCore
import Synchronization
package import Traffic

/// Taking listeners out of service and back, while the sidecar goes on: a drained listener refuses nobody, but every
/// answer ends its connection (`Connection: close`, GOAWAY), so that clients go elsewhere.
extension TrafficProxy {
  /// One listener, for whoever drains it.
  package struct Occupancy: Sendable {
    package var isDraining: Bool
    /// Open accepted connections, on all loops.
    package var connections: Int
  }

  /// What stands on that listener now.
  package func occupancy(of listener: ListenerID) -> Occupancy {
    let open = shared.openConnections(of: listener)
    return Occupancy(
      isDraining: open.isDraining.load(ordering: .relaxed) || shared.isDraining(listener.direction),
      connections: open.count.load(ordering: .relaxed))
  }

  /// Drains those listeners, or takes them back into service. Idle connections end after five seconds. A later
  /// configuration changes nothing about it; a worker that takes over begins with every listener in service.
  package func setDraining(_ listeners: [ListenerID], _ isDraining: Bool) {
    for id in listeners { shared.openConnections(of: id).isDraining.store(isDraining, ordering: .relaxed) }
    guard isDraining else { return }
    shared.onEveryLoop { loop in
      for id in listeners { if let listener = loop.listeners[id] { loop.endConnections(of: listener) } }
    }
  }
}

extension LoopState {
  /// Connections of that listener end: with their next answer, or after five seconds without a request.
  func endConnections(of listener: LoopListener) {
    let now = NIODeadline.now().uptimeNanoseconds
    for downstream in downstreams.values where downstream.listener === listener && downstream.isWaiting {
      wheel.set(downstream, now &+ 5_000_000_000, now: now)
    }
    for downstream in multiplexed.values where downstream.listener === listener { downstream.drain() }
  }
}

extension LoopListener {
  /// Answers end their connections.
  func isDraining(_ shared: ProxyShared) -> Bool {
    isLeaving || open.isDraining.load(ordering: .relaxed) || shared.isDraining(compiled.direction)
      || compiled.isInbound && shared.bypass.isOn.load(ordering: .relaxed)
  }
}
