import Glibc
import Logging
import Logs
import NIOCore
import NIOHTTP1
import NIOPosix
import NIOSSL
import Synchronization

/// The sources that listen for HTTP: NDJSON, and OTLP/HTTP logs.
final class HTTPIntake: Sendable {
  private let group: any EventLoopGroup
  private let queue: IntakeQueue
  private let context: IntakeContext
  private let servers = Mutex<[String: HTTPIntakeServer]>([:])

  init(group: any EventLoopGroup, queue: IntakeQueue, context: IntakeContext) {
    self.group = group
    self.queue = queue
    self.context = context
  }

  /// Goes over to these sources; those whose place is the same go on.
  func adopt(_ sources: [LogSourceConfiguration]) {
    var wanted: [String: LogSourceConfiguration.ListenInput] = [:]
    for source in sources { if case .listen(let input) = source.input, input.isHTTP { wanted[source.name] = input } }
    let (fresh, gone) = servers.withLock { servers -> ([HTTPIntakeServer], [HTTPIntakeServer]) in
      let gone = servers.filter { wanted[$0.key] != $0.value.input }
      for name in gone.keys { servers[name] = nil }
      var fresh: [HTTPIntakeServer] = []
      for (name, input) in wanted where servers[name] == nil {
        let server = HTTPIntakeServer(
          name: name, input: input, loop: group.next(), queue: queue, tls: input.tls.map { context.tls(name, $0) },
          logger: context.logger)
        servers[name] = server
        fresh.append(server)
      }
      return (fresh, Array(gone.values))
    }
    for server in gone { server.end() }
    for server in fresh { server.begin() }
  }
}

extension LogSourceConfiguration.ListenInput {
  var isHTTP: Bool { format == .http || format == .otlp }
}

/// One listening socket, all on one event loop.
final class HTTPIntakeServer: Sendable {
  static let maximumConnections = 1024
  static let longestBody = 16 << 20

  let name: String
  let input: LogSourceConfiguration.ListenInput
  let queue: IntakeQueue
  private let tls: ListenTLS?
  private let loop: any EventLoop
  private let logger: Logger
  private struct State {
    var channel: (any Channel)?
    var isOver = false
    var connections = 0
    var complaints = 0
  }
  private let state = Mutex(State())

  init(
    name: String, input: LogSourceConfiguration.ListenInput, loop: any EventLoop, queue: IntakeQueue, tls: ListenTLS?,
    logger: Logger
  ) {
    self.tls = tls
    self.name = name
    self.input = input
    self.loop = loop
    self.queue = queue
    self.logger = logger
  }

  /// Listens, and tries again each half second while it cannot.
  func begin() {
    guard !state.withLock({ $0.isOver }) else { return }
    guard let descriptor = ListenSocket.open(input.address) else { return again(errno) }
    let bootstrap = ServerBootstrap(group: loop)
      .childChannelInitializer { channel in
        channel.eventLoop.makeCompletedFuture {
          guard self.enter() else { throw ChannelError.operationUnsupported }
          channel.closeFuture.whenComplete { _ in self.leave() }
          if let tls = self.tls {
            guard let context = tls.context() else { throw ChannelError.operationUnsupported }
            try channel.pipeline.syncOperations.addHandler(NIOSSLServerHandler(context: context))
          }
          try channel.pipeline.syncOperations.configureHTTPServerPipeline(withErrorHandling: true)
          try channel.pipeline.syncOperations.addHandlers([
            IdleStateHandler(readTimeout: .seconds(60)), HTTPIntakeHandler(self),
          ])
        }
      }
    bootstrap.withBoundSocket(descriptor).whenComplete { result in
      switch result {
      case .success(let channel):
        let isOver = self.state.withLock { state in
          state.channel = channel
          return state.isOver
        }
        if isOver { channel.close(promise: nil) }
        self.logger.info("source '\(self.name)' listens on \(self.input.address)")
      case .failure: self.again(EADDRINUSE)
      }
    }
  }

