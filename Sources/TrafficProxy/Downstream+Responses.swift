import HTTP1
import NIOCore
import Traffic

/// Passing responses to the client of an HTTP/1.1 connection.
extension DownstreamHandler {
  /// Sends the response head on, and in the same write the part of the body that came with it.
  func passHead(_ head: ByteBuffer, _ framing: BodyFraming, first: ByteBuffer?, _ now: UInt64) {
    exchange.responseStarted = true
    exchange.firstByte = now
    exchange.status = loop.response.status
    if !listener.compiled.notedFields.isEmpty { noteFields(head) }
    if isDraining || !exchange.requestDone { exchange.keepsAlive = false }
    switch framing {
    case .untilClose: exchange.keepsAlive = false
    case .chunked where exchange.minorVersion == 0:
      exchange.unchunks = true
      exchange.keepsAlive = false
    default: break
    }
    let persistence: HeadWriter.Persistence =
      !exchange.keepsAlive ? .close : exchange.minorVersion == 0 ? .keepAlive : .silent
    writeHead(
      head, edits: exchange.route?.compiled.responseEdits, persistence: persistence, unchunks: exchange.unchunks,
      upgrades: false, first: first)
    loop.wheel.set(self, now &+ listener.compiled.idleTimeout, now: now)
  }

  func writeHead(
    _ head: ByteBuffer, edits: CompiledEdits?, persistence: HeadWriter.Persistence, unchunks: Bool, upgrades: Bool,
    first: ByteBuffer? = nil
  ) {
    loop.clearScratch()
    head.withUnsafeReadableBytes { bytes in
      HeadWriter.response(
        loop, bytes, edits: edits, persistence: persistence, unchunks: unchunks, upgrades: upgrades)
    }
    // A small body is cheaper copied than written on its own.
    if let first, first.readableBytes <= Self.copiedBody {
      loop.scratch.writeImmutableBuffer(first)
      exchange.bytesOut += UInt64(loop.scratch.readableBytes)
      return write(loop.scratch)
    }
    exchange.bytesOut += UInt64(loop.scratch.readableBytes)
    write(loop.scratch)
    if let first { responseBody(first, ends: false) }
  }

  /// Octets of a body that are copied behind the head instead of being written from where they are.
  private static let copiedBody = 4096

  func passEnd(delimited: Bool) {
    upstream = nil
    flush()
    guard phase == .exchange else { return }
    let now = NIODeadline.now().uptimeNanoseconds
    if exchange.lastRead > 0 { exchange.overhead += now &- exchange.lastRead }
    endExchange(closing: !exchange.keepsAlive || !exchange.requestDone, now)
  }

  private func endExchange(closing: Bool, _ now: UInt64) {
    finishExchange(now)
    if closing || isDraining { return closeGracefully() }
    phase = .head
    loop.wheel.set(self, now &+ listener.compiled.downstreamIdle, now: now)
    if input != nil { process() }
    resumeReading()
  }

  func writeAnswer(status: Int, fields: [UInt8], body: [UInt8]) {
    let closing = !exchange.requestDone || !exchange.keepsAlive || isDraining
    exchange.responseStarted = true
    loop.clearScratch()
    loop.scratch.writeString("HTTP/1.1 \(status) \(StatusText.reason(status))\r\n")
    loop.scratch.writeBytes(fields)
    if status != 204, status != 304 { loop.scratch.writeString("Content-Length: \(body.count)\r\n") }
    if closing {
      loop.scratch.writeStaticString("Connection: close\r\n")
    } else if exchange.minorVersion == 0 {
      loop.scratch.writeStaticString("Connection: keep-alive\r\n")
    }
    loop.scratch.writeStaticString("\r\n")
    if exchange.method != .head, status != 204, status != 304 { loop.scratch.writeBytes(body) }
    exchange.bytesOut += UInt64(loop.scratch.readableBytes)
    write(loop.scratch)
    flush()
    guard phase == .exchange else { return }
    endExchange(closing: closing, NIODeadline.now().uptimeNanoseconds)
  }

  func passUpgrade(_ head: ByteBuffer, _ now: UInt64) {
    exchange.responseStarted = true
    exchange.status = 101
    exchange.firstByte = now
    writeHead(
      head, edits: exchange.route?.compiled.responseEdits, persistence: .silent, unchunks: false, upgrades: true)
    phase = .tunnel
    enterTunnel(now)
  }
}
