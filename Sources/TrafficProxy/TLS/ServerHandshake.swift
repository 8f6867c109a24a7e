import NIOCore
import NIOSSL
import NIOTLS
import Synchronization
import Traffic

/// A connection that is not served yet: it counts against the listener's limit, has little time, and is closed when
/// the proxy closes.
class PendingConnection: Timed {
  let loop: LoopState
  let listener: LoopListener
  private(set) var context: ChannelHandlerContext?
  private(set) var started: UInt64 = 0
  private var isPending = false

  init(loop: LoopState, listener: LoopListener) {
    self.loop = loop
    self.listener = listener
  }

  /// Begins the wait, once; `limit` is in nanoseconds.
  func begin(_ context: ChannelHandlerContext, limit: UInt64) {
    self.context = context
    guard !isPending, context.channel.isActive else { return }
    isPending = true
    loop.pending[ObjectIdentifier(self)] = self
    listener.open.count.wrappingAdd(1, ordering: .relaxed)
    started = NIODeadline.now().uptimeNanoseconds
    loop.wheel.set(self, started &+ limit, now: started)
  }

  /// Ends the wait, once.
  func settle() {
    guard isPending else { return }
    isPending = false
    loop.pending[ObjectIdentifier(self)] = nil
    listener.open.count.wrappingSubtract(1, ordering: .relaxed)
    loop.wheel.remove(self)
  }

  func closeNow() { context?.close(promise: nil) }
  func forgetContext() { context = nil }
}

/// Waits for the end of a TLS handshake, checks who the client is, and gives the connection to its protocol.
final class ServerHandshake: PendingConnection, ChannelInboundHandler, RemovableChannelHandler {
  typealias InboundIn = ByteBuffer

  private let chain: AcceptChain
  private let tls: ServerTLS
  private let engine: NIOSSLHandler
  private var isOver = false

  init(_ chain: AcceptChain, tls: ServerTLS, engine: NIOSSLHandler) {
    self.chain = chain
    self.tls = tls
    self.engine = engine
    super.init(loop: chain.loop, listener: chain.listener)
  }

  func handlerAdded(context: ChannelHandlerContext) { begin(context, limit: listener.compiled.headTimeout) }
  func channelActive(context: ChannelHandlerContext) { begin(context, limit: listener.compiled.headTimeout) }
  func handlerRemoved(context: ChannelHandlerContext) {
    settle()
    forgetContext()
  }

  func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
    guard case .handshakeCompleted(let negotiated)? = event as? TLSUserEvent, !isOver else {
      return context.fireUserInboundEventTriggered(event)
    }
    let certificate = tls.asksForCertificate ? engine.peerCertificate : nil
    if let (reason, refusal) = refusal(certificate) { return fail(context, reason, refusal) }
    isOver = true
    listener.tlsCounters?.succeeded()
    settle()
    let channel = context.channel
    do {
      try chain.serve(
        channel, session: TLSSession(engine, verifiedPeer: certificate), negotiated: negotiated)
      channel.pipeline.syncOperations.removeHandler(self, promise: nil)
    } catch {
      context.close(promise: nil)
    }
  }

  /// What a refused client still sends is not looked at.
  func channelRead(context: ChannelHandlerContext, data: NIOAny) {}

  func errorCaught(context: ChannelHandlerContext, error: any Error) {
    if isOver { return context.fireErrorCaught(error) }
    let reason = HandshakeReason(error) ?? .other
    switch reason {
    case .untrusted:
      let source = tls.configuration.clientCA ?? .system
      let failure = engine.peerCertificate.map { TLSFailure.unverified($0, source) }
      fail(
        context, failure?.verificationReason ?? reason,
        failure?.detail ?? "the client's certificate cannot be verified with \(source)")
    case .noCertificate: fail(context, reason, "the client sent no certificate, and one is required")
    case .closed: fail(context, reason, "the client closed the connection during the handshake")
    case .plaintext: fail(context, reason, "the client does not speak TLS")
    case .certificateRefused:
      fail(context, reason, "the client refused the certificate of this listener (\(TLSFailure.words(error)))")
    default: fail(context, reason, TLSFailure.words(error))
    }
  }

  func channelInactive(context: ChannelHandlerContext) {
    if !isOver { fail(context, .closed, "the client closed the connection during the handshake") }
    context.fireChannelInactive()
  }

  override func deadlinePassed(_ now: UInt64) {
    guard let context, !isOver else { return }
    fail(context, .timeout, "the handshake was not complete in time")
  }

  /// Why the client may not come in; nil when it may. The chain has been verified, now or when the session that is
  /// resumed began: an end of validity since then counts.
  private func refusal(_ certificate: NIOSSLCertificate?) -> (HandshakeReason, String)? {
    guard let certificate else {
      guard tls.configuration.clientCertificate == .required else { return nil }
      return (.noCertificate, "the client sent no certificate, and one is required")
    }
    if Int64(certificate.notValidAfter) <= Moment.now {
      return (.expired, TLSFailure.unverified(certificate, tls.configuration.clientCA ?? .system).detail)
    }
    let match = tls.configuration.match
    let names = certificate.names
    if match.isEmpty || match.contains(where: { $0.matches(names, asServer: false) }) { return nil }
    let wanted = match.map(\.description).joined(separator: " or ")
    return (
      .mismatch, "the client's certificate of \(certificate.subject) is for \(names.summary()), not for \(wanted)"
    )
  }

  private func fail(_ context: ChannelHandlerContext, _ reason: HandshakeReason, _ detail: String) {
    guard !isOver else { return }
    isOver = true
    settle()
    listener.tlsFailed(reason, context.channel.remoteAddress, detail)
    context.close(promise: nil)
  }
}

extension LoopListener {
  func tlsFailed(_ reason: HandshakeReason, _ peer: SocketAddress?, _ detail: String) {
    tlsCounters?.failed(
      reason, NIODeadline.now().uptimeNanoseconds, peer: Array((peer?.ipAddress ?? "a client").utf8), detail: detail)
  }
}