  private func again(_ code: CInt) {
    let isFirst = state.withLock { state in
      state.complaints += 1
      return state.complaints % 120 == 1
    }
    if isFirst {
      logger.error(
        "source '\(name)' cannot listen on \(input.address): \(String(cString: strerror(code))); it tries again; free the address or change logs.sources.\(name).listen"
      )
    }
    loop.scheduleTask(in: .milliseconds(500)) { self.begin() }
  }

  func end() {
    let channel = state.withLock { state in
      state.isOver = true
      return state.channel
    }
    channel?.close(promise: nil)
  }

  private func enter() -> Bool {
    state.withLock { state in
      guard state.connections < Self.maximumConnections else { return false }
      state.connections += 1
      return true
    }
  }

  private func leave() { state.withLock { $0.connections -= 1 } }

  /// The records of a body as lines, or a status and the reason.
  func lines(_ body: [UInt8], isJSON: Bool) -> Result<[UInt8], Refusal> {
    let arena = ByteArena()
    let count: Int? = body.withUnsafeBytes { body in
      switch input.format {
      case .otlp: return isJSON ? OTLPLogs.writeJSON(body, into: arena) : OTLPLogs.writeProtobuf(body, into: arena)
      default:
        // NDJSON as it is; an array, element by element, each on a line of its own.
        let first = body.first { ![0x20, 0x09, 0x0A, 0x0D].contains($0) }
        guard first == 0x5B else {
          arena.append(body)
          return 1
        }
        let isWhole = JSONScanner.array(body) { element in
          for byte in body[element] { arena.append(byte == 0x0A || byte == 0x0D ? 0x20 : byte) }
          arena.append(0x0A as UInt8)
        }
        return isWhole ? 1 : nil
      }
    }
    guard count != nil else {
      return .failure(Refusal(.badRequest, input.format == .otlp ? "not an ExportLogsServiceRequest" : "no JSON array"))
    }
    return .success(Array(arena.bytes))
  }

  struct Refusal: Error {
    var status: HTTPResponseStatus
    var reason: String
    init(_ status: HTTPResponseStatus, _ reason: String) {
      self.status = status
      self.reason = reason
    }
  }
}

/// A connection: collects a body, hands its records over, and answers when they are in the spool.
final class HTTPIntakeHandler: ChannelInboundHandler {
  typealias InboundIn = HTTPServerRequestPart
  typealias OutboundOut = HTTPServerResponsePart

  private let server: HTTPIntakeServer
  private var head: HTTPRequestHead?
  private var body: [UInt8] = []
  private var claimed = 0
  /// For the spool.
  private var isWaiting = false
  private var refusal: HTTPIntakeServer.Refusal?

