import NIOCore
import NIOPosix
import NIOSSL

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
    let watermark = loop.watermark
    let deadline = NIODeadline.now().uptimeNanoseconds &+ timeout
    let handshake: UpstreamHandshake?
    do {
      handshake = try cluster.shared.tls.map {
        try UpstreamHandshake(loop, cluster, endpoint, $0, tcp: tcp, deadline: deadline)
      }
    } catch {
      return loop.eventLoop.makeFailedFuture(error)
    }
    let bound = NIOLoopBound((innermost, handshake), eventLoop: loop.eventLoop)
    let bootstrap = ClientBootstrap(group: loop.eventLoop)
      .connectTimeout(.nanoseconds(Int64(clamping: timeout)))
      .channelOption(.writeBufferWaterMark, value: .init(low: max(1, watermark / 2), high: watermark))
      .channelInitializer { channel in
        channel.eventLoop.makeCompletedFuture {
          let (innermost, handshake) = bound.value
          // The PROXY header stands before everything else, TLS included.
          if let header = proxyHeader {
            try channel.pipeline.syncOperations.addHandler(ProxyHeaderSender(header))
          }
          if let handshake { try channel.pipeline.syncOperations.addHandlers([handshake.engine, handshake]) }
          try channel.pipeline.syncOperations.addHandler(innermost)
        }
      }
    let connected =
      address.pathname.map { bootstrap.connect(unixDomainSocketPath: $0) }
      ?? bootstrap.channelOption(.tcpOption(.tcp_nodelay), value: 1).connect(to: address)
    return connected.flatMap { channel in
      bound.value.1?.wait() ?? channel.eventLoop.makeSucceededFuture(Ready())
    }
  }
}
