import Glibc
import HTTPTypes
import Hummingbird
import HummingbirdCore
package import Logging
package import NIOCore
import NIOPosix

/// The admin HTTP API on sockets that the supervisor bound, so that they outlive a worker. It is never reached
/// through the proxy path that it reports on.
package struct AdminServer: Sendable {
  private let endpoints: AdminEndpoints
  private let group: any EventLoopGroup
  private let logger: Logger

  package init(endpoints: AdminEndpoints, group: any EventLoopGroup, logger: Logger) {
    self.endpoints = endpoints
    self.group = group
    self.logger = logger
  }

  /// Serves on a bound descriptor, which it owns from here on. A network socket may be reached by a web page in the
  /// user's browser and refuses what one can send; a Unix socket may not.
  package func open(descriptor: CInt, isNetwork: Bool) async throws -> AdminListener {
    let responder = router(isNetwork: isNetwork).buildResponder()
    let logger = logger
    let http1 = HTTP1Channel { request, writer, channel in
      let context = BasicRequestContext(source: .init(channel: channel, logger: logger))
      let response = try await responder.respond(to: request, context: context)
      try await writer.write(response: response.head, body: response.body)
    }
    let server = try await ServerBootstrap(group: group)
      .serverChannelInitializer { channel in
        channel.eventLoop.makeCompletedFuture { try channel.pipeline.syncOperations.addHandler(AcceptShortage()) }
      }
      .childChannelOption(.allowRemoteHalfClosure, value: true)
      .bind(descriptor) { channel in http1.setup(channel: channel, logger: logger) }
    let serving = Task {
      try await server.executeThenClose { connections in
        try await withThrowingDiscardingTaskGroup { tasks in
          for try await connection in connections {
            tasks.addTask { await http1.handle(value: connection, logger: logger) }
          }
        }
      }
    }
    return AdminListener(channel: server.channel, serving: serving)
  }

  /// Every path of the admin API, in one list.
  func router(isNetwork: Bool) -> Router<BasicRequestContext> {
    let endpoints = endpoints
    let router = Router(context: BasicRequestContext.self)
    if isNetwork { router.add(middleware: SameOriginOnly()) }
    router.get("livez") { _, _ in Self.text(.ok, "ok\n") }
    router.get("readyz") { _, _ in Self.answer(endpoints.ready()) }
    router.get("readyz/sidecar") { _, _ in Self.answer(endpoints.sidecarReady()) }
    router.get("readyz/outbound") { _, _ in Self.answer(endpoints.outboundReady()) }
    router.get("healthz/app") { _, _ in Self.answer(await endpoints.probeApp()) }
    router.get("metrics") { _, _ in
      Self.text(.ok, await endpoints.metrics(), type: "text/plain; version=0.0.4; charset=utf-8")
    }
    router.get("status") { _, _ in Self.text(.ok, await endpoints.status() + "\n", type: "application/json") }
    router.post("reload") { _, _ in
      let outcome = await endpoints.reload()
      return Self.text(.init(code: outcome.status), outcome.text + "\n")
    }
    router.post("quit") { _, _ in
      endpoints.quit()
      return Self.text(.accepted, "stopping\n")
    }
    router.post("drain") { request, _ in
      let query = request.uri.queryParameters
      let outcome = endpoints.drain(query["target"].map(String.init) ?? "all", query["undo"] != nil)
      return Self.text(.init(code: outcome.status), outcome.text + "\n")
    }
    if !isNetwork {
      addRequests(to: router)
      addBypass(to: router)
    }
    return router
  }

  /// What tells about single requests, whose paths may be private: on the control socket alone.
  private func addRequests(to router: Router<BasicRequestContext>) {
    let endpoints = endpoints
    // It names a program to run: only who may use the control socket may say so.
    router.post("upgrade") { request, _ in
      let query = request.uri.queryParameters
      let milliseconds = query["timeout"].flatMap { Int64($0) } ?? 30_000
      guard let binary = query["binary"], binary.hasPrefix("/"), (100...600_000).contains(milliseconds) else {
        return Self.text(
          .badRequest, "write `binary=` with a whole path, and `timeout=` with 100 to 600000 milliseconds\n")
      }
      let outcome = await endpoints.upgrade(String(binary), .milliseconds(milliseconds))
      return Self.text(.init(code: outcome.status), outcome.text + "\n")
    }
    router.get("tap") { request, _ in TapEndpoint.response(request, endpoints.taps) }
    router.get("requests") { request, _ in
      Self.list(await endpoints.stories(request.uri.queryParameters["id"].map(String.init)))
    }
  }

  /// It takes TLS and authorization away: for whoever may open the control socket alone.
  private func addBypass(to router: Router<BasicRequestContext>) {
    let endpoints = endpoints
    router.post("bypass") { request, _ in
      let query = request.uri.queryParameters
      let outcome = endpoints.bypass(query["off"] == nil ? query["for"].map(String.init) ?? "" : nil)
      return Self.text(.init(code: outcome.status), outcome.text + "\n")
    }
  }

  private static func list(_ stories: [String]) -> Response {
    text(.ok, "{\"requests\":[" + stories.joined(separator: ",\n") + "]}\n", type: "application/json")
  }

  private static func answer(_ readiness: AdminEndpoints.Readiness) -> Response {
    readiness.isReady ? text(.ok, "ok\n") : text(.serviceUnavailable, readiness.reason + "\n")
  }

  static func text(
    _ status: HTTPResponse.Status, _ body: String, type: String = "text/plain; charset=utf-8"
  ) -> Response {
    Response(
      status: status, headers: [.contentType: type, .cacheControl: "no-store"],
      body: ResponseBody(byteBuffer: ByteBuffer(string: body)))
  }
}

