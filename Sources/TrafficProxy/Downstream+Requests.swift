import HTTP1
import HTTP2
import NIOCore
import Traffic

/// Reading requests: heads, and bodies that pass untouched.
extension DownstreamHandler {
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
    let now = loop.turnBegan
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
      if !accept.hasServed, buffer.beginsHTTP2 {
        becomeHTTP2(now)
        return false
      }
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
    accept.hasServed = true
    guard let head = buffer.readSlice(length: length) else { return false }
    input = buffer.readableBytes > 0 ? buffer : nil
    begin(head, now)
    return phase == .head || phase == .exchange
  }

  /// Sends body octets on: untouched, or without framing to a leg that takes content.
  func forwardBody() {
    guard var buffer = input, let upstream else { return }
    let now = NIODeadline.now().uptimeNanoseconds
    let taken: Int
    do {
      if upstream.takesContent {
        taken = try passContent(buffer, to: upstream)
      } else {
        taken = try buffer.withUnsafeReadableBytes { try exchange.body.consume($0) }
      }
    } catch {
      let why = error as? HeadError ?? .invalidChunkSize
      return localError(.badRequest, detail: why.reason)
    }
    guard let slice = buffer.readSlice(length: taken) else { return }
    input = buffer.readableBytes > 0 ? buffer : nil
    exchange.bytesIn += UInt64(taken)
    keepForReplay(slice)
    if !upstream.takesContent { upstream.write(slice) }
    upstreamDirty = true
    if exchange.body.isComplete {
      exchange.requestDone = true
      upstreamDirty = false
      if upstream.takesContent { upstream.endRequest(trailers: exchange.trailers) }
      upstream.flush()
      if !exchange.responseStarted { requestCompleted(now) }
      if exchange.mirror != nil { sendMirror(now) }
    } else {
      if !upstream.isWritable { upstream.flush() }
      progress(now)
    }
  }

  /// Writes the content of what is in `buffer` to that leg, and keeps the trailers; returns how many octets it took.
  private func passContent(_ buffer: ByteBuffer, to leg: UpstreamLeg) throws -> Int {
    var decoder = exchange.body
    var trailers = exchange.trailers ?? ByteBuffer()
    let taken = try buffer.withUnsafeReadableBytes { bytes in
      try decoder.consume(bytes) { range in
        guard let piece = buffer.getSlice(at: buffer.readerIndex + range.lowerBound, length: range.count) else {
          return
        }
        leg.write(piece)
      } trailer: { range in
        trailers.writeBytes(UnsafeRawBufferPointer(rebasing: bytes[range]))
      }
    }
    exchange.body = decoder
    if trailers.readableBytes > 0 { exchange.trailers = trailers }
    return taken
  }

  /// Sends what was kept of the body once more: framed into the scratch buffer, or as content.
  func replay(on leg: UpstreamLeg) {
    guard let replay = exchange.replay, replay.readableBytes > 0 else { return }
    guard leg.takesContent else {
      loop.scratch.writeImmutableBuffer(replay)
      return
    }
    exchange.body = BodyDecoder(exchange.framing)
    exchange.trailers = nil
    // It was decoded once without an error.
    _ = try? passContent(replay, to: leg)
    if exchange.requestDone { leg.endRequest(trailers: exchange.trailers) }
  }
}

extension ByteBuffer {
  /// The connection preface of HTTP/2, or the beginning of it.
  var beginsHTTP2: Bool {
    if case .no = withUnsafeReadableBytes({ HTTP2Preface.match($0) }) { false } else { true }
  }
}
