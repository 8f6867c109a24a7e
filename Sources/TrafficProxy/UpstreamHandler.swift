import HTTP1
import NIOCore
import NIOPosix
import Synchronization
import Telemetry
import Traffic

#if canImport(Glibc)
  import Glibc
#else
  import Musl
#endif

/// One connection to an upstream. Reads responses and hands them to the exchange it is attached to.
final class UpstreamHandler: Timed, ChannelDuplexHandler {
  typealias InboundIn = ByteBuffer
  typealias OutboundIn = ByteBuffer
  typealias OutboundOut = ByteBuffer

  enum State {
    /// In the pool, or not yet used; any octet is an error. Next: head, tunnel, dead.
    case idle
    /// A request was sent; the response head is to come. Next: body, tunnel, idle, dead.
    case head
    /// Inside a response body. Next: idle, dead.
    case body
    /// Octets pass unread both ways. Next: dead.
    case tunnel
    /// Closed or closing; nothing is read any more.
    case dead
  }

  let loop: LoopState
  let cluster: LoopCluster
  let endpoint: LoopEndpoint
  private(set) var state = State.idle
  private(set) var served = 0
  private(set) var context: ChannelHandlerContext?
  private var downstream: DownstreamHandler?
  private var partial: ByteBuffer?
  private var scanner = HeadScanner()
  /// 1xx responses to the request in hand; an upstream that sends them without end is cut off.
  private var interims = 0
  private static let interimLimit = 100
  private var body = BodyDecoder(.none)
  private var keepsAlive = true
  private var isCounted = false
  private var isReadHeld = false
  private var dirty = false
  private var inputClosed = false
  /// The connection came about: it counts itself out when it closes.
  private(set) var wasOpen = false
  /// What TLS said before the connection closed.
  private var tlsFailure: TLSFailure?
  /// TLS ended without `close_notify`: somebody may have cut the connection.
  private var endedUncleanly = false
  private var outputEnded = false
  private var wasReset = false
  private var acknowledged: UInt64 = 0
  /// What the connection began with, and so whose it is; nil = anybody's.
  var proxyHeader: [UInt8]?

  init(loop: LoopState, cluster: LoopCluster, endpoint: LoopEndpoint) {
    self.loop = loop
    self.cluster = cluster
    self.endpoint = endpoint
  }

  // MARK: What the downstream asks

  var isUsable: Bool { state == .idle && !inputClosed }
  /// The channel's own word, kept from its last change.
  private(set) var isWritable = true
  /// The connection has carried an earlier request.
  var wasUsed: Bool { served > 0 }

  func attach(_ downstream: DownstreamHandler, tunnel: Bool = false) {
    self.downstream = downstream
    // Stays linked: a deadline that never comes costs less than leaving the wheel for every request.
    loop.wheel.set(self, .max, now: 0)
    endpoint.active += 1
    isCounted = true
    scanner = HeadScanner()
    interims = 0
    state = tunnel ? .tunnel : .head
    if tunnel { allowHalfClosure() }
  }

  func write(_ buffer: ByteBuffer) { context?.write(wrapOutboundOut(buffer), promise: nil) }
  func flush() { context?.flush() }

  /// The exchange no longer wants this connection: close it.
  func abandon() {
    downstream = nil
    close()
  }

  func close() {
    guard state != .dead else { return }
    state = .dead
    uncount()
    loop.wheel.remove(self)
    context?.close(promise: nil)
  }

  func closeOutput() {
    guard !outputEnded else { return }
    outputEnded = true
    context?.endOutput(inputEnded: inputClosed)
  }

  /// The client has ended in good order: what it sent still goes out, then the connection ends.
  func finish() {
    guard state != .dead else { return }
    downstream = nil
    state = .dead
    uncount()
    inputClosed = true
    let now = NIODeadline.now().uptimeNanoseconds
    loop.wheel.set(self, now &+ 60_000_000_000, now: now)
    closeOutput()
  }

  /// The client's connection broke: so does this one.
  func reset() {
    _ = (context?.channel as? any SocketOptionProvider)?.setSoLinger(linger(l_onoff: 1, l_linger: 0))
    abandon()
  }

  /// A connection that was opened before anybody spoke is kept for a request.
  func unattach(_ now: UInt64) {
    downstream = nil
    guard state == .tunnel, !inputClosed else { return close() }
    try? context?.channel.syncOptions?.setOption(.allowRemoteHalfClosure, value: false)
    release(now: now)
  }