/// The admin API on one socket.
package struct AdminListener: Sendable {
  fileprivate let channel: any Channel
  fileprivate let serving: Task<Void, any Error>

  /// Ends with every connection cut.
  package func stop() { channel.close().whenComplete { [serving] _ in serving.cancel() } }

  /// Takes no more connections. Those that are open have `grace` to be answered, without waiting here.
  package func close(grace: Duration = .seconds(5)) async {
    try? await channel.close()
    let serving = serving
    Task {
      try? await Task.sleep(for: grace)
      serving.cancel()
    }
  }
}

/// Refuses what a web page could send to a loopback port: any request that carries an `Origin`, and any whose host
/// is a name other than `localhost` (DNS rebinding).
struct SameOriginOnly: RouterMiddleware {
  func handle(
    _ request: Request, context: BasicRequestContext,
    next: (Request, BasicRequestContext) async throws -> Response
  ) async throws -> Response {
    guard request.headers[.origin] == nil, Self.isLocalName(request.head.authority ?? "") else {
      return Response(
        status: .forbidden, headers: [.contentType: "text/plain; charset=utf-8"],
        body: ResponseBody(
          byteBuffer: ByteBuffer(
            string: "the admin API answers no web page: call it by address or localhost, without an Origin\n")))
    }
    return try await next(request, context)
  }

  /// An empty authority, `localhost`, or a literal IP address, each with or without a port.
  static func isLocalName(_ authority: String) -> Bool {
    if authority.isEmpty || authority.hasPrefix("[") { return true }
    let host = authority.prefix { $0 != ":" }
    return host == "localhost" || host.utf8.allSatisfy { (48...57).contains($0) || $0 == 46 }
  }
}

/// A socket that cannot accept for want of descriptors or memory tries again soon: the error ends nothing, and its clients
/// wait in the kernel's queue.
private final class AcceptShortage: ChannelDuplexHandler {
  typealias InboundIn = any Channel
  typealias OutboundIn = Never

  private static let pause = TimeAmount.milliseconds(100)
  private var isPausing = false
  private var wantsRead = false

  func errorCaught(context: ChannelHandlerContext, error: any Error) {
    guard let code = (error as? IOError)?.errnoCode, [EMFILE, ENFILE, ENOBUFS, ENOMEM, ECONNABORTED].contains(code)
    else { return context.fireErrorCaught(error) }
    guard !isPausing else { return }
    isPausing = true
    let bound = NIOLoopBound((self, context), eventLoop: context.eventLoop)
    context.eventLoop.scheduleTask(in: Self.pause) {
      let (handler, context) = bound.value
      handler.isPausing = false
      if handler.wantsRead { context.read() }
      handler.wantsRead = false
    }
  }

  func read(context: ChannelHandlerContext) {
    if isPausing { wantsRead = true } else { context.read() }
  }
}
