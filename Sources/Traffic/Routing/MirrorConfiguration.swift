/// Copies of a route's requests, whose responses nobody sees.
package struct MirrorConfiguration: Sendable, Equatable {
  package var cluster: String
  /// Part of the requests, 0...1, by a draw.
  package var fraction: Double

  package init(cluster: String, fraction: Double = 1) {
    self.cluster = cluster
    self.fraction = fraction
  }
}
