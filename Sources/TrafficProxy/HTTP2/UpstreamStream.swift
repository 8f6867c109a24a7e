import HTTP1
import HTTP2
import NIOCore
import Traffic

/// One stream of an upstream's HTTP/2 connection as the leg of an exchange.
final class UpstreamStream: UpstreamLeg {
  enum State {
    /// Attached, and the stream not opened. Next: head, dead.
    case idle
    /// The request was sent; the response head is to come. Next: body, tunnel, dead.
    case head
    /// Inside a response. Next: dead.
    case body
    case tunnel
    /// Belongs to nobody. Next: idle, for another exchange.
    case dead
  }

  let connection: HTTP2Upstream
  private(set) var key = StreamKey.none
  private var state = State.dead
  /// The response's content goes on in chunks.
  private var isChunked = false
  /// Content that waits for the upstream's window, and what comes behind it.
  private var pending = ByteBuffer()
  private var pendingEnd = false
  private var pendingTrailers: ByteBuffer?
  private var requestEnded = false
  /// Octets that were passed on while the client took no more.
  private var uncredited = 0
  private var isFirst = true

  init(_ connection: HTTP2Upstream) {
    self.connection = connection
    super.init(loop: connection.loop, cluster: connection.cluster, endpoint: connection.endpoint, takesContent: true)
  }

  override var wasUsed: Bool { !isFirst }
  override var channel: (any Channel)? { connection.context?.channel }

  // MARK: The request

  override func attach(_ driver: ExchangeDriver, tunnel: Bool) {
    self.driver = driver
    key = StreamKey.none
    state = .idle
    isChunked = false
    pending = ByteBuffer()
    pendingEnd = false
    pendingTrailers = nil
    requestEnded = false
    uncredited = 0
    isFirst = connection.served == 0
    isWritable = connection.isSocketWritable
    endpoint.active += 1
  }

  override func sendHead(endStream: Bool) -> Bool {
    guard let driver else { return false }
    var options = RequestOptions(isHTTPS: cluster.shared.tls != nil)
    options.sensitive = driver.exchange.sensitive
    options.acceptsTrailers = driver.exchange.acceptsTrailers || Self.acceptsTrailers(driver)
    if driver.exchange.wantsUpgrade {
      options.extendedConnect = Self.wantsWebSocket(driver)
      // Other upgrades are an offer that HTTP/2 does not know; the request itself goes on.
      driver.exchange.wantsUpgrade = options.extendedConnect
    }
    let isEnd = endStream && !options.extendedConnect
    let opened = loop.scratch.withUnsafeReadableBytes { bytes -> StreamKey? in
      guard (try? loop.outgoingRequest.parse(bytes)) != nil else { return nil }
      return connection.connection.open(loop.outgoingRequest, bytes, options, endStream: isEnd, to: &connection.out)
    }
    guard let opened else {
      let detail =
        options.extendedConnect
        ? "the upstream takes no WebSocket over HTTP/2" : "the connection takes no more streams"
      fail(options.extendedConnect ? .reset : .refused, .upstreamProtocol, detail)
      return false
    }
    key = opened
    state = .head
    requestEnded = isEnd
    connection.opened(self, opened)
    return true
  }

  /// The client's own head says `TE: trailers`; the loop's parse is of it.
  private static func acceptsTrailers(_ driver: ExchangeDriver) -> Bool {
    driver.exchange.head.withUnsafeReadableBytes { bytes in
      for field in driver.loop.request.table.fields {
        if case .te = field.known, Octets.equal(field.value.of(bytes), ignoringCase: "trailers") { return true }
      }
      return false
    }
  }

  private static func wantsWebSocket(_ driver: ExchangeDriver) -> Bool {
    driver.exchange.head.withUnsafeReadableBytes { bytes in
      let table = driver.loop.request.table
      return Octets.equal(table.value(table.upgrade).of(bytes), ignoringCase: "websocket")
    }
  }

  override func write(_ buffer: ByteBuffer) {
    guard state != .dead, state != .idle, !requestEnded else { return }
    var buffer = buffer
    if pending.readableBytes > 0 {
      pending.writeBuffer(&buffer)
      return
    }
    send(&buffer, ends: false)
  }

  private func send(_ content: inout ByteBuffer, ends: Bool) {
    let now = NIODeadline.now().uptimeNanoseconds
    guard connection.connection.send(key, &content, endStream: ends, to: &connection.out, now: now) == .blocked
    else { return }
    pending = ByteBuffer()
    pending.writeBuffer(&content)
    pendingEnd = ends
    isWritable = false
  }

