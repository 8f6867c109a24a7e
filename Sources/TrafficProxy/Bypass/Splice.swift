import NIOCore
import NIOPosix
import Synchronization
import Telemetry
import Traffic
import Transport

#if canImport(Glibc)
  import Glibc
#else
  import Musl
#endif

/// An accepted connection and one to the app, each octet of which goes to the other side as it is.
final class Splice: Timed {
  private static let connectTimeout: UInt64 = 5_000_000_000
  /// From the end of the bypass: a connection is closed once it was silent for the first, or after the second.
  private static let silence: UInt64 = 1_000_000_000
  private static let grace: UInt64 = 30_000_000_000

  let loop: LoopState
  let listener: LoopListener
  let client = SpliceEnd()
  private var app: SpliceEnd?
  private var isCounted = false
  private var endsAt: UInt64?
  /// Octets have passed since it was looked last.
  var moved = false

  init(_ loop: LoopState, _ listener: LoopListener) {
    self.loop = loop
    self.listener = listener
    super.init()
    client.splice = self
  }

  /// Takes over an accepted connection.
  func begin(_ channel: any Channel) throws {
    try channel.syncOptions?.setOption(.allowRemoteHalfClosure, value: true)
    try channel.pipeline.syncOperations.addHandler(client)
  }

  /// The client's connection stands.
  func clientIsThere() {
    guard !isCounted else { return }
    isCounted = true
    loop.splices[ObjectIdentifier(self)] = self
    let bypass = loop.shared.bypass
    bypass.countConnection()
    bypass.open.wrappingAdd(1, ordering: .relaxed)
    listener.connectionsTotal.addAsOwner()
    listener.connectionsActive.add(1)
    listener.open.count.wrappingAdd(1, ordering: .relaxed)
    loop.shared.addInFlight(.inbound, 1)
    guard let endpoint = loop.clusters["app"]?.endpoints.first else { return client.reset() }
    let app = SpliceEnd()
    app.splice = self
    app.other = client
    client.other = app
    self.app = app
    let made = StreamChannel.connect(
      loop.eventLoop, to: endpoint.resolved.address, timeout: Self.connectTimeout, watermark: loop.watermark
    ) {
      try $0.syncOptions?.setOption(.allowRemoteHalfClosure, value: true)
      try $0.pipeline.syncOperations.addHandler(app)
    }
    // As a connection to the app itself would end.
    made.assumeIsolated().whenFailure { [client] _ in client.reset() }
  }

  /// The client's connection is over.
  func clientIsGone() {
    guard isCounted else { return }
    isCounted = false
    app = nil
    loop.splices[ObjectIdentifier(self)] = nil
    loop.wheel.remove(self)
    loop.shared.bypass.open.wrappingSubtract(1, ordering: .relaxed)
    listener.connectionsActive.add(-1)
    listener.open.count.wrappingSubtract(1, ordering: .relaxed)
    loop.shared.addInFlight(.inbound, -1)
  }

  /// Ends it soon: octets of any protocol pass, so only silence tells that nothing is cut.
  func endSoon() {
    guard endsAt == nil else { return }
    let now = NIODeadline.now().uptimeNanoseconds
    endsAt = now &+ Self.grace
    moved = false
    loop.wheel.set(self, now &+ Self.silence, now: now)
  }

  override func deadlinePassed(_ now: UInt64) {
    guard let endsAt else { return }
    if !moved || now >= endsAt { return closeNow() }
    moved = false
    loop.wheel.set(self, min(endsAt, now &+ Self.silence), now: now)
  }

  func closeNow() {
    client.close()
    app?.close()
  }
}

/// One of the two connections of a splice.
final class SpliceEnd: ChannelDuplexHandler {
  typealias InboundIn = ByteBuffer
  typealias OutboundIn = ByteBuffer
  typealias OutboundOut = ByteBuffer

  /// Both until this connection is over.
  fileprivate var splice: Splice?
  fileprivate var other: SpliceEnd?
  private var context: ChannelHandlerContext?
  private var isReadHeld = false
  private var inputEnded = false
  private var wasReset = false

  func handlerAdded(context: ChannelHandlerContext) {
    self.context = context
    if context.channel.isActive { channelActive(context: context) }
  }

  func channelActive(context: ChannelHandlerContext) {
    guard let splice else { return }
    if splice.client === self { splice.clientIsThere() } else { other?.resumeReading() }
  }

  /// The fast side stops while the slow side cannot take more, or is not there yet.
  private var holdsReading: Bool { !(other?.canTake ?? false) }
  private var canTake: Bool { context.map { $0.channel.isActive && $0.channel.isWritable } ?? false }

  func read(context: ChannelHandlerContext) {
    if holdsReading { isReadHeld = true } else { context.read() }
  }

  private func resumeReading() {
    guard isReadHeld, !holdsReading else { return }
    isReadHeld = false
    context?.read()
  }

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    splice?.moved = true
    other?.context?.write(data, promise: nil)
  }

  func channelReadComplete(context: ChannelHandlerContext) { other?.context?.flush() }

  func channelWritabilityChanged(context: ChannelHandlerContext) {
    if context.channel.isWritable {
      splice?.moved = true
      other?.resumeReading()
    }
  }

  func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
    switch event as? ChannelEvent {
    case .inputClosed:
      inputEnded = true
      if let other, let peer = other.context { peer.endOutput(inputEnded: other.inputEnded) }
    case .outputClosed: if inputEnded { context.close(promise: nil) }
    case nil: context.fireUserInboundEventTriggered(event)
    }
  }

  func errorCaught(context: ChannelHandlerContext, error: any Error) {
    wasReset = true
    context.close(promise: nil)
  }

  func channelInactive(context: ChannelHandlerContext) {
    guard let splice else { return }
    self.context = nil
    self.splice = nil
    if splice.client === self { splice.clientIsGone() }
    let left = other
    other = nil
    guard let left, let peer = left.context else { return }
    if wasReset { left.reset() } else { peer.endOutput(inputEnded: true) }
  }

  func handlerRemoved(context: ChannelHandlerContext) {
    self.context = nil
    splice = nil
    other = nil
  }

  fileprivate func close() { context?.close(promise: nil) }

  /// Ends the connection so that its peer knows that something was cut.
  fileprivate func reset() {
    _ = (context?.channel as? any SocketOptionProvider)?.setSoLinger(linger(l_onoff: 1, l_linger: 0))
    context?.close(promise: nil)
  }
}

extension LoopState {
  /// Connections that pass the proxy by end soon.
  func endSplices() { for splice in splices.values { splice.endSoon() } }
}
