import NIOCore
import Traffic
import Vocabulary

/// Takes the PROXY header off the beginning of a connection; without one the connection is refused.
final class ProxyHeaderReceiver: ChannelInboundHandler, RemovableChannelHandler {
  typealias InboundIn = ByteBuffer
  typealias InboundOut = ByteBuffer

  private let version: ProxyHeader.Version
  private let downstream: DownstreamHandler
  private var received: ByteBuffer?
  private var isDone = false

  init(_ version: ProxyHeader.Version, _ downstream: DownstreamHandler) {
    self.version = version
    self.downstream = downstream
  }

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    if isDone { return context.fireChannelRead(data) }
    var buffer = unwrapInboundIn(data)
    if received == nil { received = buffer } else { received?.writeBuffer(&buffer) }
    guard var whole = received else { return }
    do throws(ProxyHeader.Refusal) {
      guard case .header(let peers, let length) = try decode(whole) else { return }
      isDone = true
      received = nil
      whole.moveReaderIndex(forwardBy: length)
      downstream.arrived(peers)
      if whole.readableBytes > 0 { context.fireChannelRead(wrapInboundOut(whole)) }
      context.pipeline.syncOperations.removeHandler(context: context, promise: nil)
    } catch {
      isDone = true
      received = nil
      downstream.refuseArrival(error)
    }
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

extension DownstreamHandler {
  /// The PROXY header has told whose the connection is.
  func arrived(_ peers: ProxyHeader.Peers) {
    accept.peers = peers == .unknown ? nil : peers
    switch peers {
    case .tcp(let source, _, _, _): clientAddress = Array(source.description.utf8)
    case .unix: clientAddress = Array("unknown".utf8)
    case .unknown: break
    }
    guard phase == .arriving else { return }
    start(NIODeadline.now().uptimeNanoseconds)
  }

  func refuseArrival(_ refusal: ProxyHeader.Refusal) {
    listener.refusals.count(refusal.rawValue, loop, listener.compiled.name)
    closeNow()
  }

  /// The header that a connection to that cluster begins with on behalf of this client; nil = none.
  func proxyHeader(for cluster: LoopCluster) -> [UInt8]? {
    guard let version = cluster.proxyProtocol else { return nil }
    return ProxyHeader.encode(accept.peers ?? ownPeers, version)
  }

  private var ownPeers: ProxyHeader.Peers {
    guard let channel = context?.channel, let remote = channel.remoteAddress, let local = channel.localAddress,
      let source = IPAddress(of: remote), let destination = IPAddress(of: local)
    else { return .unix }
    return .tcp(
      source: source, sourcePort: UInt16(clamping: remote.port ?? 0), destination: destination,
      destinationPort: UInt16(clamping: local.port ?? 0))
  }
}
