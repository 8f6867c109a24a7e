import HTTP1
import NIOCore
import NIOPosix
import NIOSSL
import Synchronization
import Telemetry
import Traffic
import Vocabulary

#if canImport(Glibc)
  import Glibc
#else
  import Musl
#endif

/// One accepted connection that speaks HTTP/1.1: reads requests in order, one exchange at a time, and writes their
/// responses. TCP streams are its too.
final class DownstreamHandler: ExchangeDriver, ChannelDuplexHandler, RemovableChannelHandler {
  typealias InboundIn = ByteBuffer
  typealias OutboundIn = ByteBuffer
  typealias OutboundOut = ByteBuffer

  /// Octets received and not yet used: a partial head, a body held until there is a connection, later requests.
  var input: ByteBuffer?
  var scanner = HeadScanner()
  var context: ChannelHandlerContext?
  private var isReadHeld = false
  var upstreamDirty = false
  var isProcessing = false
  var clientHalfClosed = false

  init(loop: LoopState, listener: LoopListener, session: TLSSession? = nil) {
    super.init(loop: loop, listener: listener, session: session, takesContent: false)
    accept.isTCP = listener.compiled.isTCP
  }

  /// Between two requests, with nothing received of the next.
  var isWaiting: Bool { phase == .head && exchange.started == 0 && input == nil }

  // MARK: Channel events

  func handlerAdded(context: ChannelHandlerContext) {
    self.context = context
    // After a handshake the connection is active already.
    if context.channel.isActive { channelActive(context: context) }
  }

  func channelActive(context: ChannelHandlerContext) {
    loop.downstreams[ObjectIdentifier(self)] = self
    if !accept.isCounted { listener.connectionsTotal.addAsOwner() }
    accept.isCounted = true
    listener.connectionsActive.add(1)
    listener.open.count.wrappingAdd(1, ordering: .relaxed)
    clientAddress = accept.client(of: context.channel)
    start(NIODeadline.now().uptimeNanoseconds)
  }

  func read(context: ChannelHandlerContext) {
    if holdsReading { isReadHeld = true } else { context.read() }
  }

  /// The fast side stops while the slow side cannot take more.
  private var holdsReading: Bool {
    switch phase {
    case .tunnel: return !(upstream?.isWritable ?? true)
    case .exchange:
      if let input, input.readableBytes > 0 { return true }
      if exchange.requestDone { return false }
      return upstream.map { !$0.isWritable } ?? true
    case .detecting, .head, .lingering, .closed: return false
    }
  }

