import HTTP1
import NIOCore
import Synchronization
import Traffic
import Vocabulary

/// Drives one exchange at a time from its head to its record: route, tries, retries, timers and errors of our own.
/// It is the downstream side as well: an HTTP/1.1 connection, or a stream of an HTTP/2 one, which override what
/// differs on the wire.
class ExchangeDriver: Timed {
  enum Phase {
    /// `protocol: auto`, and nobody has spoken (HTTP/1.1). Next: head, exchange, tunnel, closed.
    case detecting
    /// Between requests or inside a request head. Next: exchange, lingering, closed.
    case head
    /// A request is being answered. Next: head, tunnel, lingering, closed.
    case exchange
    /// Octets pass unread both ways. Next: lingering, closed.
    case tunnel
    /// Everything was answered and our side is closed, or is once it is sent. Next: closed.
    case lingering
    case closed
  }

  final let loop: LoopState
  final let listener: LoopListener
  /// Nil = plaintext.
  final let session: TLSSession?
  /// What a response body is handed over as: content without framing (HTTP/2), or octets as HTTP/1.1 frames them.
  final let takesContent: Bool
  final var phase = Phase.head
  final var exchange = Exchange()
  final var upstream: UpstreamLeg?
  final var accept = AcceptState()
  final var clientAddress: [UInt8] = []
  /// False while the client takes no more; `resumeReading` of the upstream's side tells when it does again.
  final var isWritable = true
  /// Tells a connect that ends whether its exchange still waits for it.
  final var connectSerial = 0
  final var isConnecting = false
  final var forcesNewConnection = false
  /// The loop's parse is still of this exchange's head; false once other connections may have been served.
  final var isHeadParsed = false
  final var failedEndpoint: LoopEndpoint?
  final var backoffUntil: UInt64 = 0
  final var tryDeadline = UInt64.max
  /// A second try that runs beside this exchange's own, and when one is to begin.
  final var hedge: HedgeDriver?
  final var hedgeAt = UInt64.max
  /// Nobody asked for it: it counts nowhere and is in no record.
  final var isShadow = false
  /// Whose exchange this is a second try of.
  var lead: ExchangeDriver? { nil }

  init(loop: LoopState, listener: LoopListener, session: TLSSession?, takesContent: Bool) {
    self.loop = loop
    self.listener = listener
    self.session = session
    self.takesContent = takesContent
  }

  final var isInbound: Bool { listener.compiled.isInbound }
  final var isDraining: Bool { listener.isDraining(loop.shared) }

  // MARK: What differs on the wire

  /// Notes of the parsed head how the body comes.
  func noteBody() {}
  /// Sends the body that was kept, for a try after the first, in the form that the leg takes.
  func replayBody(on leg: UpstreamLeg) {}
  /// The head was sent: goes on with the body.
  func sendBody(on leg: UpstreamLeg) {}
  func resumeReading() {}

  func interim(_ head: ByteBuffer) {}
  /// Sends the response head on, and in the same write the part of the body that came with it.
  func responseHead(_ head: ByteBuffer, _ framing: BodyFraming, first: ByteBuffer?, _ now: UInt64) {}
  /// A part of the response's body; `ends` tells that it is the last of its content (known for HTTP/2 alone).
  func responseBody(_ slice: ByteBuffer, ends: Bool) {}
  /// Field lines and an empty line, where content is taken.
  func responseTrailers(_ lines: ByteBuffer) {}
  /// The response is complete, and the leg released or closed by its owner. `delimited` tells that it was the
  /// response's framing that ended it, not the connection.
  func responseEnded(delimited: Bool) {}
  /// A whole answer of our own; `fields` are lines.
  func answer(status: Int, fields: [UInt8], body: [UInt8]) {}
  func upgraded(_ head: ByteBuffer, _ now: UInt64) {}
  func beginTCPTunnel(_ leg: UpstreamLeg) {}
  /// The connection that CONNECT asked for is there.
  func beginConnectTunnel(_ leg: UpstreamLeg) {}
  func tunnelFromUpstream(_ buffer: ByteBuffer) {}
  func upstreamHalfClosed() {}
  func tunnelEnded(wasReset: Bool) {}
  func flush() {}
  /// Closes at once what this exchange is carried by.
  func closeNow() {}
  /// The response cannot be finished: the client must notice.
  func cut() {}
  /// Called when nothing was received for the idle timeout: true while octets on their way out are still being taken.
  func outputMoves() -> Bool { false }
  /// What is spoken, for records.
  var spoken: StaticString { accept.isTCP ? "TCP" : exchange.minorVersion == 0 ? "HTTP/1.0" : "HTTP/1.1" }
  /// The socket that the client is at the other end of.
  var clientChannel: (any Channel)? { nil }
  func earlyConnected(_ opened: UpstreamLeg) {}
  func earlyConnectFailed(_ now: UInt64) {}

