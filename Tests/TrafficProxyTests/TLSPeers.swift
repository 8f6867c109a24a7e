import Foundation
import NIOCore
import NIOPosix
import NIOSSL
import NIOTLS
import Synchronization

/// What a TLS peer received and how it ended.
final class TLSInbox: ChannelInboundHandler, Sendable {
  typealias InboundIn = ByteBuffer
  struct State {
    var bytes: [UInt8] = []
    var isReady = false
    var isClosed = false
    var error: (any Error)?
    var negotiated: String?
  }
  let state = Mutex(State())
  private let reply: (@Sendable (ChannelHandlerContext, TLSInbox) -> Void)?

  init(_ reply: (@Sendable (ChannelHandlerContext, TLSInbox) -> Void)? = nil) { self.reply = reply }

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    let buffer = unwrapInboundIn(data)
    state.withLock { $0.bytes += buffer.readableBytesView }
    reply?(context, self)
  }
  func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
    if case .handshakeCompleted(let negotiated)? = event as? TLSUserEvent {
      state.withLock {
        $0.isReady = true
        $0.negotiated = negotiated
      }
    }
  }
  func errorCaught(context: ChannelHandlerContext, error: any Error) {
    state.withLock { $0.error = $0.error ?? error }
    context.close(promise: nil)
  }
  func channelInactive(context: ChannelHandlerContext) { state.withLock { $0.isClosed = true } }

  var text: String { String(decoding: state.withLock { $0.bytes }, as: UTF8.self) }
}

/// Waits until `condition` holds; false after ten seconds.
func eventually(_ condition: @Sendable () async -> Bool) async -> Bool {
  let end = ContinuousClock.now + .seconds(10)
  while ContinuousClock.now < end {
    if await condition() { return true }
    try? await Task.sleep(for: .milliseconds(5))  // between two looks
  }
  return false
}

/// A TLS client.
final class TLSClient: Sendable {
  let inbox: TLSInbox
  private let channel: any Channel

  /// `trust` nil = nothing is checked.
  init(
    _ port: Int, name: String? = "web.shop", trust: Authority? = nil,
    certificate: (certificate: String, key: String)? = nil, versions: ClosedRange<Int> = 12...13
  ) async throws {
    var tls = TLSConfiguration.makeClientConfiguration()
    if let trust { tls.trustRoots = .file(trust.file) } else { tls.certificateVerification = .none }
    if versions.lowerBound == 13 { tls.minimumTLSVersion = .tlsv13 }
    if versions.upperBound == 12 { tls.maximumTLSVersion = .tlsv12 }
    tls.applicationProtocols = ["h9", "http/1.1"]
    if let certificate {
      tls.certificateChain = try NIOSSLCertificate.fromPEMFile(certificate.certificate).map { .certificate($0) }
      tls.privateKey = .privateKey(try NIOSSLPrivateKey(file: certificate.key, format: .pem))
    }
    let context = try NIOSSLContext(configuration: tls)
    let inbox = TLSInbox()
    self.inbox = inbox
    channel = try await ClientBootstrap(group: MultiThreadedEventLoopGroup.singleton)
      .channelInitializer { channel in
        channel.eventLoop.makeCompletedFuture {
          let handler = try NIOSSLClientHandler(context: context, serverHostname: name)
          try channel.pipeline.syncOperations.addHandlers([handler, inbox])
        }
      }
      .connect(host: "127.0.0.1", port: port).get()
  }

  /// True once the handshake is complete, false when the connection ended before.
  var isReady: Bool {
    get async {
      _ = await eventually { self.inbox.state.withLock { $0.isReady || $0.isClosed } }
      return inbox.state.withLock { $0.isReady }
    }
  }

  func send(_ text: String) { channel.writeAndFlush(ByteBuffer(string: text), promise: nil) }
  func finishSending() { channel.close(mode: .output, promise: nil) }

  /// What has come once it holds `text`, or the connection ended.
  func receive(_ text: String) async -> String {
    _ = await eventually { self.inbox.text.contains(text) || self.inbox.state.withLock { $0.isClosed } }
    return inbox.text
  }

  var isClosed: Bool { get async { await eventually { self.inbox.state.withLock { $0.isClosed } } } }

  func peerCertificate() async throws -> NIOSSLCertificate? {
    try await channel.eventLoop.submit {
      try self.channel.pipeline.syncOperations.nioSSL_peerCertificate()
    }.get()
  }

  func close() async { try? await channel.close().get() }
}