  override func endRequest(trailers: ByteBuffer?) {
    guard state != .dead, state != .idle, !requestEnded else { return }
    requestEnded = true
    if pending.readableBytes > 0 {
      pendingTrailers = trailers
      pendingEnd = trailers == nil
    } else {
      sendEnd(trailers)
    }
  }

  private func sendEnd(_ trailers: ByteBuffer?) {
    if let trailers, trailers.readableBytes > 2 {
      let isSent = trailers.withUnsafeReadableBytes { bytes in
        guard (try? loop.outgoingTrailers.parseTrailers(bytes)) != nil else { return false }
        return connection.connection.sendTrailers(key, loop.outgoingTrailers, bytes, to: &connection.out)
      }
      if isSent { return }
    }
    var nothing = ByteBuffer()
    send(&nothing, ends: true)
  }

  /// The window has opened.
  func resumeSending() {
    guard pending.readableBytes > 0 else { return }
    let now = NIODeadline.now().uptimeNanoseconds
    let ends = pendingEnd
    driver?.progress(now)
    guard connection.connection.send(key, &pending, endStream: ends, to: &connection.out, now: now) != .blocked
    else { return }
    pending = ByteBuffer()
    if requestEnded, !ends {
      sendEnd(pendingTrailers)
      pendingTrailers = nil
    }
    updateWritability()
  }

  func updateWritability() {
    guard state != .dead, state != .idle else { return }
    let before = isWritable
    isWritable = connection.isSocketWritable && pending.readableBytes == 0
    if isWritable, !before { driver?.resumeReading() }
  }

  override func flush() { connection.flush() }

  override func closeOutput() { endRequest(trailers: nil) }

  // MARK: The response

  func interim(_ head: ByteBuffer) {
    guard let driver, parse(head) else { return }
    driver.interim(head)
    driver.flush()
  }

  private func parse(_ head: ByteBuffer) -> Bool {
    (try? head.withUnsafeReadableBytes { try loop.response.parse($0) }) != nil
  }

  func response(_ head: ByteBuffer, _ facts: MessageFacts, _ ends: Bool, _ now: UInt64) {
    guard let driver, state == .head else { return }
    driver.responseByteSeen()
    guard parse(head) else { return protocolError() }
    let status = loop.response.status
    driver.exchange.responseSensitive = facts.sensitive
    if status == 101 { return upgrade(head, driver, now) }
    noteResponse(to: driver, now)
    if driver.withholds(head, status: status) {
      let reason = driver.reasonToWithhold(head, status: status)
      detach(code: .cancel)
      return driver.tryFailed(reason, .upstreamProtocol, detail: "")
    }
    state = .body
    let framing = loop.response.framing(for: driver.exchange.method)
    driver.responseHead(head, framing, first: nil, now)
    if case .chunked = framing { isChunked = !driver.takesContent && !driver.exchange.unchunks }
    if ends { complete() } else { driver.flush() }
  }

  private func upgrade(_ head: ByteBuffer, _ driver: ExchangeDriver, _ now: UInt64) {
    state = .tunnel
    guard !driver.takesContent else {
      driver.upgraded(head, now)
      return driver.flush()
    }
    // The client's handshake wants its answer (RFC 6455 section 4.2.2), which HTTP/2 leaves out.
    var whole = head
    whole.moveWriterIndex(to: whole.writerIndex - 2)
    whole.writeStaticString("sec-websocket-accept: ")
    driver.exchange.head.withUnsafeReadableBytes { bytes in
      let name: StaticString = "sec-websocket-key"
      let wanted = UnsafeRawBufferPointer(start: name.utf8Start, count: name.utf8CodeUnitCount)
      guard (try? loop.request.parse(bytes)) != nil,
        let key = loop.request.table.first(named: wanted, bytes)?.value.of(bytes)
      else { return }
      whole.writeWithUnsafeMutableBytes(minimumWritableBytes: 28) { room in
        WebSocketHandshake.accept(key, into: room)
        return 28
      }
    }
    whole.writeStaticString("\r\n\r\n")
    guard parse(whole) else { return protocolError() }
    driver.upgraded(whole, now)
    driver.flush()
  }

