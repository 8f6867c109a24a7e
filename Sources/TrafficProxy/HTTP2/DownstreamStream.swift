import HTTP1
import HTTP2
import NIOCore
import Traffic
import Vocabulary

/// One stream of a client's HTTP/2 connection as an exchange. Used again for later streams of its slot.
final class DownstreamStream: ExchangeDriver {
  private unowned let handler: HTTP2Downstream
  private(set) var key = StreamKey.none
  /// The request's body goes on in chunks where its framing has to be written.
  private var isChunked = false
  /// Content that waits for a leg, and whether the request ends behind it.
  private var held = ByteBuffer()
  private var heldEnd = false
  /// Octets that were passed on while the upstream took no more; the client may send as many again once it does.
  private var uncredited = 0
  /// Content that waits for the client's window, and what comes behind it.
  private var pending = ByteBuffer()
  private var pendingEnd = false
  private var pendingTrailers: ByteBuffer?
  /// The response's end is sent, or goes with `pending`.
  private var hasEnded = false
  /// What the client is told when the response breaks off.
  private var cutCode = ErrorCode.internalError
  /// The client has ended its side.
  private var inputEnded = false
  /// The exchange was recorded with its request still coming in.
  private var isAbandoned = false

  init(_ handler: HTTP2Downstream) {
    self.handler = handler
    super.init(loop: handler.loop, listener: handler.listener, session: handler.session, takesContent: true)
    accept = handler.accept
    accept.isTCP = false
  }

  override var spoken: StaticString { "HTTP/2" }
  override var clientChannel: (any Channel)? { handler.context?.channel }

  // MARK: The request

  private func reset(_ key: StreamKey, _ now: UInt64) {
    self.key = key
    clientAddress = handler.clientAddress
    held = ByteBuffer()
    heldEnd = false
    uncredited = 0
    pending = ByteBuffer()
    pendingEnd = false
    pendingTrailers = nil
    hasEnded = false
    isAbandoned = false
    cutCode = .internalError
    isWritable = handler.isSocketWritable
    exchange.started = now
  }

  /// A request begins; `head` is of HTTP/1.1 form.
  func begin(_ key: StreamKey, _ head: ByteBuffer, _ facts: MessageFacts, _ ends: Bool, _ now: UInt64) {
    reset(key, now)
    inputEnded = ends
    exchange.requestDone = ends
    exchange.sensitive = facts.sensitive
    exchange.acceptsTrailers = facts.acceptsTrailers
    do {
      try head.withUnsafeReadableBytes { try loop.request.parse($0) }
    } catch {
      return refuse(.badRequest, detail: (error as? HeadError ?? .invalidTarget).reason)
    }
    begin(head, now)
  }

  func refuseOversized(_ key: StreamKey, _ ends: Bool, _ now: UInt64) {
    reset(key, now)
    inputEnded = ends
    exchange.requestDone = ends
    refuse(.headTooLarge, detail: "the request has more fields than the limit")
  }

  private func refuse(_ fault: Fault, detail: String) {
    makeIdentifiers()
    phase = .exchange
    loop.shared.addInFlight(listener.compiled.direction, 1)
    localError(fault, detail: detail)
  }

  override func noteBody() {
    isChunked = loop.request.table.isChunked
    // What follows is the tunnel's, once there is one.
    if exchange.wantsUpgrade { exchange.requestDone = true }
    exchange.head.withUnsafeReadableBytes { noteGRPC($0) }
  }

  /// Content of the request.
  func receive(_ slice: ByteBuffer, ends: Bool, _ now: UInt64) {
    exchange.bytesIn += UInt64(slice.readableBytes)
    inputEnded = ends
    switch phase {
    case .exchange:
      if let upstream, !exchange.wantsUpgrade, held.readableBytes == 0, !isConnecting {
        forward(slice, ends: ends, to: upstream, now)
        upstream.flush()
      } else {
        var slice = slice
        if held.readableBytes == 0 { held = slice } else { held.writeBuffer(&slice) }
        heldEnd = ends
      }
    case .tunnel:
      uncredited += slice.readableBytes
      upstream?.write(slice)
      upstream?.flush()
      creditIfTaken()
      if ends { upstream?.closeOutput() }
      progress(now)
    case .detecting, .head, .lingering, .closed: credit(slice.readableBytes)
    }
  }

