import NIOCore
import NIOPosix
import NIOSSL
import Traffic

/// What an accepted connection goes through until the handler of its protocol has it, outermost first. A layer that
/// has to see octets is a handler that leaves the pipeline when it has decided, so that nothing of it stays behind.
///
///     socket → PROXY header → first octets (TLS or plaintext, which name) → TLS handshake → detection → protocol
struct AcceptChain {
  let loop: LoopState
  let listener: LoopListener
  /// Where an intercepted connection was going; nil = it came to the listener itself.
  var original: LoopRoute?
  /// As a PROXY header said; nil = the connection's own addresses hold.
  var peers: ProxyHeader.Peers?

  /// Of a connection that was accepted there. A transparent listener hands it to the listener that it was going to.
  init(_ loop: LoopState, _ listener: LoopListener, _ channel: any Channel) throws {
    self.loop = loop
    guard listener.compiled.isTransparent else {
      self.listener = listener
      return
    }
    switch Interception.decide(channel, loop, listener, NIODeadline.now().uptimeNanoseconds) {
    case .listener(let chosen, let original):
      if chosen !== listener, chosen.refusesFull(loop) { throw ChannelError.operationUnsupported }
      self.listener = chosen
      self.original = original
    case .refused(let reason):
      listener.refusals.count(reason, loop, listener.compiled.name)
      throw ChannelError.operationUnsupported
    }
  }

  /// 1. The PROXY header, which stands before everything else, TLS included.
  func begin(_ channel: any Channel) throws {
    guard let version = listener.compiled.proxyProtocol else { return try secure(channel) }
    try channel.pipeline.syncOperations.addHandler(ProxyHeaderReceiver(version, self))
  }

  /// 2. TLS, where the listener has it; what it must see of the first octets decides on which terms.
  func secure(_ channel: any Channel) throws {
    guard let tls = listener.compiled.tls else { return try serve(channel) }
    if tls.readsFirstOctets {
      try channel.pipeline.syncOperations.addHandler(FirstOctets(self, tls: tls), position: .last)
    } else {
      try terminate(channel, tls, serverName: nil)
    }
  }

  /// The TLS handshake, and then `serve`.
  func terminate(_ channel: any Channel, _ tls: ServerTLS, serverName: String?) throws {
    guard let context = tls.context(serverName: serverName) else {
      let name = serverName.map { " for \($0)" } ?? ""
      listener.tlsFailed(
        .unavailable, channel.remoteAddress, "there is no certificate\(name) (yet); the connection is refused")
      throw ChannelError.operationUnsupported
    }
    let engine = NIOSSLServerHandler(context: context, configuration: TLSLimits.handler)
    let handshake = ServerHandshake(self, tls: tls, engine: engine)
    try channel.pipeline.syncOperations.addHandlers([engine, handshake], position: .last)
  }

  /// 3. The handler of what is spoken. `negotiated` is ALPN's answer; where there is none, the first octets tell
  /// (`Downstream+Detection.swift`).
  func serve(_ channel: any Channel, session: TLSSession? = nil, negotiated: String? = nil) throws {
    switch ApplicationProtocol(negotiated: negotiated) {
    case .http2:
      var accept = AcceptState()
      accept.peers = peers
      accept.original = original
      try channel.pipeline.syncOperations.addHandler(
        HTTP2Downstream(loop: loop, listener: listener, session: session, accept: accept))
    case .http1:
      let downstream = DownstreamHandler(loop: loop, listener: listener, session: session)
      downstream.accept.peers = peers
      downstream.accept.original = original
      downstream.accept.isNegotiated = negotiated != nil
      if downstream.accept.isTCP || downstream.passRoute != nil {
        try channel.syncOptions?.setOption(.allowRemoteHalfClosure, value: true)
      }
      try channel.pipeline.syncOperations.addHandler(downstream)
    }
  }
}

/// What is known of a connection before its first request.
struct AcceptState {
  /// Octets pass unread: the listener is of TCP, or what came first was no HTTP.
  var isTCP = false
  /// ALPN told what is spoken.
  var isNegotiated = false
  /// The connection was counted among those that were accepted.
  var isCounted = false
  /// A request was read: what begins a connection cannot come any more.
  var hasServed = false
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
