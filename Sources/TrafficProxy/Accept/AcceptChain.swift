import NIOCore
import NIOPosix
import Traffic

/// What an accepted connection passes before its requests are read, outermost first.
enum AcceptChain {
  static func build(_ channel: any Channel, _ loop: LoopState, _ listener: LoopListener) throws {
    let downstream = DownstreamHandler(loop: loop, listener: listener)
    let pipeline = channel.pipeline.syncOperations
    // 1. The PROXY header, which stands before everything else, TLS included.
    if let version = listener.compiled.proxyProtocol {
      downstream.phase = .arriving
      try pipeline.addHandler(ProxyHeaderReceiver(version, downstream))
    }
    // 2. TLS belongs here: what follows reads octets that are decrypted.
    // 3. Protocol detection is the first phase of the handler itself (`Downstream+Detection.swift`).
    if downstream.accept.isTCP || listener.compiled.passesTCP {
      try channel.syncOptions?.setOption(.allowRemoteHalfClosure, value: true)
    }
    try pipeline.addHandler(downstream)
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
  /// As a PROXY header said; nil = the connection's own addresses hold.
  var peers: ProxyHeader.Peers?
}