  func receiveTrailers(_ lines: ByteBuffer, _ now: UInt64) {
    guard phase == .exchange else { return }
    exchange.trailers = lines
    receive(ByteBuffer(), ends: true, now)
  }

  /// Passes content on to that leg.
  private func forward(_ slice: ByteBuffer, ends: Bool, to leg: UpstreamLeg, _ now: UInt64) {
    keepForReplay(slice)
    uncredited += slice.readableBytes
    if slice.readableBytes > 0 { write(slice, to: leg) }
    if ends {
      exchange.requestDone = true
      endRequest(on: leg)
      if !exchange.responseStarted { requestCompleted(now) }
      if exchange.mirror != nil { sendMirror(now) }
    } else {
      progress(now)
    }
    creditIfTaken()
  }

  private func write(_ slice: ByteBuffer, to leg: UpstreamLeg) {
    guard !leg.takesContent, isChunked else { return leg.write(slice) }
    loop.clearScratch()
    Chunks.append(slice, to: &loop.scratch)
    leg.write(loop.scratch)
  }

  private func endRequest(on leg: UpstreamLeg) {
    if leg.takesContent {
      leg.endRequest(trailers: exchange.trailers)
    } else if isChunked {
      leg.write(Chunks.end(exchange.trailers))
    }
  }

  override func replayBody(on leg: UpstreamLeg) {
    let replay = exchange.replay ?? ByteBuffer()
    if leg.takesContent {
      if replay.readableBytes > 0 { leg.write(replay) }
      if exchange.requestDone { leg.endRequest(trailers: exchange.trailers) }
      return
    }
    guard isChunked else {
      loop.scratch.writeImmutableBuffer(replay)
      return
    }
    if replay.readableBytes > 0 { Chunks.append(replay, to: &loop.scratch) }
    if exchange.requestDone { loop.scratch.writeImmutableBuffer(Chunks.end(exchange.trailers)) }
  }

  override func sendBody(on leg: UpstreamLeg) {
    forwardHeld(to: leg)
    leg.flush()
  }

  private func forwardHeld(to leg: UpstreamLeg) {
    guard held.readableBytes > 0 || heldEnd, !exchange.wantsUpgrade else { return }
    let slice = held
    let ends = heldEnd
    held = ByteBuffer()
    heldEnd = false
    forward(slice, ends: ends, to: leg, NIODeadline.now().uptimeNanoseconds)
  }

  /// The upstream takes more: so may the client send more.
  override func resumeReading() { creditIfTaken() }

  private func creditIfTaken() {
    guard uncredited > 0, upstream?.isWritable ?? true else { return }
    credit(uncredited)
    uncredited = 0
  }

  private func credit(_ count: Int) {
    guard count > 0 else { return }
    handler.connection.consumed(key, count, to: &handler.out)
    handler.flush()
  }

  // MARK: The response

  override func interim(_ head: ByteBuffer) { send(head, edits: nil, ends: false) }

  override func responseHead(_ head: ByteBuffer, _ framing: BodyFraming, first: ByteBuffer?, _ now: UInt64) {
    exchange.responseStarted = true
    exchange.firstByte = now
    exchange.status = loop.response.status
    if !listener.compiled.notedFields.isEmpty { noteFields(head) }
    if exchange.isGRPC { head.withUnsafeReadableBytes { noteGRPCStatus(loop.response.table, $0) } }
    if case .none = framing { hasEnded = true }
    send(head, edits: exchange.route?.compiled.responseEdits, ends: hasEnded)
    progress(now)
  }

