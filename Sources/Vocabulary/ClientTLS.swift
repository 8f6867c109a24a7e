/// How a control-plane client (a sink, a secret store) checks its server and shows itself.
package struct ClientTLSConfiguration: Sendable, Equatable {
  /// A PEM bundle; nil = the system's.
  package var ca: String? = nil
  package var certificate: String? = nil
  package var key: String? = nil
  package var verify = true
  package init() {}

  /// What an error of the TLS library means for a person, and the way out; nil when it is about something else.
  package static func explanation(ofError text: String) -> String? {
    if text.contains("CERTIFICATE_VERIFY_FAILED") {
      return
        "the server's certificate is not signed by an authority that is trusted here; name the right one in `tls.ca`"
    }
    if text.contains("failedToValidateHostname") {
      return "the server's certificate is for another name; use the name that stands in it"
    }
    if text.contains("handshakeFailed") || text.contains("SSL routines") {
      return
        "the TLS handshake failed; does the server speak TLS there, and want a client certificate (`tls.certificate`)?"
    }
    return nil
  }
}
