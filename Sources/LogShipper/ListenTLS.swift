import Logging
import Logs
import NIOCore
import NIOPosix
import NIOSSL
import NIOTLS
import Synchronization
import Vocabulary

/// The TLS side of a source that listens. Files and secrets are looked at before a handshake, at most once a second; what
/// is new and cannot be used is told, and the last good certificate stays.
final class ListenTLS: Sendable {
  private struct State {
    var context: NIOSSLContext?
    var material: [[UInt8]] = []
    var looked: Int64 = .min
    var told: String?
  }

  private let name: String
  private let configuration: LogListenerTLS
  private let secrets: LogPipeline.SecretResolver
  private let logger: Logger
  private let state = Mutex(State())

  init(
    _ name: String, _ configuration: LogListenerTLS, secrets: @escaping LogPipeline.SecretResolver, logger: Logger
  ) {
    self.name = name
    self.configuration = configuration
    self.secrets = secrets
    self.logger = logger
  }

  private struct Unusable: Error { var reason: String }

  /// What is current; nil while there is no certificate that can be used.
  func context() -> NIOSSLContext? {
    let now = Clock.monotonic()
    let (context, problem) = state.withLock { state -> (NIOSSLContext?, String?) in
      guard state.looked == .min || now - state.looked > 1_000_000_000 else { return (state.context, nil) }
      state.looked = now
      do {
        let material = try material()
        if material != state.material || state.context == nil {
          state.context = try make(material)
          state.material = material
        }
        state.told = nil
      } catch {
        let reason = (error as? Unusable)?.reason ?? "\(error)"
        guard state.told != reason else { return (state.context, nil) }
        state.told = reason
        return (state.context, reason)
      }
      return (state.context, nil)
    }
    if let problem { logger.error("logs.sources.\(name).tls: \(problem)") }
    return context
  }

  /// The PEM text of the chain, of the key, and of the clients' authorities when certificates are asked for.
  private func material() throws -> [[UInt8]] {
    var all: [[UInt8]] = []
    switch configuration.certificate {
    case .files(let certificate, let key): all = [try Self.file(certificate), try Self.file(key)]
    case .secret(let name):
      let issuers = field(name, ["ca_chain", "issuing_ca"]) ?? []
      guard let chain = field(name, ["certificate", "tls.crt", "cert"]),
        let key = field(name, ["private_key", "tls.key", "key"])
      else {
        throw Unusable(reason: "secret `\(name)` has no certificate and key (yet); see `outrider secrets status`")
      }
      all = [chain + [0x0A] + issuers, key]
    }
    switch configuration.clientCA {
    case nil: break
    case .file(let path): all.append(try Self.file(path))
    case .secret(let name):
      guard let authorities = field(name, ["ca_chain", "issuing_ca", "ca.crt", "ca"]) else {
        throw Unusable(reason: "secret `\(name)` has no authorities (yet); see `outrider secrets status`")
      }
      all.append(authorities)
    }
    return all
  }

  private static func file(_ path: String) throws -> [UInt8] {
    guard let bytes = StateFile.contents(path, limit: 4 << 20) else { throw Unusable(reason: "cannot read \(path)") }
    return bytes
  }

  private func field(_ name: String, _ fields: [String]) -> [UInt8]? {
    fields.lazy.compactMap { field in
      self.secrets(SecretTemplate(parts: [.secret(SecretReference(name: name, field: field))]))
    }.first
  }

  private func make(_ material: [[UInt8]]) throws -> NIOSSLContext {
    do {
      let chain = try NIOSSLCertificate.fromPEMBytes(material[0])
      let key = try NIOSSLPrivateKey(bytes: material[1], format: .pem)
      var tls = TLSConfiguration.makeServerConfiguration(
        certificateChain: chain.map { .certificate($0) }, privateKey: .privateKey(key))
      tls.minimumTLSVersion = configuration.isModern ? .tlsv13 : .tlsv12
      if material.count > 2 {
        tls.trustRoots = .certificates(try NIOSSLCertificate.fromPEMBytes(material[2]))
        tls.certificateVerification = .noHostnameVerification
      }
      return try NIOSSLContext(configuration: tls)
    } catch {
      throw Unusable(reason: "the certificate, its key or the authorities cannot be used: \(error)")
    }
  }
}

/// Ends TLS in front of a source that reads descriptors: what comes in is handed on through a pair of sockets, and what
/// the source answers goes the way back. Whoever is slow makes the other side wait.
enum TLSFront {
  /// A handshake takes no longer.
  static let patience = TimeAmount.seconds(15)

