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

/// One accepted connection: reads requests in order, one exchange at a time, and writes their responses.
final class DownstreamHandler: Timed, ChannelDuplexHandler {
  typealias InboundIn = ByteBuffer
  typealias OutboundIn = ByteBuffer
  typealias OutboundOut = ByteBuffer

  enum Phase {
    /// `protocol: auto`, and nobody has spoken. Next: head, exchange, tunnel, closed.
    case detecting
    /// Between requests or inside a request head. Next: exchange, lingering, closed.
    case head
    /// A request is being answered. Next: head, tunnel, lingering, closed.
    case exchange
    /// Octets pass unread both ways. Next: closed.
    case tunnel
    /// Everything was answered and our side is closed; waits for the client to close. Next: closed.
    case lingering
    case closed
  }

  let loop: LoopState
  let listener: LoopListener
  /// Nil = plaintext.
  let session: TLSSession?
  var phase = Phase.head
  var exchange = Exchange()
  var upstream: UpstreamHandler?
  /// Octets received and not yet used: a partial head, a body held until there is a connection, later requests.
  var input: ByteBuffer?
  var scanner = HeadScanner()
  var context: ChannelHandlerContext?
  /// Tells a connect that ends whether its exchange still waits for it.
  var connectSerial = 0
  var isConnecting = false
  var forcesNewConnection = false
  /// The loop's parse is still of this exchange's head; false once other connections may have been served.
  var isHeadParsed = false
  var failedEndpoint: LoopEndpoint?
  var backoffUntil: UInt64 = 0
  var tryDeadline = UInt64.max
  var clientAddress: [UInt8] = []
  var accept = AcceptState()
  /// The channel's own word, kept from its last change.
  private(set) var isWritable = true
  private var isReadHeld = false
  private var upstreamDirty = false
  private var isProcessing = false
  var clientHalfClosed = false

  init(loop: LoopState, listener: LoopListener, session: TLSSession? = nil) {
    self.loop = loop
    self.listener = listener
    self.session = session
    accept.isTCP = listener.compiled.isTCP
  }

  var isInbound: Bool { listener.compiled.isInbound }
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
    listener.connectionsTotal.addAsOwner()
    listener.connectionsActive.add(1)
    listener.open.count.wrappingAdd(1, ordering: .relaxed)
    clientAddress = namedClient(context.channel)
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

