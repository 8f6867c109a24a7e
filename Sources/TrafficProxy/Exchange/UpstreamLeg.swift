import NIOCore
import Traffic

/// The way to an upstream that one exchange uses at a time: an HTTP/1.1 connection, or a stream of an HTTP/2 one.
/// `write` and `flush` belong together; what is written is not copied.
class UpstreamLeg: Timed {
  final let loop: LoopState
  final let cluster: LoopCluster
  final let endpoint: LoopEndpoint
  /// What a body is handed over as: content without framing (HTTP/2), or octets as HTTP/1.1 frames them.
  final let takesContent: Bool
  /// False while the upstream takes no more; `resumeReading` of the driver tells when it does again.
  final var isWritable = true
  final var driver: ExchangeDriver?

  init(loop: LoopState, cluster: LoopCluster, endpoint: LoopEndpoint, takesContent: Bool) {
    self.loop = loop
    self.cluster = cluster
    self.endpoint = endpoint
    self.takesContent = takesContent
  }

  /// The response head is there: notes how long the endpoint took for it, where somebody wants to know.
  @inline(__always)
  final func noteResponse(to driver: ExchangeDriver, _ now: UInt64) {
    if cluster.timesResponses { endpoint.latency.observe(now &- min(now, driver.exchange.headDone), now: now) }
  }

  /// It has carried an earlier request, so that the upstream may have closed it meanwhile.
  var wasUsed: Bool { false }

  /// Gives it to that exchange; `tunnel`: octets pass unread.
  func attach(_ driver: ExchangeDriver, tunnel: Bool) {}
  /// Sends the head in the loop's scratch buffer, with `endStream` without a body (HTTP/2). False when it could not
  /// be sent; the exchange has been told then.
  func sendHead(endStream: Bool) -> Bool { true }
  func write(_ buffer: ByteBuffer) {}
  /// The request is complete (HTTP/2); `trailers`: field lines and an empty line, or nil.
  func endRequest(trailers: ByteBuffer?) {}
  func flush() {}
  /// The exchange no longer wants it.
  func abandon() {}
  /// The client's connection broke: so does this one.
  func reset() { abandon() }
  /// The client has ended in good order: what it sent still goes out.
  func finish() { abandon() }
  /// Ends our direction of a tunnel.
  func closeOutput() {}
  /// The client takes more again.
  func resumeReading() {}
  /// The socket under it.
  var channel: (any Channel)? { nil }
}