  // MARK: Beginning

  final func makeIdentifiers() {
    exchange.requestID = (loop.random.next(), loop.random.next())
    exchange.traceID = (loop.random.next(), loop.random.next() | 1)
  }

  /// Routes and tries the request whose head is in `loop.request`.
  final func begin(_ head: ByteBuffer, _ now: UInt64) {
    phase = .exchange
    loop.shared.addInFlight(listener.compiled.direction, 1)
    exchange.head = head
    exchange.headDone = now
    exchange.headTime = now &- exchange.started
    makeIdentifiers()
    takeRequest()
    let isConnect = exchange.isConnect
    // A client may send the tunnel's octets ahead: after a refusal they must not be read as requests.
    if isConnect { exchange.keepsAlive = false }
    guard !isConnect || listener.compiled.forwardPolicy != nil && !takesContent else {
      return localError(.connectRefusedByPolicy, detail: "CONNECT is not allowed on this listener")
    }
    if isShed() { return }
    if let gate = listener.compiled.gate, !passes(gate, now) { return }
    direct(now)
  }

  /// Chooses the route of a request that its listener lets in. The loop's parse is of it.
  final func direct(_ now: UInt64) {
    if listener.compiled.guardsRoutes, let path = unusualPath() { return direct(by: path, now) }
    let chosen = exchange.isConnect ? nil : exchange.head.withUnsafeReadableBytes { chooseRoute($0, path: nil) }
    guard let route = chosen.map({ listener.routes[$0] }) ?? accept.original ?? destinationRoute(now) else { return }
    follow(route, now)
  }

  final func follow(_ route: LoopRoute, _ now: UInt64) {
    exchange.route = route
    if let gate = route.compiled.gate, !passes(gate, now) { return }
    proceed(route, now)
  }

  /// Answers or tries a request that its route lets in. The loop's parse is of it.
  final func proceed(_ route: LoopRoute, _ now: UInt64) {
    var route = route
    switch route.compiled.action {
    case .cluster: break
    case .split(let split, _):
      route = route.parts[split.pick(&loop.routing.random)]
      exchange.route = route
    case .redirect(let redirect, let code): return answer(redirect, code: code)
    case .reply(let status, let fields, let body):
      exchange.status = status
      return answer(status: status, fields: fields, body: body)
    }
    if let rewrite = route.compiled.rewriteRegex, !rewritesTarget(rewrite) { return }
    guard let cluster = route.cluster else {
      return localError(.noEndpoint, detail: "the cluster `\(route.compiled.clusterName)` is not configured")
    }
    exchange.countsAsRequest = true
    let active = cluster.shared.requests.wrappingAdd(1, ordering: .relaxed).newValue
    if active > cluster.shared.configuration.maxRequests {
      cluster.rare.add(.requests)
      return localError(.overflow, detail: "the cluster has \(active - 1) requests in flight, its limit")
    }
    if exchange.requestDone { requestCompleted(now) } else { schedule(now) }
    if let mirror = route.mirror { considerMirror(mirror) }
    if !exchange.requestDone, exchange.tries.isIdempotent || cluster.mayRefuse || exchange.mirror != nil {
      exchange.replay = ByteBuffer()
    }
    isHeadParsed = true
    startTry(now)
    isHeadParsed = false
    if exchange.mirror != nil, exchange.requestDone { sendMirror(now) }
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
    noteBody()
    exchange.tries.isIdempotent = exchange.method.isIdempotent && !exchange.wantsUpgrade
    exchange.bytesIn = UInt64(exchange.head.readableBytes)
    let identifier = loop.request.table.value(loop.request.table.requestID)
    if identifier.count <= 128 { exchange.requestIDText = identifier }
    let trace = loop.request.table.value(loop.request.table.traceparent)
    if trace.count >= 55 || loop.traceSample >= 0 { takeTrace(trace) }
    exchange.acceptText = loop.request.table.value(loop.request.table.accept)
  }

