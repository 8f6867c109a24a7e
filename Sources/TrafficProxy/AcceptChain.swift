import NIOCore
import NIOSSL

/// What an accepted connection goes through until the handler of its protocol has it, outermost first. A layer that
/// has to see octets is a handler that leaves the pipeline when it has decided, so that nothing of it stays behind.
///
///     socket → first octets (TLS or plaintext, which name) → TLS handshake → protocol
enum AcceptChain {
  static func begin(_ channel: any Channel, _ loop: LoopState, _ listener: LoopListener) throws {
    guard let tls = listener.compiled.tls else { return try serve(channel, loop, listener) }
    if tls.readsFirstOctets {
      try channel.pipeline.syncOperations.addHandler(FirstOctets(loop: loop, listener: listener, tls: tls))
    } else {
      try terminate(channel, loop, listener, tls, serverName: nil)
    }
  }

  /// The TLS handshake, and then `serve`.
  static func terminate(
    _ channel: any Channel, _ loop: LoopState, _ listener: LoopListener, _ tls: ServerTLS, serverName: String?
  ) throws {
    guard let context = tls.context(serverName: serverName) else {
      let name = serverName.map { " for \($0)" } ?? ""
      listener.tlsFailed(
        .unavailable, channel.remoteAddress, "there is no certificate\(name) (yet); the connection is refused")
      throw ChannelError.operationUnsupported
    }
    let engine = NIOSSLServerHandler(context: context, configuration: TLSLimits.handler)
    let handshake = ServerHandshake(loop: loop, listener: listener, tls: tls, engine: engine)
    try channel.pipeline.syncOperations.addHandlers([engine, handshake], position: .last)
  }

  /// The handler of what is spoken. `negotiated` is ALPN's answer; without TLS there is none.
  static func serve(
    _ channel: any Channel, _ loop: LoopState, _ listener: LoopListener, session: TLSSession? = nil,
    negotiated: String? = nil
  ) throws {
    switch ApplicationProtocol(negotiated: negotiated) {
    case .http1:
      try channel.pipeline.syncOperations.addHandler(
        DownstreamHandler(loop: loop, listener: listener, session: session))
    }
  }
}