  func resumeReading() {
    if isReadHeld {
      isReadHeld = false
      context?.read()
    }
  }

  func becomeTunnel() {
    state = .tunnel
    allowHalfClosure()
  }

  private func allowHalfClosure() {
    try? context?.channel.syncOptions?.setOption(.allowRemoteHalfClosure, value: true)
  }

  private func uncount() {
    if isCounted {
      isCounted = false
      endpoint.active -= 1
    }
  }

  /// Puts the connection among the kept ones.
  func release(now: UInt64) {
    state = .idle
    uncount()
    endpoint.idle.append(self)
    loop.wheel.set(self, now &+ cluster.poolIdle, now: now)
  }

  override func deadlinePassed(_ now: UInt64) {
    if state == .dead {
      // Ending: cut once nothing moves any more.
      var left = Outflow()
      if let channel = context?.channel { left.add(channel) }
      let moves = left.isPending && left.acknowledged != acknowledged
      acknowledged = left.acknowledged
      if moves { loop.wheel.set(self, now &+ 60_000_000_000, now: now) } else { context?.close(promise: nil) }
    }
    guard state == .idle else { return }
    forget()
    close()
  }

  private func forget() {
    if let index = endpoint.idle.lastIndex(where: { $0 === self }) { endpoint.idle.remove(at: index) }
  }

  // MARK: Channel events

  func handlerAdded(context: ChannelHandlerContext) { self.context = context }

  func channelActive(context: ChannelHandlerContext) {
    wasOpen = true
    cluster.connectionsTotal.addAsOwner()
    cluster.connectionsActive.add(1)
  }