  private func send(_ head: ByteBuffer, edits: CompiledEdits?, upgrades: Bool = false, ends: Bool) {
    loop.clearScratch()
    head.withUnsafeReadableBytes { bytes in
      HeadWriter.response(loop, bytes, edits: edits, persistence: .silent, unchunks: false, upgrades: upgrades)
    }
    sendScratch(ends: ends)
  }

  /// Sends the head in the scratch buffer.
  private func sendScratch(ends: Bool) {
    exchange.bytesOut += UInt64(loop.scratch.readableBytes)
    loop.scratch.withUnsafeReadableBytes { bytes in
      // It was written here, from what was parsed before.
      guard (try? loop.outgoingResponse.parse(bytes)) != nil else { return }
      handler.connection.respond(
        key, loop.outgoingResponse, bytes, endStream: ends, sensitive: exchange.responseSensitive, to: &handler.out)
    }
  }

  override func responseBody(_ slice: ByteBuffer, ends: Bool) {
    guard !hasEnded else { return }
    exchange.bytesOut += UInt64(slice.readableBytes)
    hasEnded = ends
    send(slice, ends: ends)
  }

  /// Sends content, or keeps it until the window opens.
  private func send(_ slice: ByteBuffer, ends: Bool) {
    var slice = slice
    if pending.readableBytes > 0 {
      pending.writeBuffer(&slice)
      pendingEnd = ends
      return
    }
    let now = NIODeadline.now().uptimeNanoseconds
    guard handler.connection.send(key, &slice, endStream: ends, to: &handler.out, now: now) == .blocked else { return }
    // A copy: what it is a part of may be much larger.
    pending = ByteBuffer()
    pending.writeBuffer(&slice)
    pendingEnd = ends
    isWritable = false
  }

  override func responseTrailers(_ lines: ByteBuffer) {
    guard !hasEnded else { return }
    hasEnded = true
    exchange.bytesOut += UInt64(lines.readableBytes)
    if exchange.isGRPC { noteGRPCStatus(trailers: lines) }
    if pending.readableBytes > 0 { pendingTrailers = lines } else { sendTrailers(lines) }
  }

  private func sendTrailers(_ lines: ByteBuffer) {
    let isSent = lines.withUnsafeReadableBytes { bytes in
      guard (try? loop.outgoingTrailers.parseTrailers(bytes)) != nil else { return false }
      return handler.connection.sendTrailers(
        key, loop.outgoingTrailers, bytes, sensitive: exchange.responseSensitive, to: &handler.out)
    }
    if !isSent { send(ByteBuffer(), ends: true) }
  }

  /// The window has opened.
  func resumeSending() {
    guard pending.readableBytes > 0 else { return }
    let now = NIODeadline.now().uptimeNanoseconds
    guard handler.connection.send(key, &pending, endStream: pendingEnd, to: &handler.out, now: now) != .blocked else {
      progress(now)
      return
    }
    pending = ByteBuffer()
    if let lines = pendingTrailers {
      pendingTrailers = nil
      sendTrailers(lines)
    }
    updateWritability()
    if phase == .lingering { settle() } else { progress(now) }
  }

  func updateWritability() {
    guard phase == .exchange || phase == .tunnel else { return }
    let before = isWritable
    isWritable = handler.isSocketWritable && pending.readableBytes == 0
    if isWritable, !before { upstream?.resumeReading() }
  }

  override func flush() { handler.flush() }

  override func responseEnded(delimited: Bool) {
    upstream = nil
    guard phase == .exchange else { return handler.flush() }
    if !hasEnded {
      hasEnded = true
      send(ByteBuffer(), ends: true)
    }
    let now = NIODeadline.now().uptimeNanoseconds
    if exchange.lastRead > 0 { exchange.overhead += now &- exchange.lastRead }
    end(now)
  }

  /// Records the exchange; what is pending still goes out.
  private func end(_ now: UInt64) {
    isAbandoned = !inputEnded
    credit(uncredited + held.readableBytes)
    uncredited = 0
    held = ByteBuffer()
    phase = .lingering
    finishExchange(now)
    loop.wheel.set(self, pending.readableBytes > 0 ? now &+ listener.compiled.idleTimeout : .max, now: now)
    settle()
    handler.flush()
  }

