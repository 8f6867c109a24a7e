import NIOCore
import Traffic

/// Holds a connection until its first octets tell TLS from plaintext, and the name that a TLS client asks for.
final class FirstOctets: PendingConnection, ChannelInboundHandler, RemovableChannelHandler {
  typealias InboundIn = ByteBuffer
  typealias InboundOut = ByteBuffer

  /// A client of a permissive TCP listener that says nothing for so long waits for the server to speak first.
  private static let serverFirst: UInt64 = 500_000_000

  private let chain: AcceptChain
  private let tls: ServerTLS
  private var held: ByteBuffer?
  private var isOver = false

  init(_ chain: AcceptChain, tls: ServerTLS) {
    self.chain = chain
    self.tls = tls
    super.init(loop: chain.loop, listener: chain.listener)
  }

  private var takesPlaintext: Bool { tls.configuration.permissive }
  private var mayBeServerFirst: Bool { takesPlaintext && listener.compiled.isTCP }
  private var limit: UInt64 { mayBeServerFirst ? Self.serverFirst : listener.compiled.headTimeout }

  func handlerAdded(context: ChannelHandlerContext) { begin(context, limit: limit) }
  func channelActive(context: ChannelHandlerContext) {
    begin(context, limit: limit)
    context.fireChannelActive()
  }
  func handlerRemoved(context: ChannelHandlerContext) {
    settle()
    forgetContext()
  }

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    var buffer = unwrapInboundIn(data)
    if isOver { return context.fireChannelRead(data) }
    if held == nil { held = buffer } else { held?.writeBuffer(&buffer) }
    switch held?.withUnsafeReadableBytes({ ClientHello.read($0) }) {
    case .tls(let name)?: secure(context, serverName: name)
    case .other?: takesPlaintext ? plain(context) : secure(context, serverName: nil)
    case .incomplete?, nil: break
    }
  }

  override func deadlinePassed(_ now: UInt64) {
    guard let context, !isOver else { return }
    if mayBeServerFirst, held == nil { return plain(context) }
    // A client that has begun has as long as any other.
    let end = started &+ listener.compiled.headTimeout
    if now < end { return loop.wheel.set(self, end, now: now) }
    isOver = true
    listener.tlsFailed(.timeout, context.channel.remoteAddress, "the handshake was not complete in time")
    context.close(promise: nil)
  }

  func channelInactive(context: ChannelHandlerContext) {
    if !isOver, held != nil {
      listener.tlsFailed(
        .closed, context.channel.remoteAddress, "the client closed the connection during the handshake")
    }
    isOver = true
    context.fireChannelInactive()
  }

  func errorCaught(context: ChannelHandlerContext, error: any Error) { context.close(promise: nil) }

  private func plain(_ context: ChannelHandlerContext) {
    leave(context) { try chain.serve(context.channel) }
  }

  private func secure(_ context: ChannelHandlerContext, serverName: String?) {
    leave(context) { try chain.terminate(context.channel, tls, serverName: serverName) }
  }

  /// Puts the next layer in place, hands on what was read, and goes.
  private func leave(_ context: ChannelHandlerContext, _ next: () throws -> Void) {
    isOver = true
    settle()
    do { try next() } catch { return context.close(promise: nil) }
    if let held {
      self.held = nil
      context.fireChannelRead(wrapInboundOut(held))
      context.fireChannelReadComplete()
    }
    context.pipeline.syncOperations.removeHandler(self, promise: nil)
  }
}
