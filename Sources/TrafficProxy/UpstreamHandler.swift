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

/// One HTTP/1.1 connection to an upstream, or one that passes octets. Reads responses and hands them to the exchange it is attached to.
final class UpstreamHandler: UpstreamLeg, ChannelDuplexHandler, RemovableChannelHandler {
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

  private(set) var state = State.idle
  private(set) var served = 0
  private(set) var context: ChannelHandlerContext?
  private var partial: ByteBuffer?
  private var scanner = HeadScanner()
  /// 1xx responses to the request in hand; an upstream that sends them without end is cut off.
  private var interims = 0
  private static let interimLimit = 100
  private var body = BodyDecoder(.none)
  /// The trailer section so far, where somebody needs it apart.
  private var trailers = ByteBuffer()
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
    super.init(loop: loop, cluster: cluster, endpoint: endpoint, takesContent: false)
  }

  // MARK: What the exchange asks

  var isUsable: Bool { state == .idle && !inputClosed }
  override var wasUsed: Bool { served > 0 }

  override var channel: (any Channel)? { context?.channel }

  override func attach(_ driver: ExchangeDriver, tunnel: Bool) {
    self.driver = driver
    // Stays linked: a deadline that never comes costs less than leaving the wheel for every request.
    loop.wheel.set(self, .max, now: 0)
    endpoint.active += 1
    isCounted = true
    scanner = HeadScanner()
    interims = 0
    state = tunnel ? .tunnel : .head
    if tunnel { allowHalfClosure() }
  }

  override func write(_ buffer: ByteBuffer) { context?.write(wrapOutboundOut(buffer), promise: nil) }
  override func flush() { context?.flush() }

  /// The exchange no longer wants this connection: close it.
  override func abandon() {
    driver = nil
    close()
  }

  func close() {
    guard state != .dead else { return }
    state = .dead
    uncount()
    loop.wheel.remove(self)
    context?.close(promise: nil)
  }

  /// Another handler speaks on this connection from now on, and counts it out when it closes.
  func leave() {
    guard let context else { return }
    // A connect may be told of before the channel says that it is active.
    countOpen()
    state = .dead
    loop.wheel.remove(self)
    self.context = nil
    context.pipeline.syncOperations.removeHandler(context: context, promise: nil)
  }

  override func closeOutput() {
    guard !outputEnded else { return }
    outputEnded = true
    context?.endOutput(inputEnded: inputClosed)
  }

  /// The client has ended in good order: what it sent still goes out, then the connection ends.
  override func finish() {
    guard state != .dead else { return }
    driver = nil
    state = .dead
    uncount()
    inputClosed = true
    let now = NIODeadline.now().uptimeNanoseconds
    loop.wheel.set(self, now &+ 60_000_000_000, now: now)
    closeOutput()
  }

  /// The client's connection broke: so does this one.
  override func reset() {
    _ = (context?.channel as? any SocketOptionProvider)?.setSoLinger(linger(l_onoff: 1, l_linger: 0))
    abandon()
  }

  /// A connection that was opened before anybody spoke is kept for a request.
  func unattach(_ now: UInt64) {
    driver = nil
    guard state == .tunnel, !inputClosed else { return close() }
    try? context?.channel.syncOptions?.setOption(.allowRemoteHalfClosure, value: false)
    release(now: now)
  }

  override func resumeReading() {
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
    if endpoint.isGone { return close() }
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

  func channelActive(context: ChannelHandlerContext) { countOpen() }

  private func countOpen() {
    guard !wasOpen else { return }
    wasOpen = true
    cluster.connectionsTotal.addAsOwner()
    cluster.connectionsActive.add(1)
  }

  func read(context: ChannelHandlerContext) {
    if let driver, !driver.isWritable { isReadHeld = true } else { context.read() }
  }

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    var buffer = unwrapInboundIn(data)
    if state == .tunnel {
      driver?.tunnelFromUpstream(buffer)
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
      driver?.flush()
    }
  }

  func channelWritabilityChanged(context: ChannelHandlerContext) {
    isWritable = context.channel.isWritable
    if isWritable { driver?.resumeReading() }
  }

  func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
    if case .inputClosed = event as? ChannelEvent, state == .tunnel {
      inputClosed = true
      driver?.upstreamHalfClosed()
    }
  }

  func channelInactive(context: ChannelHandlerContext) {
    cluster.connectionsActive.add(-1)
    cluster.shared.connections.wrappingSubtract(1, ordering: .relaxed)
    let before = state
    let ended = driver
    state = .dead
    driver = nil
    uncount()
    loop.wheel.remove(self)
    switch before {
    case .idle: forget()
    case .head:
      ended?.upstreamLost(
        tlsFailure?.fault ?? .connectionReset,
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
    driver?.responseByteSeen()
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
      guard let head = buffer.readSlice(length: length), let driver else { return close() }
      handle(head, &buffer, driver, now)
    }
  }

  private func handle(
    _ head: ByteBuffer, _ buffer: inout ByteBuffer, _ driver: ExchangeDriver, _ now: UInt64
  ) {
    let status = loop.response.status
    if status == 101 {
      guard driver.exchange.wantsUpgrade else { return protocolError("101 without a request to upgrade") }
      becomeTunnel()
      driver.upgraded(head, now)
      if buffer.readableBytes > 0 { driver.tunnelFromUpstream(buffer) }
      buffer = ByteBuffer()
      driver.flush()
      return
    }
    if status < 200 {
      interims += 1
      guard interims <= Self.interimLimit else {
        return protocolError("more than \(Self.interimLimit) informational responses to one request")
      }
      return driver.interim(head)
    }
    let framing = loop.response.framing(for: driver.exchange.method)
    body = BodyDecoder(framing)
    keepsAlive = loop.response.keepsAlive && !body.endsWithConnection
    served += 1
    noteResponse(to: driver, now)
    if driver.withholds(head, status: status) {
      // The next try begins on another connection; this one is not worth reading to its end.
      let reason = driver.reasonToWithhold(head, status: status)
      self.driver = nil
      close()
      driver.tryFailed(reason, .upstreamProtocol, detail: "")
      return
    }
    state = .body
    let first = driver.takesContent || driver.exchange.minorVersion == 0 ? nil : takeFirst(&buffer)
    driver.responseHead(head, framing, first: first, now)
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
    guard let driver else { return close() }
    do {
      if driver.takesContent || driver.exchange.unchunks {
        try passContent(&buffer, to: driver)
        if self.driver !== driver { return }
      } else {
        let taken = try buffer.withUnsafeReadableBytes { try body.consume($0) }
        if taken == buffer.readableBytes {
          driver.responseBody(buffer, ends: false)
          buffer = ByteBuffer()
        } else if let slice = buffer.readSlice(length: taken) {
          driver.responseBody(slice, ends: false)
        }
      }
    } catch {
      self.driver = nil
      close()
      driver.upstreamCutBody()
      return
    }
    if body.isComplete {
      finish(now)
    } else {
      dirty = true
      driver.progress(now)
    }
  }

  /// Hands over content without its framing, and the trailers behind it.
  private func passContent(_ buffer: inout ByteBuffer, to driver: ExchangeDriver) throws {
    var decoder = body
    guard decoder.isChunked else {
      let taken = try buffer.withUnsafeReadableBytes { try decoder.consume($0) }
      body = decoder
      if let slice = buffer.readSlice(length: taken) { driver.responseBody(slice, ends: decoder.isComplete) }
      return
    }
    let source = buffer
    var lines = trailers
    let taken = try buffer.withUnsafeReadableBytes { bytes in
      try decoder.consume(bytes) { range in
        guard let piece = source.getSlice(at: source.readerIndex + range.lowerBound, length: range.count) else {
          return
        }
        driver.responseBody(piece, ends: false)
      } trailer: { range in
        lines.writeBytes(UnsafeRawBufferPointer(rebasing: bytes[range]))
      }
    }
    body = decoder
    trailers = lines
    buffer.moveReaderIndex(forwardBy: taken)
    guard body.isComplete else { return }
    // More than the empty line at its end.
    if trailers.readableBytes > 2 { driver.responseTrailers(trailers) }
    trailers = ByteBuffer()
  }

  private func finish(_ now: UInt64) {
    guard let driver else { return close() }
    self.driver = nil
    dirty = false
    let limit = cluster.shared.configuration.maxRequestsPerConnection ?? .max
    if keepsAlive, !inputClosed, driver.exchange.requestDone, served < limit {
      release(now: now)
    } else {
      close()
    }
    driver.exchange.lastRead = loop.turnBegan
    driver.responseEnded(delimited: true)
  }

  private func protocolError(_ detail: String) {
    let ended = driver
    driver = nil
    close()
    ended?.tryFailed(.reset, .upstreamProtocol, detail: detail)
  }
}