/// An upstream that speaks TLS and answers every request alike.
final class TLSUpstream: Sendable {
  let port: Int
  private let channel: any Channel
  private let seen: Seen

  final class Seen: Sendable {
    let state = Mutex<(requests: [String], names: [String?], connections: Int)>(([], [], 0))
  }

  init(
    _ certificate: (certificate: String, key: String), clientCA: Authority? = nil,
    answer: String = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", closesRaw: Bool = false
  ) async throws {
    var tls = TLSConfiguration.makeServerConfiguration(
      certificateChain: try NIOSSLCertificate.fromPEMFile(certificate.certificate).map { .certificate($0) },
      privateKey: .privateKey(try NIOSSLPrivateKey(file: certificate.key, format: .pem)))
    if let clientCA {
      tls.trustRoots = .file(clientCA.file)
      tls.certificateVerification = .noHostnameVerification
    }
    tls.applicationProtocols = ["http/1.1"]
    let seen = Seen()
    self.seen = seen
    tls.sslContextCallback = { values, promise in
      seen.state.withLock { $0.names.append(values.serverHostname) }
      promise.succeed(.noChanges)
    }
    let context = try NIOSSLContext(configuration: tls)
    channel = try await ServerBootstrap(group: MultiThreadedEventLoopGroup.singleton)
      .childChannelInitializer { channel in
        seen.state.withLock { $0.connections += 1 }
        return channel.eventLoop.makeCompletedFuture {
          let inbox = TLSInbox { context, inbox in
            while let request = Self.request(inbox) {
              seen.state.withLock { $0.requests.append(request) }
              context.writeAndFlush(NIOAny(ByteBuffer(string: answer)), promise: nil)
              if closesRaw,
                let engine = try? context.pipeline.syncOperations.context(handlerType: NIOSSLServerHandler.self)
              {
                // Past TLS: the connection ends without `close_notify`.
                engine.close(promise: nil)
              }
            }
          }
          try channel.pipeline.syncOperations.addHandlers([NIOSSLServerHandler(context: context), inbox])
        }
      }
      .bind(host: "127.0.0.1", port: 0).get()
    port = channel.localAddress?.port ?? 0
  }

  private static func request(_ inbox: TLSInbox) -> String? {
    inbox.state.withLock { state in
      let text = String(decoding: state.bytes, as: UTF8.self)
      guard let end = text.range(of: "\r\n\r\n") else { return nil }
      state.bytes = Array(text[end.upperBound...].utf8)
      return String(text[..<end.upperBound])
    }
  }

  var requests: [String] { seen.state.withLock { $0.requests } }
  /// The names that clients asked for.
  var names: [String?] { seen.state.withLock { $0.names } }
  var connectionCount: Int { seen.state.withLock { $0.connections } }
  func stop() async { try? await channel.close().get() }
}

/// Passes one connection on and counts the TLS records of application data that come back.
final class Relay: Sendable {
  let port: Int
  private let fd: CInt
  private let state = Mutex<(bytes: [UInt8], records: Int)>(([], 0))

  /// `pausing`: the first octets towards the target are divided by such a pause.
  init(to target: Int, pausing: Duration? = nil) {
    (fd, port) = listeningSocket()
    Thread.detachNewThread { [self] in
      let connection = accept(fd, nil, nil)
      if connection < 0 { return }
      let client = Wire(fd: connection)
      let server = Wire.connect(target)
      Thread.detachNewThread {
        if let pausing {
          let first = client.receive()
          server.send(Array(first.prefix(50)))
          var limit = pollfd(fd: -1, events: 0, revents: 0)
          poll(&limit, 1, Int32(pausing / .milliseconds(1)))
          server.send(Array(first.dropFirst(50)))
        }
        while case let bytes = client.receive(), !bytes.isEmpty { server.send(bytes) }
        server.finishSending()
      }
      while case let bytes = server.receive(), !bytes.isEmpty {
        count(bytes)
        client.send(bytes)
      }
      client.close()
      server.close()
    }
  }

  private func count(_ bytes: [UInt8]) {
    state.withLock { state in
      state.bytes += bytes
      while state.bytes.count >= 5 {
        let length = 5 + Int(state.bytes[3]) << 8 + Int(state.bytes[4])
        guard state.bytes.count >= length else { return }
        if state.bytes[0] == 23 { state.records += 1 }
        state.bytes.removeFirst(length)
      }
    }
  }

  var records: Int { state.withLock { $0.records } }
  func stop() { shutdown(fd, Int32(SHUT_RDWR)) }
}
