import HTTP2

/// One thing that takes octets from strangers, and what must hold whatever they are.
package struct FuzzTarget: Sendable {
  /// Also the name of its folder in `Fuzz/Corpus`.
  package let name: String
  /// Nil when everything held, else what did not. A trap is a finding as well.
  package let check: @Sendable (UnsafeRawBufferPointer) -> String?

  package static let all = [
    FuzzTarget(name: "request", check: MessageTargets.request),
    FuzzTarget(name: "response", check: MessageTargets.response),
    FuzzTarget(name: "chunked", check: ChunkedTarget.check),
    FuzzTarget(name: "proxy_header", check: ConnectionTargets.proxyHeader),
    FuzzTarget(name: "detection", check: ConnectionTargets.detection),
    FuzzTarget(name: "srv", check: DiscoveryTargets.srv),
    FuzzTarget(name: "endpoint_file", check: DiscoveryTargets.endpointFile),
    FuzzTarget(name: "http2_server", check: { HTTP2Target.check($0, .server) }),
    FuzzTarget(name: "http2_client", check: { HTTP2Target.check($0, .client) }),
    FuzzTarget(name: "hpack", check: HPACKTarget.check),
    FuzzTarget(name: "grpc_health", check: HealthTargets.grpcHealth),
    FuzzTarget(name: "retry_after", check: HealthTargets.retryAfter),
    FuzzTarget(name: "route", check: RoutingTarget.check),
    FuzzTarget(name: "json", check: LogTargets.json),
    FuzzTarget(name: "sink_answer", check: LogTargets.sinkAnswer),
    FuzzTarget(name: "forward_value", check: LogTargets.forwardValue),
    FuzzTarget(name: "spool", check: LogTargets.spool),
    FuzzTarget(name: "line_groups", check: LogInputTargets.lineGroups),
    FuzzTarget(name: "syslog_frames", check: LogInputTargets.frames),
    FuzzTarget(name: "forward", check: LogInputTargets.forward),
    FuzzTarget(name: "otlp_logs", check: LogInputTargets.otlp),
    FuzzTarget(name: "syslog", check: LogInputTargets.syslog),
    FuzzTarget(name: "timestamp", check: LogInputTargets.timestamp),
    FuzzTarget(name: "condition", check: TransformTargets.condition),
    FuzzTarget(name: "journal", check: LogInputTargets.journal),
    FuzzTarget(name: "exposition", check: TransformTargets.exposition),
    FuzzTarget(name: "redaction", check: TransformTargets.redaction),
    FuzzTarget(name: "token", check: SecurityTargets.token),
    FuzzTarget(name: "key_set", check: SecurityTargets.keySet),
    FuzzTarget(name: "path", check: SecurityTargets.path),
    FuzzTarget(name: "traceparent", check: ObservingTargets.traceparent),
    FuzzTarget(name: "access_format", check: ObservingTargets.accessFormat),
    FuzzTarget(name: "vault_reply", check: SecretTargets.vaultReply),
    FuzzTarget(name: "template", check: TemplateTargets.blocks),
    FuzzTarget(name: "configuration", check: ConfigurationTarget.check),
    FuzzTarget(name: "manifest", check: InjectionTargets.manifest),
    FuzzTarget(name: "admission_review", check: InjectionTargets.review),
  ]
}

/// Where to cut a stream of octets: decided by the first octets of an input, the rest is the stream.
struct Splits {
  private var state: UInt64
  /// What is left of the input.
  let stream: UnsafeRawBufferPointer

  init(_ input: UnsafeRawBufferPointer, seedOctets: Int = 2) {
    let count = min(seedOctets, input.count)
    state = input[..<count].reduce(0x9E37_79B9_7F4A_7C15) { ($0 ^ UInt64($1)) &* 0x100_0000_01B3 } | 1
    stream = UnsafeRawBufferPointer(rebasing: input[count...])
  }

  /// Octets of the next piece, at least 1; mostly few.
  mutating func next(of left: Int) -> Int {
    state ^= state << 13
    state ^= state >> 7
    state ^= state << 17
    let most: UInt64 = state & 0x300 == 0 ? 1 : state & 0x300 == 0x100 ? 4096 : 24
    return min(left, 1 + Int((state >> 16) % most))
  }
}

extension UnsafeRawBufferPointer {
  func part(_ range: Range<Int>) -> UnsafeRawBufferPointer { UnsafeRawBufferPointer(rebasing: self[range]) }

  /// Printable, for complaints.
  var shown: String {
    map { (32..<127).contains($0) ? String(UnicodeScalar($0)) : "\\x" + String($0, radix: 16) }.joined()
  }
}