  /// `normal` is the path to go by in place of the one that was sent; nil = that one.
  final func chooseRoute(_ bytes: UnsafeRawBufferPointer, path normal: UnsafeRawBufferPointer?) -> Int? {
    let authority =
      loop.request.authority.count > 0
      ? loop.request.authority : loop.request.table.value(loop.request.table.host)
    var host = authority.of(bytes)
    if let colon = host.lastIndex(of: 0x3A), !host[colon...].contains(0x5D) {
      host = UnsafeRawBufferPointer(rebasing: host[..<colon])
    }
    let path = normal ?? UnsafeRawBufferPointer(rebasing: loop.request.path.of(bytes)[..<loop.request.pathOnlyCount])
    let target = loop.request.path.of(bytes)
    let behind = min(loop.request.pathOnlyCount + 1, target.count)
    let chosen = listener.compiled.table.match(
      RouteQuery(
        host: host, path: path,
        query: UnsafeRawBufferPointer(rebasing: target[behind...]),
        method: loop.request.methodText.of(bytes)), loop.routing
    ) { [loop] name, start in
      loop.request.table.index(named: name, from: start, bytes).map {
        RouteField(value: loop.request.table.fields[$0].value.of(bytes), next: $0 + 1)
      }
    }
    if listener.compiled.table.hasLimits { listener.noteLimits(of: loop.routing) }
    return chosen
  }

  /// The request is complete: the time until the response's head begins.
  final func requestCompleted(_ now: UInt64) {
    if let route = exchange.route {
      let timeout = route.compiled.timeout
      exchange.routeDeadline = timeout == 0 ? .max : now &+ timeout
      if route.compiled.hedgeAfter > 0 { armHedge(now &+ route.compiled.hedgeAfter) }
    }
    schedule(now)
  }

  /// Keeps a part of the body for a try that may follow.
  final func keepForReplay(_ slice: ByteBuffer) {
    guard let kept = exchange.replay?.readableBytes else {
      exchange.tries.bodyKept = exchange.tries.bodyKept && slice.readableBytes == 0
      return
    }
    if kept + slice.readableBytes > loop.replayLimit {
      exchange.replay = nil
      exchange.tries.bodyKept = false
    } else {
      exchange.replay?.writeImmutableBuffer(slice)
    }
  }

  // MARK: Time

  /// Something moved: the idle timeout begins anew.
  final func progress(_ now: UInt64) {
    if phase == .tunnel || exchange.responseStarted || !exchange.requestDone {
      loop.wheel.set(self, min(now &+ listener.compiled.idleTimeout, exchange.grpcDeadline), now: now)
    }
  }

  /// Sets the deadline of an exchange that waits for a response head.
  final func schedule(_ now: UInt64) {
    var deadline = min(min(exchange.routeDeadline, tryDeadline), exchange.grpcDeadline)
    if backoffUntil > 0 { deadline = min(deadline, backoffUntil) }
    deadline = min(deadline, hedgeAt)
    if !exchange.requestDone { deadline = min(deadline, now &+ listener.compiled.idleTimeout) }
    loop.wheel.set(self, deadline, now: now)
  }

  /// A deadline of an exchange that is under way.
  final func exchangeDeadlinePassed(_ now: UInt64) {
    if let passage = exchange.passage, passage.isWaiting { return passageDeadlinePassed(passage, now) }
    if exchange.responseStarted {
      if now >= exchange.grpcDeadline { return expireGRPC(now) }
      if outputMoves() { return progress(now) }
      exchange.flag = "SI"
      exchange.blame = .upstream
      return abort()
    }
    if now >= min(exchange.routeDeadline, tryDeadline) { noteSilence(now) }
    if now >= exchange.routeDeadline {
      if upstream != nil || isConnecting { note(failed: true) }
      return localError(.routeTimeout, detail: "no response head in time")
    }
    if now >= exchange.grpcDeadline { return localError(.routeTimeout, detail: "the call's deadline has passed") }
    if backoffUntil > 0, now >= backoffUntil {
      backoffUntil = 0
      return startTry(now)
    }
    if now >= hedgeAt { return beginHedge(now) }
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
  }

  /// A response that cannot be finished.
  final func abort() {
    let left = upstream
    upstream = nil
    left?.abandon()
    finishExchange(NIODeadline.now().uptimeNanoseconds)
    cut()
  }

  /// The upstream ended in the middle of a response.
  final func upstreamCutBody() {
    upstream = nil
    note(failed: true)
    exchange.flag = Fault.connectionReset.flag
    exchange.blame = Fault.connectionReset.blame(toApp: exchange.route?.cluster?.shared.isApp ?? false)
    abort()
  }
}
