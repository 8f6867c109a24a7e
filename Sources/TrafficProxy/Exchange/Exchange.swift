import HTTP1
import HTTP2
import NIOCore
import Traffic
import Vocabulary

/// One request and its response: what is known and what has happened so far. Owned by its driver.
struct Exchange {
  /// The request head as received; replays and the access record read it again.
  var head = ByteBuffer()
  var method = Method.other
  var methodText = OctetRange.empty
  var path = OctetRange.empty
  var pathOnlyCount = 0
  var minorVersion = 1
  var keepsAlive = true
  var wantsUpgrade = false
  /// Where the Accept field's value stands in the head; empty = none was sent.
  var acceptText = OctetRange.empty
  /// Where the client's own ids stand in the head; empty = ours are used.
  var requestIDText = OctetRange.empty
  var traceIDText = OctetRange.empty
  var requestID: (UInt64, UInt64) = (0, 0)
  var traceID: (UInt64, UInt64) = (0, 0)

  var route: LoopRoute?
  /// Where a copy of the request goes once it is complete; nil = nowhere, or it went.
  var mirror: LoopMirror?
  /// The target for the upstream, where an expression made it; empty = none did.
  var rewrittenTarget: [UInt8] = []
  /// How far it has come through checks; nil = nothing is checked.
  var passage: Passage?
  var endpoint: LoopEndpoint?
  /// How the request's body is delimited, and how far it has come (HTTP/1.1).
  var framing = BodyFraming.none
  var body = BodyDecoder(.none)
  var requestDone = true
  /// Body octets that were sent, for a try that may follow; nil = not kept.
  var replay: ByteBuffer?
  /// The request's trailers, field lines and an empty line, where somebody needs them apart from its body.
  var trailers: ByteBuffer?
  /// Names to keep never-indexed on an HTTP/2 hop, of the request and of its response.
  var sensitive = SensitiveNames()
  var responseSensitive = SensitiveNames()
  /// The client has sent `te: trailers`.
  var acceptsTrailers = false
  var isGRPC = false
  /// The last `grpc-status` seen; below 0 = none.
  var grpcStatus = -1
  /// When the client of a gRPC call gives up.
  var grpcDeadline = UInt64.max
  var tries = TryState()
  /// What the response that is withheld asks to be waited for, in nanoseconds.
  var retryAfter: UInt64 = 0
  var triesMade = 0
  var countsAsRetry = false
  var countsAsRequest = false
  /// Some of the response has been handed to the client.
  var responseStarted = false
  var status = 0
  var flag: StaticString = ""
  /// It failed after retries, and no other was allowed.
  var isExhausted = false
  var story = ExchangeStory()
  /// Whether its spans are exported, and the span of the client's that it belongs to; 0 = none.
  var isSampled = false
  var parentSpan: UInt64 = 0
  var blame: Blame?
  /// Values of the response fields that records want, as `CompiledListener.notedFields` names them.
  var noted: [[UInt8]] = []
  /// A response in chunks for a client that cannot read them is forwarded without its framing.
  var unchunks = false

  var bytesIn: UInt64 = 0
  var bytesOut: UInt64 = 0
  var routeDeadline = UInt64.max
  /// Times are nanoseconds of uptime; 0 = did not happen.
  var started: UInt64 = 0
  var headDone: UInt64 = 0
  var firstByte: UInt64 = 0
  /// When the last try began, and when its request's head was sent on.
  var tryBegan: UInt64 = 0
  var sent: UInt64 = 0
  /// From the request's first byte until its head was complete.
  var headTime: UInt64 = 0
  /// Our own work until the request was sent on.
  var routeTime: UInt64 = 0
  /// Waiting for a name to be resolved, or for a connection that others make.
  var poolTime: UInt64 = 0
  /// When the octets that completed the response were read.
  var lastRead: UInt64 = 0
  var connectTime: UInt64 = 0
  var tlsTime: UInt64 = 0
  var overhead: UInt64 = 0

  /// The client asks for a tunnel (RFC 9110 section 9.3.6).
  var isConnect: Bool {
    if case .connect = method { true } else { false }
  }

  /// True when the client can read JSON as well as anything.
  var acceptsJSON: Bool {
    if acceptText.count == 0 { return true }
    return head.withUnsafeReadableBytes { bytes in
      let text = String(decoding: acceptText.of(bytes), as: UTF8.self)
      return text.contains("json") || text.contains("*/*") && !text.contains("text/")
    }
  }

  /// `isTraced`: spans of ours stand between the client's and the upstream's.
  func identity(isTraced: Bool) -> HeadWriter.Identity {
    .init(
      requestID: requestID, traceID: traceID, spanID: trySpan(triesMade), isSampled: !isTraced || isSampled,
      keepsRequestID: requestIDText.count > 0, keepsTrace: traceIDText.count > 0 && !isTraced,
      keepsTraceState: traceIDText.count > 0)
  }
}
