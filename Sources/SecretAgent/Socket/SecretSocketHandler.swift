import CLinux
import Glibc
import NIOCore
import NIOHTTP1
import Secrets
import Telemetry
import Vocabulary

/// One connection of the secret socket. A request at a time; one that waits for a change is answered when it comes.
final class SecretSocketHandler: ChannelInboundHandler {
  typealias InboundIn = HTTPServerRequestPart
  typealias OutboundOut = HTTPServerResponsePart

  private let desk: SecretDesk
  private let descriptor: CInt
  private let requests: Counter
  private var head: HTTPRequestHead?
  private var waiting: (request: SecretDesk.Request, etag: String, timer: Scheduled<Void>)?
  private var keepsAlive = true

  /// `descriptor` is the channel's own: it is used while the channel is open, on its event loop.
  init(desk: SecretDesk, descriptor: CInt, requests: Counter) {
    self.desk = desk
    self.descriptor = descriptor
    self.requests = requests
  }

  func handlerAdded(context: ChannelHandlerContext) {
    let bound = NIOLoopBound((self, context), eventLoop: context.eventLoop)
    let loop = context.eventLoop
    desk.follow(ObjectIdentifier(self)) {
      loop.execute {
        let (handler, context) = bound.value
        handler.lookAgain(context)
      }
    }
  }

  func channelInactive(context: ChannelHandlerContext) {
    end()
    context.fireChannelInactive()
  }

  func handlerRemoved(context: ChannelHandlerContext) { end() }

  private func end() {
    desk.leave(ObjectIdentifier(self))
    waiting?.timer.cancel()
    waiting = nil
  }

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    switch unwrapInboundIn(data) {
    case .head(let head): self.head = head
    case .body: break
    case .end:
      guard let head else { return }
      self.head = nil
      keepsAlive = head.isKeepAlive
      requests.add()
      let known = head.headers["if-none-match"]
      answer(
        context,
        .init(
          isGet: head.method == .GET, target: head.uri, ifNoneMatch: known.isEmpty ? nil : known.joined(separator: ","))
      )
    }
  }

  func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
    if event is IdleStateHandler.IdleStateEvent { return context.close(promise: nil) }
    context.fireUserInboundEventTriggered(event)
  }

  func errorCaught(context: ChannelHandlerContext, error: any Error) { context.close(promise: nil) }

  private func answer(_ context: ChannelHandlerContext, _ request: SecretDesk.Request) {
    give(context, request, desk.answer(request))
  }

  /// Every answer that was made is given: one that is dropped would leave its values in memory.
  private func give(_ context: ChannelHandlerContext, _ request: SecretDesk.Request, _ answer: SecretDesk.Answer) {
    switch answer {
    case .reply(let status, let body, let etag): reply(context, status, body, etag)
    case .unchanged(let etag): reply(context, 304, nil, etag)
    case .memory(let handle): handOver(context, handle)
    case .wait(let etag, let limit):
      let bound = NIOLoopBound((self, context), eventLoop: context.eventLoop)
      let timer = context.eventLoop.scheduleTask(in: .nanoseconds(limit.inNanoseconds)) {
        let (handler, context) = bound.value
        handler.giveUp(context)
      }
      waiting = (request, etag, timer)
      // What changed between the answer and the registration of this wait.
      lookAgain(context)
    }
  }

  private func lookAgain(_ context: ChannelHandlerContext) {
    guard let waiting else { return }
    let answer = desk.answer(waiting.request)
    if case .wait = answer { return }
    waiting.timer.cancel()
    self.waiting = nil
    give(context, waiting.request, answer)
  }

  private func giveUp(_ context: ChannelHandlerContext) {
    guard let waiting else { return }
    self.waiting = nil
    reply(context, 304, nil, waiting.etag)
  }

  private func reply(_ context: ChannelHandlerContext, _ status: Int, _ body: ByteBuffer?, _ etag: String?) {
    var headers = HTTPHeaders([("cache-control", "no-store")])
    if let etag { headers.add(name: "etag", value: etag) }
    if let body {
      headers.add(name: "content-type", value: "application/json")
      headers.add(name: "content-length", value: String(body.readableBytes))
    }
    if !keepsAlive { headers.add(name: "connection", value: "close") }
    let head = HTTPResponseHead(
      version: .http1_1, status: HTTPResponseStatus(statusCode: status), headers: headers)
    context.write(wrapOutboundOut(.head(head)), promise: nil)
    if let body { context.write(wrapOutboundOut(.body(.byteBuffer(body))), promise: nil) }
    let keepsAlive = keepsAlive
    let bound = NIOLoopBound(context, eventLoop: context.eventLoop)
    context.writeAndFlush(wrapOutboundOut(.end(nil))).whenComplete { _ in
      body?.erase()
      if !keepsAlive { bound.value.close(promise: nil) }
    }
  }

  /// The descriptor travels with the first octet of the answer; the connection ends with it.
  private func handOver(_ context: ChannelHandlerContext, _ handle: SharedMemoryDelivery.Handle) {
    defer { Glibc.close(handle.descriptor) }
    let body = "{\"length\":\(handle.length),\"generation\":\(handle.generation)}\n"
    let text =
      "HTTP/1.1 200 OK\r\ncache-control: no-store\r\ncontent-type: application/json\r\n"
      + "content-length: \(body.utf8.count)\r\nconnection: close\r\n\r\n\(body)"
    let octets = Array(text.utf8)
    let descriptors = [handle.descriptor]
    _ = octets.withUnsafeBytes { outrider_send(descriptor, $0.baseAddress, $0.count, descriptors, 1) }
    context.close(promise: nil)
  }
}

extension ByteBuffer {
  /// Zeroes what is to be read, for every holder.
  func erase() { withUnsafeReadableBytes { $0.erase() } }
}
