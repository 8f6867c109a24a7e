/// Where spans go, and of which requests.
package struct TracingConfiguration: Sendable, Equatable {
  /// The whole URL of OTLP/HTTP, `/v1/traces` included.
  package var url: String
  /// Fraction 0...1 of requests that come without a trace of their own; the others follow their parent's flag.
  package var sample = 0.01
  package var serviceName: String
  /// Fields of each export; values may hold secrets.
  package var headers: [InjectedHeader] = []
  package init(url: String, serviceName: String) {
    self.url = url
    self.serviceName = serviceName
  }
}
