/// How a listener's access records are written.
package struct AccessForm: Sendable, Equatable {
  /// A field of the user's in a JSON record.
  package struct Field: Sendable, Equatable {
    package var name: String
    package var format: AccessFormat
    package init(name: String, format: AccessFormat) {
      self.name = name
      self.format = format
    }
  }

  /// Nil = JSON.
  package var line: AccessFormat? = nil
  /// Added to each JSON record, in this order.
  package var fields: [Field] = []

  package init() {}

  /// Response fields to note while a response passes, each once.
  package var responseFields: [[UInt8]] {
    var names: [[UInt8]] = []
    for format in [line].compactMap({ $0 }) + fields.map(\.format) {
      for name in format.responseFields where !names.contains(name) { names.append(name) }
    }
    return names
  }

  /// Keys that every JSON record may have of its own.
  package static let ownKeys: Set<String> = [
    "time", "request_id", "trace_id", "listener", "direction", "client", "route", "cluster", "endpoint", "tls", "peer",
    "method", "path", "protocol", "status", "grpc_status", "flags", "blame", "reason", "bytes_in", "bytes_out", "tries",
    "head_ms", "route_ms", "pool_ms", "connect_ms", "tls_ms", "first_byte_ms", "last_byte_ms", "total_ms",
    "overhead_ms",
  ]
}
