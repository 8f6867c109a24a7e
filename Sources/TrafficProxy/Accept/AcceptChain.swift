import NIOCore
import NIOPosix
import Traffic

/// What an accepted connection passes before its requests are read, outermost first.
enum AcceptChain {
  static func build(_ channel: any Channel, _ loop: LoopState, _ listener: LoopListener) throws {
    guard let downstream = handler(channel, loop, listener) else { throw ChannelError.operationUnsupported }
    if downstream.listener !== listener, downstream.listener.isFull { throw ChannelError.operationUnsupported }
    let listener = downstream.listener
    let pipeline = channel.pipeline.syncOperations
    // 1. The PROXY header, which stands before everything else, TLS included.
    if let version = listener.compiled.proxyProtocol {
      downstream.phase = .arriving
      try pipeline.addHandler(ProxyHeaderReceiver(version, downstream))
    }
    // 2. TLS belongs here: what follows reads octets that are decrypted.
    // 3. Protocol detection is the first phase of the handler itself (`Downstream+Detection.swift`).
    if downstream.accept.isTCP || downstream.passRoute != nil {
      try channel.syncOptions?.setOption(.allowRemoteHalfClosure, value: true)
    }
    try pipeline.addHandler(downstream)
  }

  /// The handler of the listener that the connection is for; a transparent one looks where it was going.
  private static func handler(
    _ channel: any Channel, _ loop: LoopState, _ listener: LoopListener
  ) -> DownstreamHandler? {
    guard listener.compiled.isTransparent else { return DownstreamHandler(loop: loop, listener: listener) }
    switch Interception.decide(channel, loop, listener, NIODeadline.now().uptimeNanoseconds) {
    case .listener(let chosen, let original):
      let downstream = DownstreamHandler(loop: loop, listener: chosen)
      downstream.accept.original = original
      return downstream
    case .refused(let reason):
      listener.refusals.count(reason, loop, listener.compiled.name)
      return nil
    }
  }
}

/// What is known of a connection before its first request.
struct AcceptState {
  /// Octets pass unread: the listener is of TCP, or what came first was no HTTP.
  var isTCP = false
  /// A connection to the upstream was opened, or is being opened, for a client that has not spoken yet.
  var isEarly = false
  var earlyTries: UInt8 = 0
  /// Our direction towards the client has been ended, or will be once everything is sent.
  var outputEnded = false
  var wasReset = false
  /// What was last seen of the octets that the peers have acknowledged.
  var acknowledged: UInt64 = 0
  /// Where an intercepted connection was going; nil = it was made to the listener.
  var original: LoopRoute?
  /// As a PROXY header said; nil = the connection's own addresses hold.
  var peers: ProxyHeader.Peers?
}