  func receive(_ slice: ByteBuffer, ends: Bool, _ now: UInt64) {
    let count = slice.readableBytes
    guard let driver, state == .body || state == .tunnel else { return connection.credit(key, count) }
    uncredited += count
    if state == .tunnel {
      if count > 0 { driver.tunnelFromUpstream(slice) }
      if ends { driver.upstreamHalfClosed() }
    } else if count > 0 {
      pass(slice, ends: ends, to: driver)
    }
    creditIfTaken()
    guard self.driver === driver else { return }
    if ends, state == .body {
      if isChunked { driver.responseBody(Chunks.last, ends: false) }
      complete()
    } else {
      driver.flush()
      driver.progress(now)
      if ends, requestEnded { endTunnel() }
    }
  }

  private func pass(_ slice: ByteBuffer, ends: Bool, to driver: ExchangeDriver) {
    guard isChunked else { return driver.responseBody(slice, ends: ends) }
    loop.clearScratch()
    Chunks.append(slice, to: &loop.scratch)
    driver.responseBody(loop.scratch, ends: false)
  }

  func receiveTrailers(_ lines: ByteBuffer, _ now: UInt64) {
    guard let driver, state == .body else { return }
    if driver.takesContent {
      driver.responseTrailers(lines)
    } else if isChunked {
      driver.responseBody(Chunks.end(lines), ends: false)
    }
    complete()
  }

  /// The response is complete.
  private func complete() {
    guard let driver else { return }
    detach(code: .noError)
    driver.exchange.lastRead = loop.turnBegan
    driver.responseEnded(delimited: true)
  }

  private func endTunnel() {
    guard let driver else { return }
    detach(code: .noError)
    driver.tunnelEnded(wasReset: false)
  }

  override func resumeReading() { creditIfTaken() }

  private func creditIfTaken() {
    guard uncredited > 0, driver?.isWritable ?? true else { return }
    connection.credit(key, uncredited)
    uncredited = 0
  }

  // MARK: Ends

  /// Leaves the exchange; a stream that is still open is reset.
  private func detach(code: ErrorCode) {
    guard state != .dead else { return }
    state = .dead
    driver = nil
    endpoint.active -= 1
    pending = ByteBuffer()
    pendingTrailers = nil
    connection.connection.consumed(key, uncredited, to: &connection.out)
    uncredited = 0
    connection.connection.reset(key, code, to: &connection.out)
    connection.flush()
  }

  override func abandon() { detach(code: .cancel) }

  private func protocolError() { fail(.reset, .upstreamProtocol, "the response head is not valid") }

  private func fail(_ failure: TryFailure, _ fault: Fault, _ detail: String) {
    let ended = driver
    detach(code: .protocolError)
    ended?.tryFailed(failure, fault, detail: detail)
  }

  /// The upstream has reset the stream, or what it sent made us reset it.
  func wasReset(_ code: ErrorCode, byPeer: Bool) {
    guard let driver else { return }
    let before = state
    detach(code: .cancel)
    switch before {
    case .head:
      // Nothing stale about it: the upstream has spoken.
      driver.exchange.tries.reusedConnection = false
      if code == .refusedStream, byPeer {
        return driver.tryFailed(.refused, .connectionReset, detail: "the upstream refused the stream")
      }
      driver.tryFailed(
        .reset, byPeer ? .connectionReset : .upstreamProtocol,
        detail: byPeer ? "the upstream reset the stream (\(code.name))" : "the response breaks RFC 9113")
    case .body, .tunnel:
      if byPeer { (driver as? DownstreamStream)?.willBeCut(code) }
      if before == .body { driver.upstreamCutBody() } else { driver.tunnelEnded(wasReset: true) }
    case .idle, .dead: break
    }
  }

  func connectionLost(_ reason: String?) {
    guard let driver, state != .dead else { return }
    let before = state
    detach(code: .cancel)
    switch before {
    case .head, .idle:
      driver.upstreamLost(
        reason == nil ? .connectionReset : .upstreamProtocol,
        detail: reason ?? "connection closed before a response head")
    case .body: driver.upstreamCutBody()
    case .tunnel: driver.tunnelEnded(wasReset: true)
    case .dead: break
    }
  }

  /// The upstream has not opened its window for long.
  func stalled() {
    guard let driver else { return }
    let before = state
    detach(code: .cancel)
    driver.exchange.tries.reusedConnection = false
    if before == .head {
      driver.tryFailed(.reset, .streamIdle, detail: "the upstream took no more of the request's body")
    } else {
      driver.upstreamCutBody()
    }
  }
}