  /// Once the response is out, a request that is still coming in is not wanted (RFC 9113 section 8.1).
  private func settle() {
    guard pending.readableBytes == 0, isAbandoned else { return }
    isAbandoned = false
    handler.connection.reset(key, .noError, to: &handler.out)
  }

  override func answer(status: Int, fields: [UInt8], body: [UInt8]) {
    exchange.responseStarted = true
    let isBodyless = status == 204 || status == 304
    loop.clearScratch()
    loop.scratch.writeString("HTTP/1.1 \(status) \r\n")
    loop.scratch.writeBytes(fields)
    if !isBodyless { loop.scratch.writeString("Content-Length: \(body.count)\r\n") }
    loop.scratch.writeStaticString("\r\n")
    hasEnded = true
    let hasBody = !isBodyless && !body.isEmpty && exchange.method != .head
    sendScratch(ends: !hasBody)
    if hasBody {
      exchange.bytesOut += UInt64(body.count)
      send(ByteBuffer(bytes: body), ends: true)
    }
    end(NIODeadline.now().uptimeNanoseconds)
  }

  // MARK: Tunnels

  override func upgraded(_ head: ByteBuffer, _ now: UInt64) {
    exchange.responseStarted = true
    exchange.status = 101
    exchange.firstByte = now
    send(head, edits: exchange.route?.compiled.responseEdits, upgrades: true, ends: false)
    phase = .tunnel
    if held.readableBytes > 0 || heldEnd {
      let early = held
      let ends = heldEnd
      held = ByteBuffer()
      heldEnd = false
      exchange.bytesIn -= UInt64(early.readableBytes)
      receive(early, ends: ends, now)
    }
    progress(now)
  }

  override func tunnelFromUpstream(_ buffer: ByteBuffer) {
    responseBody(buffer, ends: false)
    progress(NIODeadline.now().uptimeNanoseconds)
  }

  override func upstreamHalfClosed() {
    guard !hasEnded else { return }
    hasEnded = true
    send(ByteBuffer(), ends: true)
    handler.flush()
  }

  override func tunnelEnded(wasReset: Bool) {
    upstream = nil
    if wasReset { return upstreamCutBody() }
    upstreamHalfClosed()
    end(NIODeadline.now().uptimeNanoseconds)
  }

  // MARK: Ends

  override func cut() {
    phase = .closed
    pending = ByteBuffer()
    loop.wheel.set(self, .max, now: 0)
    handler.connection.reset(key, cutCode, to: &handler.out)
    handler.flush()
  }

  /// The upstream's own word for breaking off; one that would say that nothing happened is not passed on.
  func willBeCut(_ code: ErrorCode) {
    if code != .noError, code != .refusedStream { cutCode = code }
  }

  /// The client has reset the stream, or its connection is over.
  func clientLost(_ now: UInt64) {
    let before = phase
    phase = .closed
    key = StreamKey.none
    held = ByteBuffer()
    pending = ByteBuffer()
    connectSerial += 1
    isConnecting = false
    loop.wheel.remove(self)
    let left = upstream
    upstream = nil
    if before == .tunnel { left?.reset() } else { left?.abandon() }
    guard before == .exchange || before == .tunnel else { return }
    noteCut()
    finishExchange(now)
  }

  /// The client has not opened its window for long.
  func stalled() {
    guard phase == .exchange || phase == .tunnel else {
      pending = ByteBuffer()
      phase = .closed
      handler.connection.reset(key, .cancel, to: &handler.out)
      return
    }
    exchange.flag = "SI"
    exchange.blame = .client
    abort()
  }

  override func closeNow() { cut() }

  override func deadlinePassed(_ now: UInt64) {
    switch phase {
    case .exchange: exchangeDeadlinePassed(now)
    case .tunnel:
      exchange.flag = "SI"
      abort()
    case .lingering: cut()
    case .detecting, .head, .closed: break
    }
  }
}
