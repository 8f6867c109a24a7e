import NIOCore
import Traffic

/// An endpoint that is left out of the choice, for the status.
package struct UnavailableEndpoint: Sendable, Equatable {
  package var cluster: String
  package var address: String
  /// `unhealthy` or `ejected`.
  package var state: String
  package var reason: String
  /// Until an ejection may end; nil = until a check passes.
  package var secondsLeft: Int?

  static func all(of clusters: [ClusterShared]) -> [UnavailableEndpoint] {
    let now = NIODeadline.now().uptimeNanoseconds
    return clusters.flatMap { cluster in
      cluster.health.absences.map { absence in
        UnavailableEndpoint(
          cluster: cluster.configuration.name, address: absence.address.shown, state: absence.kind.rawValue,
          reason: absence.reason,
          secondsLeft: absence.until.map { Int(($0 > now ? $0 - now : 0) / 1_000_000_000) })
      }
    }
  }
}
