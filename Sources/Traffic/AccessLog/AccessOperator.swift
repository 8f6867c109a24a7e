/// What a format string may name, in Envoy's words where Envoy has one.
package enum AccessOperator: String, Sendable, CaseIterable {
  case responseCode = "RESPONSE_CODE"
  case responseFlags = "RESPONSE_FLAGS"
  case bytesReceived = "BYTES_RECEIVED"
  case bytesSent = "BYTES_SENT"
  /// From the request's first byte to the response's last, milliseconds.
  case duration = "DURATION"
  /// From the request's first byte to the response's first, milliseconds.
  case responseDuration = "RESPONSE_DURATION"
  /// What the sidecar itself took, microseconds.
  case overhead = "OVERHEAD_US"
  case protocolName = "PROTOCOL"
  case upstreamHost = "UPSTREAM_HOST"
  case upstreamCluster = "UPSTREAM_CLUSTER"
  case attempts = "UPSTREAM_REQUEST_ATTEMPT_COUNT"
  case routeName = "ROUTE_NAME"
  case listenerName = "LISTENER_NAME"
  case direction = "DIRECTION"
  /// The client's IP address; Envoy writes its port as well.
  case remoteAddress = "DOWNSTREAM_REMOTE_ADDRESS"
  case remoteAddressAlone = "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT"
  case tlsVersion = "DOWNSTREAM_TLS_VERSION"
  case peer = "DOWNSTREAM_PEER_URI_SAN"
  case traceID = "TRACE_ID"
  case requestID = "REQUEST_ID"
  case blame = "BLAME"
  case grpcStatus = "GRPC_STATUS_NUMBER"

  /// Its value is a number: in a JSON field of its own it stands without quotes.
  package var isNumber: Bool {
    switch self {
    case .responseCode, .bytesReceived, .bytesSent, .duration, .responseDuration, .overhead, .attempts, .grpcStatus:
      true
    default: false
    }
  }
}
