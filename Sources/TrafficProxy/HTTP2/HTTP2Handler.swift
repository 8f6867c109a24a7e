import HTTP1
import HTTP2
import NIOCore
import Traffic

/// One HTTP/2 connection at either end: runs the engine over what arrives, gathers what there is to send until the
/// turn of its loop is over, and keeps its deadlines. The two sides override what an event means.
class HTTP2Handler: Timed, ChannelDuplexHandler {
  typealias InboundIn = ByteBuffer
  typealias OutboundIn = ByteBuffer
  typealias OutboundOut = ByteBuffer

  final let loop: LoopState
  final var connection: HTTP2Connection
  final var out = ByteBuffer()
  final var input = ByteBuffer()
  final var context: ChannelHandlerContext?
  /// The channel's own word, kept from its last change.
  final var isSocketWritable = true
  final var isClosed = false
  private var isProcessing = false
  private var isDirty = false
  private var isReadHeld = false
  private var hasStarted = false

  /// Written in the middle of a burst, so that memory stays bounded.
  private static let mostGathered = 128 << 10
  /// What an end of ours may take to be sent and seen.
  private static let closingTime: UInt64 = 2_000_000_000

  init(_ role: HTTP2Role, _ loop: LoopState, limits: HTTP2Limits) {
    self.loop = loop
    connection = HTTP2Connection(role, limits: limits, random: loop.random.next())
  }

  // MARK: What the sides differ in

  func opened(_ context: ChannelHandlerContext, _ now: UInt64) {}
  func handle(_ event: HTTP2Event, _ now: UInt64) {}
  /// The connection is over: so is every stream.
  func lost(_ now: UInt64) {}
  /// A burst of events is over.
  func burstEnded(_ now: UInt64) {}
  /// No stream is open.
  func becameIdle(_ now: UInt64) {}
  /// When to look again although nothing is due on the wire; `.max` = never.
  func ownDeadline(_ now: UInt64) -> UInt64 { .max }
  func ownDeadlinePassed(_ now: UInt64) {}
  func writabilityChanged() {}
  /// Frames are left unread while what we have to say is not taken.
  var holdsInput: Bool { false }

  // MARK: Channel events

  final func handlerAdded(context: ChannelHandlerContext) {
    self.context = context
    if context.channel.isActive { begin(context) }
  }

  final func channelActive(context: ChannelHandlerContext) { begin(context) }

  private func begin(_ context: ChannelHandlerContext) {
    guard !hasStarted else { return }
    hasStarted = true
    isSocketWritable = context.channel.isWritable
    let now = NIODeadline.now().uptimeNanoseconds
    connection.start(listOctets: loop.limits.bytes, to: &out, now: now)
    opened(context, now)
    flush()
    setDeadline(now)
  }

