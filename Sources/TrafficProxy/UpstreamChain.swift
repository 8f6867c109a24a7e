import NIOCore
import NIOSSL
import Transport

/// What a new connection to an upstream goes through until a request may be written, outermost first:
///
///     socket → PROXY header → TLS handshake, each where the cluster asks for it → protocol
enum UpstreamChain {
  /// A connection that can be used.
  struct Ready {
    /// Nanoseconds that the TLS handshake took; 0 in plaintext.
    var tlsTime: UInt64 = 0
    /// What the upstream chose of what was offered.
    var spoken = ApplicationProtocol.http1
  }

  /// Succeeds once the connection can be used. The connect timeout covers everything until then.
  static func connect(_ made: UpstreamHandler, tcp: Bool, timeout: UInt64) -> EventLoopFuture<Ready> {
    connect(
      made, made.loop, made.cluster, made.endpoint, address: made.endpoint.resolved.address,
      proxyHeader: made.proxyHeader, tcp: tcp, timeout: timeout)
  }

  /// The same for any handler that stands innermost.
  static func connect(
    _ innermost: any ChannelHandler, _ loop: LoopState, _ cluster: LoopCluster, _ endpoint: LoopEndpoint,
    address: SocketAddress, proxyHeader: [UInt8]?, tcp: Bool, timeout: UInt64
  ) -> EventLoopFuture<Ready> {
    let deadline = NIODeadline.now().uptimeNanoseconds &+ timeout
    let handshake: UpstreamHandshake?
    do {
      handshake = try cluster.shared.tls.map {
        try UpstreamHandshake(loop, cluster, endpoint, $0, tcp: tcp, deadline: deadline)
      }
    } catch {
      return loop.eventLoop.makeFailedFuture(error)
    }
    let bound = NIOLoopBound(handshake, eventLoop: loop.eventLoop)
    let connected = StreamChannel.connect(loop.eventLoop, to: address, timeout: timeout, watermark: loop.watermark) {
      // The PROXY header stands before everything else, TLS included.
      if let header = proxyHeader { try $0.pipeline.syncOperations.addHandler(ProxyHeaderSender(header)) }
      if let handshake { try $0.pipeline.syncOperations.addHandlers([handshake.engine, handshake]) }
      try $0.pipeline.syncOperations.addHandler(innermost)
    }
    return connected.flatMap { channel in
      bound.value?.wait() ?? channel.eventLoop.makeSucceededFuture(Ready())
    }
  }
}