  /// Takes ownership of both descriptors. `failed` is told when the handshake does not succeed.
  static func join(
    _ outer: CInt, _ inner: CInt, _ tls: NIOSSLContext, on loop: any EventLoop,
    failed: @escaping @Sendable (String) -> Void
  ) {
    loop.execute {
      let inside = PassOn(isOuter: false, failed: failed)
      let outside = PassOn(isOuter: true, failed: failed)
      inside.partner = outside
      outside.partner = inside
      let bound = NIOLoopBound((inside, outside), eventLoop: loop)
      func bootstrap() -> ClientBootstrap {
        ClientBootstrap(group: loop).channelOption(.allowRemoteHalfClosure, value: true)
      }
      let first = bootstrap().channelInitializer { channel in
        channel.eventLoop.makeCompletedFuture { try channel.pipeline.syncOperations.addHandler(bound.value.0) }
      }.withConnectedSocket(inner)
      first.whenFailure { _ in bound.value.1.end() }
      bootstrap().channelInitializer { channel in
        channel.eventLoop.makeCompletedFuture {
          try channel.pipeline.syncOperations.addHandlers(NIOSSLServerHandler(context: tls), bound.value.1)
        }
      }.withConnectedSocket(outer).whenFailure { _ in bound.value.0.end() }
    }
  }
}

/// One of two ends: what is read here is written there.
private final class PassOn: ChannelDuplexHandler {
  typealias InboundIn = ByteBuffer
  typealias OutboundIn = ByteBuffer
  typealias OutboundOut = ByteBuffer

  var partner: PassOn?
  private let isOuter: Bool
  private let failed: @Sendable (String) -> Void
  private var context: ChannelHandlerContext?
  private var isShaken: Bool
  private var waitsToRead = false
  private var isOver = false
  /// Reads before the other end is there.
  private var early: [ByteBuffer] = []

  init(isOuter: Bool, failed: @escaping @Sendable (String) -> Void) {
    self.isOuter = isOuter
    self.failed = failed
    isShaken = !isOuter
  }

  func handlerAdded(context: ChannelHandlerContext) {
    if isOver {
      context.close(promise: nil)
      return
    }
    self.context = context
    guard isOuter else { return }
    let bound = NIOLoopBound(self, eventLoop: context.eventLoop)
    context.eventLoop.scheduleTask(in: TLSFront.patience) {
      if !bound.value.isShaken { bound.value.fail("it took longer than 15 s") }
    }
  }

  func handlerRemoved(context: ChannelHandlerContext) { self.context = nil }

  func channelActive(context: ChannelHandlerContext) {
    for buffer in early { context.write(wrapOutboundOut(buffer), promise: nil) }
    early = []
    context.flush()
    context.fireChannelActive()
  }

  func channelRead(context: ChannelHandlerContext, data: NIOAny) { partner?.write(unwrapInboundIn(data)) }

  func channelReadComplete(context: ChannelHandlerContext) { partner?.context?.flush() }

  private func write(_ buffer: ByteBuffer) {
    if let context { context.write(wrapOutboundOut(buffer), promise: nil) } else if !isOver { early.append(buffer) }
  }

  func read(context: ChannelHandlerContext) {
    if let partner, let other = partner.context, !other.channel.isWritable {
      waitsToRead = true
    } else {
      context.read()
    }
  }

  func channelWritabilityChanged(context: ChannelHandlerContext) {
    if context.channel.isWritable, let partner, partner.waitsToRead {
      partner.waitsToRead = false
      partner.context?.read()
    }
    context.fireChannelWritabilityChanged()
  }

  func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
    switch event {
    case TLSUserEvent.handshakeCompleted: isShaken = true
    case ChannelEvent.inputClosed: partner?.endOutput()
    default: break
    }
    context.fireUserInboundEventTriggered(event)
  }

  func channelInactive(context: ChannelHandlerContext) {
    if !isShaken { fail("the client went away") }
    isOver = true
    self.context = nil
    isOuter ? partner?.endOutput() : partner?.end()
    partner = nil
    context.fireChannelInactive()
  }

  func errorCaught(context: ChannelHandlerContext, error: any Error) {
    if !isShaken { fail("\(error)") }
    context.close(promise: nil)
  }

  private func fail(_ reason: String) {
    guard !isShaken else { return }
    isShaken = true
    failed(reason)
    context?.close(promise: nil)
  }

  /// What was written goes out, then the reader sees the end.
  private func endOutput() {
    guard let context else { return end() }
    context.flush()
    context.close(mode: .output, promise: nil)
  }

  /// What was written goes out, then the connection ends.
  func end() {
    isOver = true
    guard let context else { return }
    let channel = context.channel
    let written = context.eventLoop.makePromise(of: Void.self)
    written.futureResult.whenComplete { _ in channel.close(promise: nil) }
    context.writeAndFlush(wrapOutboundOut(ByteBuffer()), promise: written)
  }
}
