/// Whose fault an error is, as every locally made error, access record and metric names it.
package enum Blame: String, Sendable, CaseIterable {
  case app, sidecar, upstream, client, config
}