  final func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    var buffer = unwrapInboundIn(data)
    if isClosed { return }
    takeOutput()
    if input.readableBytes == 0 { input = buffer } else { input.writeBuffer(&buffer) }
    process()
  }

  final func read(context: ChannelHandlerContext) {
    if holdsInput { isReadHeld = true } else { context.read() }
  }

  final func channelWritabilityChanged(context: ChannelHandlerContext) {
    isSocketWritable = context.channel.isWritable
    writabilityChanged()
    guard isSocketWritable else { return }
    if input.readableBytes > 0 { process() }
    if isReadHeld, !holdsInput {
      isReadHeld = false
      context.read()
    }
  }

  final func channelInactive(context: ChannelHandlerContext) {
    isClosed = true
    loop.wheel.remove(self)
    input = ByteBuffer()
    lost(NIODeadline.now().uptimeNanoseconds)
    self.context = nil
  }

  final func errorCaught(context: ChannelHandlerContext, error: any Error) { context.close(promise: nil) }

  final func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
    // A peer that has ended its side can neither ask nor answer any more.
    if case .inputClosed = event as? ChannelEvent { context.close(promise: nil) }
  }

  // MARK: Frames

  /// Deals with what is in `input`, as far as it goes.
  final func process() {
    guard !isProcessing else { return }
    isProcessing = true
    let now = NIODeadline.now().uptimeNanoseconds
    while !isClosed, !holdsInput {
      let event = connection.next(&input, &loop.workspace, to: &out, now: now)
      if case .needsInput = event { break }
      take(event, now)
      if out.readableBytes >= Self.mostGathered { flushNow() }
    }
    if input.readableBytes == 0 { input = ByteBuffer() }
    isProcessing = false
    burstEnded(now)
    flush()
    setDeadline(now)
  }

  private func take(_ event: HTTP2Event, _ now: UInt64) {
    handle(event, now)
    guard case .failed = event else { return }
    lost(now)
    end(now)
  }

  /// Sends what is gathered once this turn of the loop is over: what many connections have for this one, and what one
  /// has for many streams, goes out in one write.
  final func flush() {
    guard !isDirty else { return }
    isDirty = true
    loop.dirty.append(self)
    loop.endTurnLater()
  }

  final func flushNow() {
    isDirty = false
    if out.readableBytes > 0 {
      context?.writeAndFlush(wrapOutboundOut(out), promise: nil)
      if connection.openStreams == 0 {
        // An idle connection holds no buffer.
        loop.spareOutput = out
        out = ByteBuffer()
      } else {
        out.clear()
      }
    }
    guard connection.openStreams == 0, !isClosed else { return }
    let now = NIODeadline.now().uptimeNanoseconds
    if connection.isDrained { return end(now) }
    becameIdle(now)
    setDeadline(now)
  }

  /// Says that no more streams are wanted; the open ones go on.
  final func drain() {
    guard !isClosed else { return }
    let now = NIODeadline.now().uptimeNanoseconds
    connection.drain(to: &out, now: now)
    flush()
    setDeadline(now)
  }

  /// Room to write to, which another connection may have left.
  private func takeOutput() {
    guard out.capacity == 0, loop.spareOutput.capacity > 0 else { return }
    swap(&out, &loop.spareOutput)
    out.clear()
  }

  /// Closes once everything is sent.
  final func end(_ now: UInt64) {
    guard !isClosed else { return }
    isClosed = true
    input = ByteBuffer()
    if out.readableBytes > 0 {
      context?.writeAndFlush(wrapOutboundOut(out), promise: nil)
      out = ByteBuffer()
    }
    loop.wheel.set(self, now &+ Self.closingTime, now: now)
    context?.close(mode: .output, promise: nil)
  }

  final func closeNow() { context?.close(promise: nil) }

  // MARK: Time

  final func setDeadline(_ now: UInt64) {
    guard !isClosed else { return }
    loop.wheel.set(self, min(connection.deadline, ownDeadline(now)), now: now)
  }

  override final func deadlinePassed(_ now: UInt64) {
    if isClosed { return closeNow() }
    while !isClosed {
      let event = connection.tick(to: &out, now: now)
      if case .needsInput = event { break }
      take(event, now)
    }
    if !isClosed, ownDeadline(now) <= now { ownDeadlinePassed(now) }
    flush()
    setDeadline(now)
  }
}

/// The chunked coding around content that came without framing.
enum Chunks {
  static let last = ByteBuffer(staticString: "0\r\n\r\n")

  /// Appends one chunk with this content, which is not empty.
  static func append(_ content: ByteBuffer, to out: inout ByteBuffer) {
    out.writeString(String(content.readableBytes, radix: 16))
    out.writeStaticString("\r\n")
    out.writeImmutableBuffer(content)
    out.writeStaticString("\r\n")
  }

  /// The end of a body: `trailers` are field lines and an empty line.
  static func end(_ trailers: ByteBuffer?) -> ByteBuffer {
    guard let trailers else { return last }
    var end = ByteBuffer(staticString: "0\r\n")
    end.writeImmutableBuffer(trailers)
    return end
  }
}
