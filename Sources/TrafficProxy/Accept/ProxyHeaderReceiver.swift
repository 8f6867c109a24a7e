import NIOCore
import Traffic
import Vocabulary

/// Takes the PROXY header off the beginning of a connection; without one the connection is refused.
final class ProxyHeaderReceiver: PendingConnection, ChannelInboundHandler, RemovableChannelHandler {
  typealias InboundIn = ByteBuffer
  typealias InboundOut = ByteBuffer

  private let version: ProxyHeader.Version
  private var chain: AcceptChain
  private var received: ByteBuffer?
  private var isDone = false

  init(_ version: ProxyHeader.Version, _ chain: AcceptChain) {
    self.version = version
    self.chain = chain
    super.init(loop: chain.loop, listener: chain.listener)
  }

  func handlerAdded(context: ChannelHandlerContext) { begin(context, limit: listener.compiled.headTimeout) }
  func channelActive(context: ChannelHandlerContext) {
    begin(context, limit: listener.compiled.headTimeout)
    context.fireChannelActive()
  }
  func handlerRemoved(context: ChannelHandlerContext) {
    settle()
    forgetContext()
  }

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    if isDone { return context.fireChannelRead(data) }
    var buffer = unwrapInboundIn(data)
    if received == nil { received = buffer } else { received?.writeBuffer(&buffer) }
    guard var whole = received else { return }
    do throws(ProxyHeader.Refusal) {
      guard case .header(let peers, let length) = try decode(whole) else { return }
      whole.moveReaderIndex(forwardBy: length)
      arrived(peers, whole, context)
    } catch {
      refuse(error.rawValue)
    }
  }

  /// Puts the next layer in place, hands on what came behind the header, and goes.
  private func arrived(_ peers: ProxyHeader.Peers, _ rest: ByteBuffer, _ context: ChannelHandlerContext) {
    isDone = true
    received = nil
    settle()
    if peers != .unknown { chain.peers = peers }
    do { try chain.secure(context.channel) } catch { return context.close(promise: nil) }
    if rest.readableBytes > 0 { context.fireChannelRead(wrapInboundOut(rest)) }
    context.pipeline.syncOperations.removeHandler(context: context, promise: nil)
  }

  func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
    if !isDone, case .inputClosed = event as? ChannelEvent { return context.close(promise: nil) }
    context.fireUserInboundEventTriggered(event)
  }

  override func deadlinePassed(_ now: UInt64) {
    if !isDone { refuse("its PROXY header did not arrive in time") }
  }

  private func refuse(_ reason: String) {
    isDone = true
    received = nil
    listener.refusals.count(reason, loop, listener.compiled.name)
    context?.close(promise: nil)
  }

  private func decode(_ buffer: ByteBuffer) throws(ProxyHeader.Refusal) -> ProxyHeader.Decoded {
    var result: Result<ProxyHeader.Decoded, ProxyHeader.Refusal> = .success(.more)
    buffer.withUnsafeReadableBytes { bytes in
      do throws(ProxyHeader.Refusal) {
        result = .success(try ProxyHeader.decode(bytes, version))
      } catch {
        result = .failure(error)
      }
    }
    return try result.get()
  }
}

/// Begins a connection to an upstream with a PROXY header, before anything else is sent, TLS included.
final class ProxyHeaderSender: ChannelDuplexHandler, RemovableChannelHandler {
  typealias InboundIn = ByteBuffer
  typealias OutboundIn = ByteBuffer
  typealias OutboundOut = ByteBuffer

  private var header: [UInt8]?

  init(_ header: [UInt8]) { self.header = header }

  /// A request may be written before the channel tells that it is active.
  func write(context: ChannelHandlerContext, data: NIOAny, promise: EventLoopPromise<Void>?) {
    begin(context)
    context.write(data, promise: promise)
  }

  func channelActive(context: ChannelHandlerContext) {
    // Alone it does not wait for what the client sends: the server may greet first.
    begin(context)
    context.flush()
    context.fireChannelActive()
    context.pipeline.syncOperations.removeHandler(context: context, promise: nil)
  }

  private func begin(_ context: ChannelHandlerContext) {
    guard let header else { return }
    self.header = nil
    context.write(wrapOutboundOut(context.channel.allocator.buffer(bytes: header)), promise: nil)
  }
}

extension ExchangeDriver {
  /// The header that a connection to that cluster begins with on behalf of this client; nil = none.
  func proxyHeader(for cluster: LoopCluster) -> [UInt8]? {
    guard let version = cluster.proxyProtocol else { return nil }
    return ProxyHeader.encode(accept.peers ?? ownPeers, version)
  }

  private var ownPeers: ProxyHeader.Peers {
    guard let channel = clientChannel, let remote = channel.remoteAddress, let local = channel.localAddress,
      let source = IPAddress(of: remote), let destination = IPAddress(of: local)
    else { return .unix }
    return .tcp(
      source: source, sourcePort: UInt16(clamping: remote.port ?? 0), destination: destination,
      destinationPort: UInt16(clamping: local.port ?? 0))
  }
}

extension AcceptState {
  /// Who the client is: as a PROXY header said, else as the connection says.
  func client(of channel: any Channel) -> [UInt8] {
    switch peers {
    case .tcp(let source, _, _, _)?: Array(source.description.utf8)
    case .unix?: Array("unknown".utf8)
    // An IPv4 client of a socket of both families is one of IPv4.
    case .unknown?, nil: Array((channel.remoteAddress.flatMap { IPAddress(of: $0) }?.description ?? "unknown").utf8)
    }
  }
}
