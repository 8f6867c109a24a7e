package import Injection
import NIOCore
import NIOHTTP1
import NIOPosix
import NIOSSL
import Synchronization
package import Vocabulary

/// The admission webhook: `POST /mutate` over TLS, answered at once and from the request alone. It asks nobody, and holds
/// no state but its counters.
package final class WebhookServer: Sendable {
  /// A review is about one object; the API server's own limit for it is 3 MiB.
  static let maxBody = 8 << 20

  package struct Configuration: Sendable {
    package var listen: Address
    package var certificate: String
    package var key: String
    package var settings: InjectionSettings
    package var selection: AdmissionReview.Selection

    package init(
      listen: Address, certificate: String, key: String, settings: InjectionSettings,
      selection: AdmissionReview.Selection
    ) {
      self.listen = listen
      self.certificate = certificate
      self.key = key
      self.settings = settings
      self.selection = selection
    }
  }

  struct Reply {
    var status: HTTPResponseStatus
    var type = "text/plain; charset=utf-8"
    var body: String
  }

  private struct Counters {
    var injected = 0
    var left = 0
    var failed = 0
  }

  private let configuration: Configuration
  private let note: @Sendable (String) -> Void
  private let counters = Mutex(Counters())
  private let group = MultiThreadedEventLoopGroup(numberOfThreads: 1)

  /// `note` shows one line to people.
  package init(_ configuration: Configuration, note: @escaping @Sendable (String) -> Void) {
    self.configuration = configuration
    self.note = note
  }

  /// Serves from now on; the address in use. Throws when the files or the address cannot be used.
  package func start() throws -> String {
    let certificate = try ServerCertificate(chain: configuration.certificate, key: configuration.key, note: note)
    let bootstrap = ServerBootstrap(group: group)
      .serverChannelOption(.backlog, value: 256)
      .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
      .childChannelInitializer { channel in
        channel.eventLoop.makeCompletedFuture {
          let pipeline = channel.pipeline.syncOperations
          try pipeline.addHandler(NIOSSLServerHandler(context: certificate.context))
          try pipeline.configureHTTPServerPipeline(withErrorHandling: true)
          try pipeline.addHandler(IdleStateHandler(allTimeout: .seconds(60)))
          try pipeline.addHandler(WebhookHandler(server: self))
        }
      }
    let channel =
      switch configuration.listen {
      case .unix(let path): try bootstrap.bind(unixDomainSocketPath: path).wait()
      case .tcp("", let port): try Self.bindEverywhere(bootstrap, port)
      case .tcp(let host, let port): try bootstrap.bind(host: host, port: port).wait()
      }
    return channel.localAddress.map { "\($0)" } ?? "\(configuration.listen)"
  }

  /// All interfaces of both families; of IPv4 alone where IPv6 is switched off.
  private static func bindEverywhere(_ bootstrap: ServerBootstrap, _ port: Int) throws -> any Channel {
    do { return try bootstrap.bind(host: "::", port: port).wait() } catch {
      return try bootstrap.bind(host: "0.0.0.0", port: port).wait()
    }
  }

  /// Ends with every connection.
  package func stop() throws { try group.syncShutdownGracefully() }

  func reply(_ method: HTTPMethod, _ uri: String, _ body: [UInt8]) -> Reply {
    let path = uri.prefix { $0 != "?" }
    switch (method, path) {
    case (.POST, "/mutate"): return review(body)
    case (.GET, "/readyz"), (.GET, "/livez"): return Reply(status: .ok, body: "ok\n")
    case (.GET, "/metrics"): return Reply(status: .ok, type: "text/plain; version=0.0.4; charset=utf-8", body: metrics)
    case (_, "/mutate"): return Reply(status: .methodNotAllowed, body: "send an AdmissionReview with POST\n")
    default: return Reply(status: .notFound, body: "there are /mutate, /readyz, /livez and /metrics\n")
    }
  }

  private func review(_ body: [UInt8]) -> Reply {
    do throws(InjectionError) {
      let review = try AdmissionReview(body)
      let answer = review.answer(configuration.settings, configuration.selection)
      counters.withLock { if answer.isInjected { $0.injected += 1 } else { $0.left += 1 } }
      if answer.isInjected { note("a pod of \(review.namespace) gets its sidecar") }
      return Reply(status: .ok, type: "application/json", body: answer.json)
    } catch {
      counters.withLock { $0.failed += 1 }
      note("a request that is no review was refused: \(error)")
      return Reply(status: .badRequest, body: "\(error)\n")
    }
  }

  private var metrics: String {
    let now = counters.withLock { $0 }
    return """
      # HELP outrider_injector_reviews_total Admission reviews by what became of them.
      # TYPE outrider_injector_reviews_total counter
      outrider_injector_reviews_total{result="injected"} \(now.injected)
      outrider_injector_reviews_total{result="unchanged"} \(now.left)
      outrider_injector_reviews_total{result="invalid"} \(now.failed)

      """
  }
}

/// One connection: a request, its bounded body, an answer.
private final class WebhookHandler: ChannelInboundHandler {
  typealias InboundIn = HTTPServerRequestPart
  typealias OutboundOut = HTTPServerResponsePart

  private let server: WebhookServer
  private var head: HTTPRequestHead?
  private var body: [UInt8] = []
  private var isTooLarge = false

  init(server: WebhookServer) { self.server = server }

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    switch unwrapInboundIn(data) {
    case .head(let head):
      self.head = head
      body = []
      isTooLarge = false
    case .body(let buffer):
      if body.count + buffer.readableBytes > WebhookServer.maxBody {
        isTooLarge = true
        body = []
      }
      if !isTooLarge { body += buffer.readableBytesView }
    case .end:
      guard let head else { return }
      self.head = nil
      let reply =
        isTooLarge
        ? WebhookServer.Reply(status: .payloadTooLarge, body: "a review has at most \(WebhookServer.maxBody) bytes\n")
        : server.reply(head.method, head.uri, body)
      body = []
      write(reply, keepAlive: head.isKeepAlive, context)
    }
  }

  private func write(_ reply: WebhookServer.Reply, keepAlive: Bool, _ context: ChannelHandlerContext) {
    let bytes = ByteBuffer(string: reply.body)
    let fields: HTTPHeaders = ["content-type": reply.type, "content-length": String(bytes.readableBytes)]
    let head = HTTPResponseHead(version: .http1_1, status: reply.status, headers: fields)
    context.write(wrapOutboundOut(.head(head)), promise: nil)
    context.write(wrapOutboundOut(.body(.byteBuffer(bytes))), promise: nil)
    let channel = context.channel
    context.writeAndFlush(wrapOutboundOut(.end(nil))).whenComplete { _ in
      if !keepAlive { channel.close(promise: nil) }
    }
  }

  func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
    if event is IdleStateHandler.IdleStateEvent {
      context.close(promise: nil)
    } else {
      context.fireUserInboundEventTriggered(event)
    }
  }

  func errorCaught(context: ChannelHandlerContext, error: any Error) { context.close(promise: nil) }
}
