import NIOCore
import NIOPosix
import Synchronization
import Traffic

#if canImport(Glibc)
  import Glibc
#else
  import Musl
#endif

/// Octets that pass unread: TCP streams, and what an upgrade or CONNECT turned into one.
extension DownstreamHandler {
  func beginTCP(_ now: UInt64) {
    if openStream(now) { startTry(now) }
  }

  /// Makes the connection one exchange; false when that was refused.
  func openStream(_ now: UInt64) -> Bool {
    phase = .exchange
    loop.shared.addInFlight(listener.compiled.direction, 1)
    exchange.started = now
    exchange.headDone = now
    exchange.requestDone = false
    makeIdentifiers()
    guard let route = passRoute ?? listener.routes.first, let cluster = route.cluster else {
      localError(.noRoute, detail: "the listener has no cluster")
      return false
    }
    exchange.route = route
    if isShed() { return false }
    if let gate = listener.compiled.gate, !admitsStream(gate, now) { return false }
    exchange.countsAsRequest = true
    let active = cluster.shared.requests.wrappingAdd(1, ordering: .relaxed).newValue
    if active > cluster.shared.configuration.maxRequests {
      cluster.rare.add(.requests)
      localError(.overflow, detail: "the cluster has \(active - 1) streams in flight, its limit")
      return false
    }
    return true
  }

  func enterTunnel(_ now: UInt64) {
    try? context?.channel.syncOptions?.setOption(.allowRemoteHalfClosure, value: true)
    loop.wheel.set(self, now &+ listener.compiled.idleTimeout, now: now)
    if let early = input {
      input = nil
      exchange.bytesIn += UInt64(early.readableBytes)
      upstream?.write(early)
      upstream?.flush()
    }
    if clientHalfClosed { upstream?.closeOutput() }
    resumeReading()
  }

  // MARK: Ends, each direction by itself

  /// The client ends its direction; the other goes on.
  func clientEnded() {
    clientHalfClosed = true
    switch phase {
    case .tunnel: upstream?.closeOutput()
    // Nothing can come of it.
    case .detecting: closeNow()
    case .exchange, .head, .lingering, .closed: break
    }
  }

  func endOutput() {
    guard !accept.outputEnded, let context else { return }
    accept.outputEnded = true
    releaseGathered()
    context.endOutput(inputEnded: clientHalfClosed)
  }

  /// The upstream's connection is over. A reset is passed on, so that nobody takes a part for the whole.
  func endTunnel(wasReset: Bool) {
    upstream = nil
    if phase == .detecting {
      endEarly()
      return closeNow()
    }
    if wasReset {
      exchange.flag = Fault.connectionReset.flag
      exchange.blame = Fault.connectionReset.blame(toApp: exchange.route?.cluster?.shared.isApp ?? false)
      return abort()
    }
    finishExchange(NIODeadline.now().uptimeNanoseconds)
    closeGracefully()
  }

  /// Closes our side once everything is written, then waits a little for the client (RFC 9112 section 9.6).
  func closeGracefully() {
    guard context != nil else { return }
    phase = .lingering
    input = nil
    let now = NIODeadline.now().uptimeNanoseconds
    loop.wheel.set(self, now &+ 2_000_000_000, now: now)
    endOutput()
    releaseHeldRead()
  }

  /// What becomes of the upstream's connection when the client's is over.
  func releaseTunnel(_ left: UpstreamLeg) {
    if accept.wasReset {
      left.reset()
    } else if clientHalfClosed || accept.outputEnded {
      left.finish()
    } else {
      left.abandon()
    }
  }

  // MARK: Time

  /// Called when nothing was received for the idle timeout: true while octets on their way out are still being taken.
  func streamMoves() -> Bool {
    var total = Outflow()
    if let channel = context?.channel { total.add(channel) }
    if let channel = upstream?.channel { total.add(channel) }
    defer { accept.acknowledged = total.acknowledged }
    return total.isPending && total.acknowledged != accept.acknowledged
  }
}

extension ChannelHandlerContext {
  /// Ends our direction once everything written is sent. With the other direction ended too, that ends the connection.
  func endOutput(inputEnded: Bool) {
    flush()
    guard inputEnded else { return close(mode: .output, promise: nil) }
    // A channel whose input has ended would close at once, with what is not sent yet; the end waits behind it.
    let sent = eventLoop.makePromise(of: Void.self)
    let channel = channel
    sent.futureResult.whenComplete { _ in channel.close(promise: nil) }
    writeAndFlush(NIOAny(ByteBuffer()), promise: sent)
  }
}

/// How far octets have come on their way out, over one or more connections.
struct Outflow {
  private(set) var isPending = false
  /// Acknowledged by the peers' kernels, less what waits in our own buffers: it changes whenever something moves.
  private(set) var acknowledged: UInt64 = 0

  /// The first words of Linux's `struct tcp_info`.
  private struct TCPInfo: Sendable {
    var words: InlineArray<19, UInt64> = .init(repeating: 0)
    var unacknowledged: UInt32 { UInt32(truncatingIfNeeded: words[3]) }
    var acknowledged: UInt64 { words[15] }
    var unsent: UInt32 { UInt32(truncatingIfNeeded: words[18]) }
  }

  mutating func add(_ channel: any Channel) {
    let buffered = (try? channel.syncOptions?.getOption(.bufferedWritableBytes)) ?? 0
    if buffered > 0 { isPending = true }
    acknowledged &-= UInt64(buffered)
    guard channel.localAddress?.ipAddress != nil, let provider = channel as? any SocketOptionProvider else { return }
    let future: EventLoopFuture<TCPInfo> = provider.unsafeGetSocketOption(
      level: NIOBSDSocket.OptionLevel(rawValue: CInt(IPPROTO_TCP)), name: NIOBSDSocket.Option(rawValue: TCP_INFO))
    var info = TCPInfo()
    // On the channel's own loop the answer is there already.
    future.assumeIsolated().whenSuccess { info = $0 }
    if info.unacknowledged > 0 || info.unsent > 0 { isPending = true }
    acknowledged &+= info.acknowledged
  }
}
