/// How a control-plane client (a sink, a secret store) checks its server and shows itself.
package struct ClientTLSConfiguration: Sendable, Equatable {
  /// A PEM bundle; nil = the system's.
  package var ca: String? = nil
  package var certificate: String? = nil
  package var key: String? = nil
  package var verify = true
  package init() {}
}