  func read(context: ChannelHandlerContext) {
    if let downstream, !downstream.isWritable { isReadHeld = true } else { context.read() }
  }

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    var buffer = unwrapInboundIn(data)
    if state == .tunnel {
      downstream?.tunnelFromUpstream(buffer)
      dirty = true
      return
    }
    let now = NIODeadline.now().uptimeNanoseconds
    if state == .head { readHead(&buffer, now) }
    if state == .body, buffer.readableBytes > 0 { readBody(&buffer, now) }
    if state == .idle, buffer.readableBytes > 0 {
      // Octets that nobody asked for: the connection cannot be trusted.
      forget()
      close()
    }
  }

  func channelReadComplete(context: ChannelHandlerContext) {
    if dirty {
      dirty = false
      downstream?.flush()
    }
  }

  func channelWritabilityChanged(context: ChannelHandlerContext) {
    isWritable = context.channel.isWritable
    if isWritable { downstream?.resumeReading() }
  }

  func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
    if case .inputClosed = event as? ChannelEvent, state == .tunnel {
      inputClosed = true
      downstream?.upstreamHalfClosed()
    }
  }

  func channelInactive(context: ChannelHandlerContext) {
    cluster.connectionsActive.add(-1)
    cluster.shared.connections.wrappingSubtract(1, ordering: .relaxed)
    let before = state
    let ended = downstream
    state = .dead
    downstream = nil
    uncount()
    loop.wheel.remove(self)
    switch before {
    case .idle: forget()
    case .head:
      ended?.upstreamLost(
        self, tlsFailure?.fault ?? .connectionReset,
        detail: tlsFailure?.detail ?? "connection closed before a response head")
    case .body:
      // RFC 9112 section 9.8: in TLS, only `close_notify` ends such a body.
      if body.endsWithConnection, !endedUncleanly {
        ended?.responseEnded(delimited: false)
      } else {
        ended?.upstreamCutBody()
      }
    case .tunnel: ended?.tunnelEnded(wasReset: wasReset)
    case .dead: break
    }
    self.context = nil
  }

  func errorCaught(context: ChannelHandlerContext, error: any Error) {
    if TLSEnd.isUnclean(error) {
      endedUncleanly = true
      // The other direction of a tunnel may still have something to say.
      if state == .tunnel { return }
    } else {
      wasReset = true
      tlsFailure = TLSFailure(upstream: error)
    }
    context.close(promise: nil)
  }

  // MARK: Responses

  private func readHead(_ buffer: inout ByteBuffer, _ now: UInt64) {
    if var held = partial {
      partial = nil
      held.writeBuffer(&buffer)
      buffer = held
    }
    downstream?.responseByteSeen()
    while state == .head, buffer.readableBytes > 0 {
      let length: Int
      do {
        guard let found = try buffer.withUnsafeReadableBytes({ try scanner.scan($0, limits: loop.limits) }) else {
          partial = buffer
          buffer = ByteBuffer()
          return
        }
        length = found
        try buffer.withUnsafeReadableBytes {
          try loop.response.parse(UnsafeRawBufferPointer(rebasing: $0[..<length]))
        }
      } catch {
        return protocolError((error as? HeadError)?.reason ?? "the response head is not valid")
      }
      scanner = HeadScanner()
      guard let head = buffer.readSlice(length: length), let downstream else { return close() }
      handle(head, &buffer, downstream, now)
    }
  }

  private func handle(
    _ head: ByteBuffer, _ buffer: inout ByteBuffer, _ downstream: DownstreamHandler, _ now: UInt64
  ) {
    let status = loop.response.status
    if status == 101 {
      guard downstream.exchange.wantsUpgrade else { return protocolError("101 without a request to upgrade") }
      becomeTunnel()
      downstream.upgraded(head, now)
      if buffer.readableBytes > 0 { downstream.tunnelFromUpstream(buffer) }
      buffer = ByteBuffer()
      downstream.flush()
      return
    }
    if status < 200 {
      interims += 1
      guard interims <= Self.interimLimit else {
        return protocolError("more than \(Self.interimLimit) informational responses to one request")
      }
      return downstream.interim(head)
    }
    let framing = loop.response.framing(for: downstream.exchange.method)
    body = BodyDecoder(framing)
    keepsAlive = loop.response.keepsAlive && !body.endsWithConnection
    served += 1
    if downstream.withholds(status: status) {
      // The next try begins on another connection; this one is not worth reading to its end.
      self.downstream = nil
      close()
      downstream.tryFailed(.status(status), .upstreamProtocol, detail: "")
      return
    }
    state = .body
    let first = downstream.exchange.minorVersion == 0 ? nil : takeFirst(&buffer)
    downstream.responseHead(head, framing, first: first, now)
    if body.isComplete {
      finish(now)
    } else if buffer.readableBytes > 0 {
      readBody(&buffer, now)
    } else {
      dirty = true
    }
  }

  /// What came of the body together with its head; nil when there is none, or when its framing is not to be trusted
  /// (`readBody` looks at it again).
  private func takeFirst(_ buffer: inout ByteBuffer) -> ByteBuffer? {
    if buffer.readableBytes == 0 || body.isComplete { return nil }
    var probe = body
    guard let taken = try? buffer.withUnsafeReadableBytes({ try probe.consume($0) }) else { return nil }
    body = probe
    return buffer.readSlice(length: taken)
  }

  private func readBody(_ buffer: inout ByteBuffer, _ now: UInt64) {
    guard let downstream else { return close() }
    do {
      if downstream.exchange.unchunks {
        var pieces: [Range<Int>] = []
        let taken = try buffer.withUnsafeReadableBytes { try body.consume($0) { pieces.append($0) } }
        for piece in pieces {
          if let slice = buffer.getSlice(at: buffer.readerIndex + piece.lowerBound, length: piece.count) {
            downstream.responseBody(slice)
          }
        }
        buffer.moveReaderIndex(forwardBy: taken)
      } else {
        let taken = try buffer.withUnsafeReadableBytes { try body.consume($0) }
        if taken == buffer.readableBytes {
          downstream.responseBody(buffer)
          buffer = ByteBuffer()
        } else if let slice = buffer.readSlice(length: taken) {
          downstream.responseBody(slice)
        }
      }
    } catch {
      self.downstream = nil
      close()
      downstream.upstreamCutBody()
      return
    }
    if body.isComplete {
      finish(now)
    } else {
      dirty = true
      downstream.progress(now)
    }
  }

  private func finish(_ now: UInt64) {
    guard let downstream else { return close() }
    self.downstream = nil
    dirty = false
    let limit = cluster.shared.configuration.maxRequestsPerConnection ?? .max
    if keepsAlive, !inputClosed, downstream.exchange.requestDone, served < limit {
      release(now: now)
    } else {
      close()
    }
    downstream.responseEnded(delimited: true)
  }

  private func protocolError(_ detail: String) {
    let ended = downstream
    downstream = nil
    close()
    ended?.tryFailed(.reset, .upstreamProtocol, detail: detail)
  }
}