  override func resumeReading() {
    if phase == .exchange, input != nil { process() }
    if isReadHeld, !holdsReading {
      isReadHeld = false
      context?.read()
    }
  }

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    var buffer = unwrapInboundIn(data)
    switch phase {
    case .tunnel:
      exchange.bytesIn += UInt64(buffer.readableBytes)
      upstream?.write(buffer)
      upstreamDirty = true
      progress(NIODeadline.now().uptimeNanoseconds)
    case .lingering, .closed: break
    case .head, .exchange:
      hold(&buffer)
      process()
    case .detecting:
      hold(&buffer)
      detect()
    }
  }

  /// Keeps what arrived behind what waits; octets that were used do not pile up in front of it.
  private func hold(_ buffer: inout ByteBuffer) {
    guard let used = input?.readerIndex else {
      input = buffer
      return
    }
    if used >= 16 << 10 { input?.discardReadBytes() }
    input?.writeBuffer(&buffer)
  }

  func channelReadComplete(context: ChannelHandlerContext) {
    if upstreamDirty {
      upstreamDirty = false
      upstream?.flush()
    }
  }

  func channelWritabilityChanged(context: ChannelHandlerContext) {
    isWritable = context.channel.isWritable
    if isWritable { upstream?.resumeReading() }
  }

  func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
    guard case .inputClosed = event as? ChannelEvent else { return }
    clientEnded()
  }

  /// The connection is no longer this handler's.
  func uncount() {
    loop.downstreams[ObjectIdentifier(self)] = nil
    listener.connectionsActive.add(-1)
    listener.open.count.wrappingSubtract(1, ordering: .relaxed)
    loop.wheel.remove(self)
  }

  func channelInactive(context: ChannelHandlerContext) {
    guard loop.downstreams[ObjectIdentifier(self)] != nil else { return }
    releaseGathered()
    uncount()
    let before = phase
    phase = .closed
    input = nil
    connectSerial += 1
    endEarly()
    let left = upstream
    upstream = nil
    if before == .tunnel, let left { releaseTunnel(left) } else { left?.abandon() }
    if before == .exchange {
      noteCut()
      finishExchange(NIODeadline.now().uptimeNanoseconds)
    } else if before == .tunnel {
      finishExchange(NIODeadline.now().uptimeNanoseconds)
    }
    self.context = nil
  }

  func errorCaught(context: ChannelHandlerContext, error: any Error) {
    // Without `close_notify` the client's half of a tunnel has still ended; the other half goes on.
    if phase == .tunnel, TLSEnd.isUnclean(error) { return }
    accept.wasReset = true
    context.close(promise: nil)
  }

  // MARK: What differs on the wire (`Downstream+Responses.swift`, `Accept/Downstream+TCP.swift`)

  override func noteBody() {
    exchange.framing = loop.request.framing
    exchange.body = BodyDecoder(exchange.framing)
    exchange.requestDone = exchange.body.isComplete
  }

  override func sendBody(on leg: UpstreamLeg) {
    if exchange.requestDone {
      leg.flush()
    } else if input != nil {
      forwardBody()
      if !exchange.requestDone { leg.flush() }
    } else {
      leg.flush()
    }
  }

  override func replayBody(on leg: UpstreamLeg) {
    replay(on: leg)
  }

  override func interim(_ head: ByteBuffer) {
    guard exchange.minorVersion == 1 else { return }
    writeHead(head, edits: nil, persistence: .silent, unchunks: false, upgrades: false)
    flush()
  }
  override func responseHead(_ head: ByteBuffer, _ framing: BodyFraming, first: ByteBuffer?, _ now: UInt64) {
    passHead(head, framing, first: first, now)
  }
  override func responseBody(_ slice: ByteBuffer, ends: Bool) {
    exchange.bytesOut += UInt64(slice.readableBytes)
    write(slice)
    if !isWritable { flush() }
  }
  override func responseEnded(delimited: Bool) { passEnd(delimited: delimited) }
  override func answer(status: Int, fields: [UInt8], body: [UInt8]) {
    writeAnswer(status: status, fields: fields, body: body)
  }
  override func upgraded(_ head: ByteBuffer, _ now: UInt64) { passUpgrade(head, now) }
  override func beginTCPTunnel(_ leg: UpstreamLeg) {
    exchange.responseStarted = true
    phase = .tunnel
    enterTunnel(NIODeadline.now().uptimeNanoseconds)
    leg.flush()
  }
  override func beginConnectTunnel(_ leg: UpstreamLeg) { connectEstablished(leg) }
  override func tunnelFromUpstream(_ buffer: ByteBuffer) {
    if phase == .detecting { serverSpoke() }
    exchange.bytesOut += UInt64(buffer.readableBytes)
    write(buffer)
    progress(NIODeadline.now().uptimeNanoseconds)
  }
  override func upstreamHalfClosed() {
    if phase == .detecting { serverSpoke() }
    endOutput()
  }
  override func tunnelEnded(wasReset: Bool) { endTunnel(wasReset: wasReset) }
  override var clientChannel: (any Channel)? { context?.channel }
  override func earlyConnected(_ opened: UpstreamLeg) { takeEarly(opened) }
  override func earlyConnectFailed(_ now: UInt64) { earlyFailed(now) }

  // MARK: Time

  override func outputMoves() -> Bool { streamMoves() }

  override func deadlinePassed(_ now: UInt64) {
    switch phase {
    case .head:
      if exchange.started == 0 { return closeNow() }
      makeIdentifiers()
      phase = .exchange
      loop.shared.addInFlight(listener.compiled.direction, 1)
      exchange.requestDone = false
      localError(.requestTimeout, detail: "the request head did not arrive in time")
    case .exchange: exchangeDeadlinePassed(now)
    case .tunnel:
      if outputMoves() { return progress(now) }
      exchange.flag = "SI"
      closeNow()
    case .lingering:
      if outputMoves() { loop.wheel.set(self, now &+ listener.compiled.idleTimeout, now: now) } else { closeNow() }
    case .detecting: detectionTimePassed(now)
    case .closed: break
    }
  }

  // MARK: Ending

  func write(_ buffer: ByteBuffer) {
    if session == nil { context?.write(wrapOutboundOut(buffer), promise: nil) } else { gather(buffer) }
  }

  override func flush() {
    if session != nil { releaseGathered() }
    context?.flush()
  }

  override func closeNow() {
    guard phase != .closed, let context else { return }
    context.close(promise: nil)
  }

  func releaseHeldRead() {
    if isReadHeld {
      isReadHeld = false
      context?.read()
    }
  }

  override func cut() {
    guard let context else { return }
    phase = .lingering
    _ = (context.channel as? any SocketOptionProvider)?.setSoLinger(linger(l_onoff: 1, l_linger: 0))
    // Past TLS, whose `close_notify` would say that this is the regular end.
    if session != nil, let engine = try? context.pipeline.syncOperations.context(handlerType: NIOSSLServerHandler.self)
    {
      engine.close(promise: nil)
    } else {
      context.close(promise: nil)
    }
  }
}