  init(_ server: HTTPIntakeServer) { self.server = server }

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    switch unwrapInboundIn(data) {
    case .head(let head):
      self.head = head
      body = []
      refusal = refuse(head)
      if refusal == nil, head.headers.first(name: "expect")?.lowercased() == "100-continue" {
        context.writeAndFlush(
          wrapOutboundOut(.head(HTTPResponseHead(version: head.version, status: .continue))), promise: nil)
      }
    case .body(let part): take(part)
    case .end: finish(context)
    }
  }

  private func refuse(_ head: HTTPRequestHead) -> HTTPIntakeServer.Refusal? {
    guard head.method == .POST else { return .init(.methodNotAllowed, "send records with POST") }
    let path = head.uri.split(separator: "?", maxSplits: 1).first.map(String.init) ?? "/"
    if server.input.format == .otlp, path != "/v1/logs" { return .init(.notFound, "logs are taken at /v1/logs") }
    let coding = head.headers.first(name: "content-encoding")?.lowercased() ?? "identity"
    guard coding == "identity" || coding == "gzip" else {
      return .init(.unsupportedMediaType, "the content coding is neither gzip nor identity")
    }
    return nil
  }

  private func take(_ part: ByteBuffer) {
    guard refusal == nil else { return }
    guard body.count + part.readableBytes <= HTTPIntakeServer.longestBody else {
      refusal = .init(.payloadTooLarge, "a body may have 16 MiB")
      body = []
      return
    }
    guard server.queue.claim(part.readableBytes) else {
      refusal = .init(.serviceUnavailable, "too much waits for the spool")
      body = []
      return
    }
    claimed += part.readableBytes
    body += part.readableBytesView
  }

  private func finish(_ context: ChannelHandlerContext) {
    guard let head else { return }
    if let refusal { return answer(context, refusal) }
    var plain = body
    body = []
    if head.headers.first(name: "content-encoding")?.lowercased() == "gzip" {
      let inflated = plain.withUnsafeBytes { Gzip.decompressAll($0, limit: HTTPIntakeServer.longestBody) }
      guard let inflated else { return answer(context, .init(.badRequest, "no gzip, or more than 16 MiB in it")) }
      plain = inflated
    }
    let type = head.headers.first(name: "content-type")?.lowercased() ?? ""
    let isJSON = type.hasPrefix("application/json")
    switch server.lines(plain, isJSON: isJSON) {
    case .failure(let refusal): answer(context, refusal)
    case .success(let lines):
      let bound = NIOLoopBound((self, context), eventLoop: context.eventLoop)
      let loop = context.eventLoop
      isWaiting = true
      server.queue.push(
        IntakeJob(source: server.name, lines: lines) { isSafe in
          loop.execute {
            let (handler, context) = bound.value
            handler.answer(context, isSafe ? nil : .init(.serviceUnavailable, "the sidecar stops"), isJSON: isJSON)
          }
        })
    }
  }

  private func answer(_ context: ChannelHandlerContext, _ refusal: HTTPIntakeServer.Refusal?, isJSON: Bool = true) {
    server.queue.release(claimed)
    claimed = 0
    isWaiting = false
    guard context.channel.isActive, let head else { return }
    self.head = nil
    let isOTLP = server.input.format == .otlp
    // An empty ExportLogsServiceResponse; of NDJSON nothing is to be said.
    var text = isOTLP && isJSON ? "{}" : ""
    if let refusal { text = refusal.reason + "\n" }
    var headers = HTTPHeaders([("content-length", String(text.utf8.count))])
    headers.add(
      name: "content-type",
      value: refusal != nil ? "text/plain" : isOTLP && !isJSON ? "application/x-protobuf" : "application/json")
    if refusal?.status == .serviceUnavailable { headers.add(name: "retry-after", value: "1") }
    let status = refusal?.status ?? (isOTLP ? .ok : .noContent)
    if status == .noContent { headers = HTTPHeaders() }
    let isLast = refusal != nil || !head.isKeepAlive
    if isLast { headers.add(name: "connection", value: "close") }
    context.write(
      wrapOutboundOut(.head(HTTPResponseHead(version: head.version, status: status, headers: headers))), promise: nil)
    if !text.isEmpty, status != .noContent {
      context.write(wrapOutboundOut(.body(.byteBuffer(ByteBuffer(string: text)))), promise: nil)
    }
    let written = context.eventLoop.makePromise(of: Void.self)
    let channel = context.channel
    if isLast { written.futureResult.whenComplete { _ in channel.close(promise: nil) } }
    context.writeAndFlush(wrapOutboundOut(.end(nil)), promise: written)
  }

  func channelInactive(context: ChannelHandlerContext) {
    if head != nil, !isWaiting {
      // Nobody will ask for an answer to this one.
      server.queue.release(claimed)
      claimed = 0
      head = nil
    }
    context.fireChannelInactive()
  }

  func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
    // A client that is silent within a request or between two.
    if event is IdleStateHandler.IdleStateEvent, !isWaiting { context.close(promise: nil) }
  }

  func errorCaught(context: ChannelHandlerContext, error: any Error) { context.close(promise: nil) }
}
