import Logs
import NIOCore
import NIOPosix
import NIOSSL
import Synchronization
import Vocabulary

/// A connection to a server of a stream protocol, with or without TLS. Used by one task at a time.
final class StreamConnection: Sendable {
  struct Failure: Error, CustomStringConvertible { var description: String }

  private let channel: any Channel
  private let feed: StreamFeed.Shared
  private let pieces: AsyncStream<[UInt8]>
  private let isTCP: Bool

  private init(_ channel: any Channel, _ feed: StreamFeed.Shared, _ pieces: AsyncStream<[UInt8]>, isTCP: Bool) {
    self.channel = channel
    self.feed = feed
    self.pieces = pieces
    self.isTCP = isTCP
  }

  /// Connects within 5 s. The handshake of TLS, when there is one, fails the first write.
  static func open(_ address: Address, tls: NIOSSLContext?, group: any EventLoopGroup) async throws -> StreamConnection
  {
    let (pieces, continuation) = AsyncStream<[UInt8]>.makeStream(bufferingPolicy: .bufferingOldest(256))
    let feed = StreamFeed.Shared(continuation)
    var name: String?
    // An address is checked against the certificate's addresses, a name against its names.
    if case .tcp(let host, _) = address, IPAddress(host) == nil { name = host }
    let bootstrap = ClientBootstrap(group: group).connectTimeout(.seconds(5)).channelInitializer { [name] channel in
      channel.eventLoop.makeCompletedFuture {
        if let tls {
          try channel.pipeline.syncOperations.addHandler(NIOSSLClientHandler(context: tls, serverHostname: name))
        }
        try channel.pipeline.syncOperations.addHandler(StreamFeed(feed))
      }
    }
    switch address {
    case .tcp(let host, let port):
      let channel = try await bootstrap.connect(host: host, port: port).get()
      return StreamConnection(channel, feed, pieces, isTCP: true)
    case .unix(let path):
      let channel = try await bootstrap.connect(unixDomainSocketPath: path).get()
      return StreamConnection(channel, feed, pieces, isTCP: false)
    }
  }

  var isOpen: Bool { channel.isActive }

  func close() { channel.close(promise: nil) }

  /// Closes the connection after that time, which ends every wait on it; cancel it when the work is done.
  func closes(after time: TimeAmount) -> Scheduled<Void> {
    channel.eventLoop.scheduleTask(in: time) { [channel, feed] in
      feed.note("no answer within \(time.nanoseconds / 1_000_000_000) s")
      channel.close(promise: nil)
    }
  }

  func write(_ bytes: [UInt8]) async throws {
    do { try await channel.writeAndFlush(channel.allocator.buffer(bytes: bytes)).get() } catch {
      throw Failure(description: feed.problem ?? "\(error)")
    }
  }

  /// What came next.
  func read() async throws -> [UInt8] {
    var iterator = pieces.makeAsyncIterator()
    if let piece = await iterator.next() { return piece }
    throw Failure(description: feed.problem ?? "the connection was closed before an acknowledgement")
  }

  /// Waits until the peer's system has everything that was written: the most that can be known of a protocol without
  /// acknowledgements.
  func settle() async throws {
    var wait = Duration.milliseconds(1)
    while isTCP, let socket = channel as? any SocketOptionProvider {
      guard channel.isActive else { break }
      let info: TCPInfo = try await socket.unsafeGetSocketOption(level: TCPInfo.level, name: TCPInfo.name).get()
      if info.isSettled { break }
      try await Task.sleep(for: wait)
      wait = min(wait * 2, .milliseconds(20))
    }
    guard channel.isActive else {
      throw Failure(description: feed.problem ?? "the connection was closed before everything had arrived")
    }
  }

  /// The beginning of `struct tcp_info` (linux/tcp.h), as 64-bit words.
  private struct TCPInfo: Sendable {
    /// IPPROTO_TCP
    static let level = SocketOptionLevel(6)
    /// TCP_INFO
    static let name = SocketOptionName(11)
    private var words: InlineArray<20, UInt64> = .init(repeating: 0)

    /// Neither segments without an acknowledgement (`tcpi_unacked`, offset 24) nor bytes that were not sent yet
    /// (`tcpi_notsent_bytes`, offset 144).
    var isSettled: Bool { UInt32(truncatingIfNeeded: words[3]) == 0 && UInt32(truncatingIfNeeded: words[18]) == 0 }
  }
}

/// Hands on what a connection brings.
private final class StreamFeed: ChannelInboundHandler {
  typealias InboundIn = ByteBuffer

  final class Shared: Sendable {
    let continuation: AsyncStream<[UInt8]>.Continuation
    private let reason = Mutex<String?>(nil)

    init(_ continuation: AsyncStream<[UInt8]>.Continuation) { self.continuation = continuation }

    var problem: String? { reason.withLock { $0 } }
    /// The first one counts.
    func note(_ problem: String) { reason.withLock { $0 = $0 ?? problem } }
  }

  private let shared: Shared

  init(_ shared: Shared) { self.shared = shared }

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    let piece = Array(unwrapInboundIn(data).readableBytesView)
    if case .dropped = shared.continuation.yield(piece) {
      shared.note("the server sends more than was asked for")
      context.close(promise: nil)
    }
  }

  func channelInactive(context: ChannelHandlerContext) {
    shared.continuation.finish()
    context.fireChannelInactive()
  }

  func errorCaught(context: ChannelHandlerContext, error: any Error) {
    shared.note("\(error)")
    context.close(promise: nil)
  }
}
