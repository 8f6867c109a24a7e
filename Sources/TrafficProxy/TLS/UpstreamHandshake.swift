import Logging
import NIOCore
import NIOSSL
import NIOTLS
import Traffic

/// Waits for the end of a TLS handshake with an upstream, checks who the upstream is, and leaves the pipeline.
final class UpstreamHandshake: Timed, ChannelInboundHandler, RemovableChannelHandler {
  typealias InboundIn = ByteBuffer

  let engine: NIOSSLClientHandler
  private let tls: ClusterTLS
  private let cluster: LoopCluster
  private let loop: LoopState
  private let serverName: String?
  private let endpoint: [UInt8]
  private let limit: UInt64
  private var outcome: Result<UpstreamChain.Ready, TLSFailure>?
  /// Made when somebody waits.
  private var promise: EventLoopPromise<UpstreamChain.Ready>?
  private var started: UInt64 = 0
  private var context: ChannelHandlerContext?
  private var isOver: Bool { outcome != nil }

  /// Throws `TLSFailure` when the cluster's certificate or authorities are not there (yet).
  init(
    _ loop: LoopState, _ cluster: LoopCluster, _ endpoint: LoopEndpoint, _ tls: ClusterTLS, tcp: Bool, deadline: UInt64
  ) throws {
    guard let context = tls.context(tcp: tcp) else {
      throw TLSFailure(.tlsUnavailable, "the certificates of the cluster `\(tls.cluster)` are not there (yet)")
    }
    self.tls = tls
    self.cluster = cluster
    self.loop = loop
    self.endpoint = endpoint.text
    limit = deadline
    serverName = tls.configuration.serverName ?? ServerName.of(endpoint.resolved.host)
    do {
      engine = try NIOSSLClientHandler(
        context: context, serverHostname: serverName, configuration: TLSLimits.handler)
    } catch {
      throw TLSFailure(.tlsUnavailable, "`\(serverName ?? "")` cannot be asked for in TLS")
    }
  }

  /// Ends with the handshake, or `TLSFailure`.
  func wait() -> EventLoopFuture<UpstreamChain.Ready> {
    switch outcome {
    case .success(let ready): return loop.eventLoop.makeSucceededFuture(ready)
    case .failure(let failure): return loop.eventLoop.makeFailedFuture(failure)
    case nil:
      let promise = promise ?? loop.eventLoop.makePromise()
      self.promise = promise
      return promise.futureResult
    }
  }

  func handlerAdded(context: ChannelHandlerContext) { self.context = context }

  func channelActive(context: ChannelHandlerContext) {
    started = NIODeadline.now().uptimeNanoseconds
    loop.wheel.set(self, limit, now: started)
    context.fireChannelActive()
  }

  func handlerRemoved(context: ChannelHandlerContext) {
    // Also when the connection never came about: nobody waits then.
    fail(TLSFailure(.tlsProtocol, "the connection ended before its TLS handshake"))
    self.context = nil
  }

  func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
    guard case .handshakeCompleted(let negotiated)? = event as? TLSUserEvent, !isOver else {
      return context.fireUserInboundEventTriggered(event)
    }
    let refusal = tls.refusal(
      tls.configuration.verify ? engine.peerCertificate : nil, serverName: serverName,
      address: context.channel.remoteAddress)
    if let refusal {
      cluster.tlsCounters?.failed(.mismatch)
      return fail(refusal)
    }
    let ready = UpstreamChain.Ready(
      tlsTime: NIODeadline.now().uptimeNanoseconds &- started, spoken: ApplicationProtocol(negotiated: negotiated))
    outcome = .success(ready)
    loop.wheel.remove(self)
    cluster.tlsCounters?.succeeded()
    _ = tls.isNews("")
    promise?.succeed(ready)
    context.pipeline.syncOperations.removeHandler(self, promise: nil)
  }

  func errorCaught(context: ChannelHandlerContext, error: any Error) {
    guard !isOver else { return context.fireErrorCaught(error) }
    let reason = HandshakeReason(error) ?? .other
    let failure =
      TLSFailure(upstream: error, certificate: engine.peerCertificate, trust: tls.configuration.trust)
      ?? TLSFailure(.tlsProtocol, "the TLS handshake failed: \(TLSFailure.words(error))")
    cluster.tlsCounters?.failed(reason == .untrusted ? failure.verificationReason : reason)
    fail(failure)
  }

  func channelInactive(context: ChannelHandlerContext) {
    if !isOver { cluster.tlsCounters?.failed(.closed) }
    fail(TLSFailure(.tlsProtocol, "the upstream closed the connection during the TLS handshake"))
    context.fireChannelInactive()
  }

  override func deadlinePassed(_ now: UInt64) {
    guard !isOver else { return }
    cluster.tlsCounters?.failed(.timeout)
    fail(TLSFailure(.connectionTimeout, "no TLS handshake within the connect timeout"))
  }

  private func fail(_ failure: TLSFailure) {
    guard !isOver else { return }
    outcome = .failure(failure)
    loop.wheel.remove(self)
    if tls.isNews(failure.detail), started > 0 {
      loop.shared.logger.warning(
        "clusters.\(tls.cluster): no TLS with \(String(decoding: endpoint, as: UTF8.self)): \(failure.detail)")
    }
    promise?.fail(failure)
    context?.close(promise: nil)
  }
}

/// The name to ask for and to check, from an endpoint's `name:port`; addresses have none.
enum ServerName {
  static func of(_ authority: String) -> String? {
    guard !authority.hasPrefix("[") else { return nil }
    let name = authority.prefix { $0 != ":" }
    let isAddress = name.utf8.allSatisfy { $0 == 0x2E || (0x30...0x39).contains($0) }
    // RFC 6066 section 3: without the dot at the end.
    return isAddress || name.isEmpty ? nil : String(name.last == "." ? name.dropLast() : name)
  }
}