  func resumeReading() {
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

  func channelInactive(context: ChannelHandlerContext) {
    loop.downstreams[ObjectIdentifier(self)] = nil
    releaseGathered()
    listener.connectionsActive.add(-1)
    listener.open.count.wrappingSubtract(1, ordering: .relaxed)
    loop.wheel.remove(self)
    let before = phase
    phase = .closed
    input = nil
    connectSerial += 1
    endEarly()
    let left = upstream
    upstream = nil
    if before == .tunnel, let left { releaseTunnel(left) } else { left?.abandon() }
    if before == .exchange {
      if exchange.flag.utf8CodeUnitCount == 0 {
        exchange.flag = "DC"
        exchange.blame = .client
      }
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

  // MARK: Requests

  /// Takes what `input` holds as far as it can be taken now.
  func process() {
    if isProcessing { return }
    isProcessing = true
    defer { isProcessing = false }
    while let buffer = input {
      if buffer.readableBytes == 0 {
        input = nil
        return
      }
      switch phase {
      case .head: if !readHead() { return }
      case .exchange:
        if exchange.requestDone || upstream == nil || isConnecting { return }
        forwardBody()
        if !exchange.requestDone || phase == .exchange { return }
      case .detecting, .tunnel, .lingering, .closed:
        input = nil
        return
      }
    }
  }

  /// False when more octets are needed.
  private func readHead() -> Bool {
    guard var buffer = input else { return false }
    let now = NIODeadline.now().uptimeNanoseconds
    let length: Int
    do {
      let blank = buffer.withUnsafeReadableBytes { HeadScanner.leadingBlank($0) }
      if blank > 0, exchange.started == 0 {
        buffer.moveReaderIndex(forwardBy: blank)
        input = buffer
        if buffer.readableBytes == 0 { return false }
      }
      if buffer.readableBytes == 1, buffer.getInteger(at: buffer.readerIndex, as: UInt8.self) == 13 { return false }
      if exchange.started == 0 {
        exchange.started = now
        loop.wheel.set(self, now &+ listener.compiled.headTimeout, now: now)
      }
      guard let found = try buffer.withUnsafeReadableBytes({ try scanner.scan($0, limits: loop.limits) }) else {
        return false
      }
      length = found
      try buffer.withUnsafeReadableBytes { try loop.request.parse(UnsafeRawBufferPointer(rebasing: $0[..<length])) }
    } catch {
      let why = error as? HeadError ?? .invalidMethod
      makeIdentifiers()
      let fault: Fault =
        why.status == 431 ? .headTooLarge : why == .unsupportedVersion ? .versionNotSupported : .badRequest
      phase = .exchange
      loop.shared.addInFlight(listener.compiled.direction, 1)
      exchange.requestDone = false
      localError(fault, detail: why.reason)
      return false
    }
    scanner = HeadScanner()
    guard let head = buffer.readSlice(length: length) else { return false }
    input = buffer.readableBytes > 0 ? buffer : nil
    begin(head, now)
    return phase == .head || phase == .exchange
  }

  func makeIdentifiers() {
    exchange.requestID = (loop.random.next(), loop.random.next())
    exchange.traceID = (loop.random.next(), loop.random.next() | 1)
  }

  private func begin(_ head: ByteBuffer, _ now: UInt64) {
    phase = .exchange
    loop.shared.addInFlight(listener.compiled.direction, 1)
    exchange.head = head
    exchange.headDone = now
    makeIdentifiers()
    takeRequest()
    let isConnect = if case .connect = exchange.method { true } else { false }
    // A client may send the tunnel's octets ahead: after a refusal they must not be read as requests.
    if isConnect { exchange.keepsAlive = false }
    guard !isConnect || listener.compiled.forwardPolicy != nil else {
      return localError(.connectRefusedByPolicy, detail: "CONNECT is not allowed on this listener")
    }
    let chosen = isConnect ? nil : head.withUnsafeReadableBytes { chooseRoute($0) }
    guard let route = chosen.map({ listener.routes[$0] }) ?? accept.original ?? destinationRoute(now) else { return }
    exchange.route = route
    if case .reply(let status, let fields, let body) = route.compiled.action {
      return reply(status: status, fields: fields, body: body)
    }
    guard let cluster = route.cluster else {
      return localError(.noEndpoint, detail: "the cluster `\(route.compiled.clusterName)` is not configured")
    }
    exchange.countsAsRequest = true
    let active = cluster.shared.requests.wrappingAdd(1, ordering: .relaxed).newValue
    if active > cluster.shared.configuration.maxRequests {
      return localError(.overflow, detail: "the cluster has \(active - 1) requests in flight, its limit")
    }
    if exchange.requestDone { requestCompleted(now) } else { schedule(now) }
    if !exchange.requestDone, exchange.tries.isIdempotent { exchange.replay = ByteBuffer() }
    isHeadParsed = true
    startTry(now)
    isHeadParsed = false
  }

  /// Notes what the parsed head says.
  private func takeRequest() {
    exchange.method = loop.request.method
    exchange.methodText = loop.request.methodText
    exchange.path = loop.request.path
    exchange.pathOnlyCount = loop.request.pathOnlyCount
    exchange.minorVersion = loop.request.minorVersion
    exchange.keepsAlive = loop.request.keepsAlive
    exchange.wantsUpgrade = loop.request.wantsUpgrade
    exchange.body = BodyDecoder(loop.request.framing)
    exchange.requestDone = exchange.body.isComplete
    exchange.tries.isIdempotent = exchange.method.isIdempotent && !exchange.wantsUpgrade
    exchange.bytesIn = UInt64(exchange.head.readableBytes)
    let identifier = loop.request.table.value(loop.request.table.requestID)
    if identifier.count <= 128 { exchange.requestIDText = identifier }
    let trace = loop.request.table.value(loop.request.table.traceparent)
    // 2 hex - 32 hex - 16 hex - 2 hex (W3C Trace Context section 3.2).
    if trace.count >= 55 { exchange.traceIDText = OctetRange(trace.start + 3, 32) }
    exchange.acceptText = loop.request.table.value(loop.request.table.accept)
  }

  private func chooseRoute(_ bytes: UnsafeRawBufferPointer) -> Int? {
    let authority =
      loop.request.authority.count > 0
      ? loop.request.authority : loop.request.table.value(loop.request.table.host)
    var host = authority.of(bytes)
    if let colon = host.lastIndex(of: 0x3A), !host[colon...].contains(0x5D) {
      host = UnsafeRawBufferPointer(rebasing: host[..<colon])
    }
    let path = UnsafeRawBufferPointer(rebasing: loop.request.path.of(bytes)[..<loop.request.pathOnlyCount])
    return listener.compiled.table.match(
      RouteQuery(host: host, path: path, method: loop.request.methodText.of(bytes))
    ) { [loop] name in loop.request.table.first(named: name, bytes)?.value.of(bytes) }
  }

  func requestCompleted(_ now: UInt64) {
    let timeout = exchange.route?.compiled.timeout ?? 0
    exchange.routeDeadline = timeout == 0 ? .max : now &+ timeout
    schedule(now)
  }

  /// Sends body octets on, untouched.
  func forwardBody() {
    guard var buffer = input, let upstream else { return }
    let now = NIODeadline.now().uptimeNanoseconds
    let taken: Int
    do {
      taken = try buffer.withUnsafeReadableBytes { try exchange.body.consume($0) }
    } catch {
      let why = error as? HeadError ?? .invalidChunkSize
      return localError(.badRequest, detail: why.reason)
    }
    guard let slice = buffer.readSlice(length: taken) else { return }
    input = buffer.readableBytes > 0 ? buffer : nil
    exchange.bytesIn += UInt64(taken)
    keepForReplay(slice)
    upstream.write(slice)
    upstreamDirty = true
    if exchange.body.isComplete {
      exchange.requestDone = true
      upstreamDirty = false
      upstream.flush()
      if !exchange.responseStarted { requestCompleted(now) }
    } else {
      if !upstream.isWritable { upstream.flush() }
      progress(now)
    }
  }

  private func keepForReplay(_ slice: ByteBuffer) {
    guard let kept = exchange.replay?.readableBytes else {
      exchange.tries.bodyKept = exchange.tries.bodyKept && slice.readableBytes == 0
      return
    }
    if kept + slice.readableBytes > loop.replayLimit {
      exchange.replay = nil
      exchange.tries.bodyKept = false
    } else {
      var copy = slice
      exchange.replay?.writeBuffer(&copy)
    }
  }

  // MARK: Time

  /// Something moved: the idle timeout begins anew.
  func progress(_ now: UInt64) {
    if phase == .tunnel || exchange.responseStarted || !exchange.requestDone {
      loop.wheel.set(self, now &+ listener.compiled.idleTimeout, now: now)
    }
  }

  /// Sets the deadline of an exchange that waits for a response head.
  func schedule(_ now: UInt64) {
    var deadline = min(exchange.routeDeadline, tryDeadline)
    if backoffUntil > 0 { deadline = min(deadline, backoffUntil) }
    if !exchange.requestDone { deadline = min(deadline, now &+ listener.compiled.idleTimeout) }
    loop.wheel.set(self, deadline, now: now)
  }

  override func deadlinePassed(_ now: UInt64) {
    switch phase {
    case .head:
      if exchange.started == 0 { return closeNow() }
      makeIdentifiers()
      phase = .exchange
      loop.shared.addInFlight(listener.compiled.direction, 1)
      exchange.requestDone = false
      localError(.requestTimeout, detail: "the request head did not arrive in time")
    case .exchange:
      if exchange.responseStarted {
        if outputMoves() { return progress(now) }
        exchange.flag = "SI"
        exchange.blame = .upstream
        return abort()
      }
      if now >= exchange.routeDeadline { return localError(.routeTimeout, detail: "no response head in time") }
      if backoffUntil > 0, now >= backoffUntil {
        backoffUntil = 0
        return startTry(now)
      }
      if now >= tryDeadline {
        let slow = upstream
        upstream = nil
        slow?.abandon()
        return tryFailed(.timeout, .tryTimeout, detail: "no response head within the per-try timeout")
      }
      if !exchange.requestDone {
        if !accept.isTCP, outputMoves() { return schedule(now) }
        return localError(.streamIdle, detail: "the request body made no progress")
      }
      schedule(now)
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

  func flush() {
    if session != nil { releaseGathered() }
    context?.flush()
  }

  func closeNow() {
    guard phase != .closed, let context else { return }
    context.close(promise: nil)
  }

  func releaseHeldRead() {
    if isReadHeld {
      isReadHeld = false
      context?.read()
    }
  }

  /// A response that cannot be finished: the client must notice.
  func abort() {
    let left = upstream
    upstream = nil
    left?.abandon()
    finishExchange(NIODeadline.now().uptimeNanoseconds)
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
