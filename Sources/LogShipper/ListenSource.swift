import Glibc
import Logging
import Logs
import NIOCore
import Telemetry
import Vocabulary

/// Takes records from a socket: lines, syslog messages or the Fluent forward protocol, from connections or datagrams.
/// Owned by the source thread.
///
/// While the spool cannot take more, connections are not read: their senders wait. Datagrams wait in the kernel, and it
/// drops those that it has no room for; they are counted. A connection's record that is not whole waits in memory, at
/// most `maxRecord` bytes of it.
final class ListenSource {
  static let maximumConnections = 1024
  /// Of all connections together; beyond it unfinished records are cut.
  static let memoryLimit = 64 << 20
  private static let readSize = 64 << 10

  let name: String
  let input: LogSourceConfiguration.ListenInput
  /// Changes between two rounds, with the configuration.
  var shipper: LineShipper
  private let watch: (CInt) -> Void
  private let context: IntakeContext
  private let tls: ListenTLS?
  private let loop: any EventLoop
  private let lost: Counter
  private let refused: Counter
  private var listener: CInt = -1
  /// The Unix socket's file.
  private var place: UInt64?
  private var triedAt: Int64 = .min
  private var toldAt: Int64 = .min
  private var isReady = true
  private var connections: [CInt: ForwardingConnection] = [:]
  private var datagrams: DatagramQueue?
  private var kernelDrops: UInt32 = 0
  private var looked: Int64 = .min

  init(
    name: String, input: LogSourceConfiguration.ListenInput, shipper: LineShipper, context: IntakeContext,
    metrics: MetricRegistry, tls: ListenTLS?, loop: any EventLoop, watch: @escaping (CInt) -> Void
  ) {
    self.tls = tls
    self.loop = loop
    self.name = name
    self.input = input
    self.shipper = shipper
    self.context = context
    self.watch = watch
    let label = Label("source", name)
    lost = metrics.counter(
      "outrider_log_dropped_total", "Records dropped, by reason.", [label, Label("reason", "socket_full")])
    refused = metrics.counter(
      "outrider_log_refused_total", "Connections ended because what they sent was not in the source's format.", [label])
  }

  deinit {
    for connection in connections.values { close(connection.descriptor) }
    if listener >= 0 { close(listener) }
    // Another worker may have put its own there.
    if listener >= 0, case .unix(let path) = input.address, ListenSocket.inode(path) == place { unlink(path) }
  }

  /// Something can be read there.
  func notice(_ descriptor: CInt) {
    if descriptor == listener { isReady = true }
    connections[descriptor]?.isReady = true
  }

  /// Records wait for time to pass.
  var isWaiting: Bool {
    listener < 0 || connections.values.contains { $0.memory.isHeld } || datagrams?.memory.isHeld == true
  }

  /// One look at everything that is ready. `busy`: there is more to read at once.
  func round() -> (busy: Bool, blocked: Bool) {
    guard listener >= 0 || begin() else { return (false, false) }
    if case .udp = input.address { return receive() }
    var busy = false
    var blocked = false
    if isReady { busy = accept() }
    let total = connections.values.reduce(0) { $0 + $1.buffer.count }
    for (descriptor, connection) in connections where connection.isReady || connection.isPending {
      switch connection.step(shipper, isCrowded: total > Self.memoryLimit) {
      case .more: busy = true
      case .idle: break
      case .blocked: blocked = true
      case .ended: end(descriptor)
      case .broken(let what):
        refused.add()
        context.logger.warning(
          "source '\(name)' at \(input.address) ended a connection: \(what); set `format` to what its sender speaks")
        end(descriptor)
      }
    }
    return (busy, blocked)
  }

  /// What was read goes into the spool, unfinished lines too.
  func finish() {
    for connection in connections.values { connection.finish(shipper) }
    if let datagrams { _ = datagrams.ship(shipper, final: true) }
  }

  private func begin() -> Bool {
    let now = Clock.monotonic()
    guard triedAt == .min || now - triedAt > 500_000_000 else { return false }
    triedAt = now
    guard let descriptor = ListenSocket.open(input.address) else {
      if toldAt == .min || now - toldAt > 60_000_000_000 {
        toldAt = now
        context.logger.error(
          "source '\(name)' cannot listen on \(input.address): \(String(cString: strerror(errno))); it tries again; free the address or change logs.sources.\(name).listen"
        )
      }
      return false
    }
    listener = descriptor
    if case .unix(let path) = input.address { place = ListenSocket.inode(path) }
    isReady = true
    if case .udp = input.address { datagrams = DatagramQueue(input.format) }
    watch(descriptor)
    context.logger.info("source '\(name)' listens on \(input.address)")
    return true
  }

  private func accept() -> Bool {
    for _ in 0..<64 {
      // Others wait in the backlog until one has ended.
      guard connections.count < Self.maximumConnections else { return false }
      let descriptor = Glibc.accept(listener, nil, nil)
      guard descriptor >= 0 else {
        if errno == EINTR || errno == ECONNABORTED { continue }
        isReady = false
        return false
      }
      _ = fcntl(descriptor, F_SETFD, FD_CLOEXEC)
      _ = fcntl(descriptor, F_SETFL, O_NONBLOCK)
      guard let plain = tls == nil ? descriptor : decrypted(descriptor) else { continue }
      connections[plain] = ForwardingConnection(plain, input.format)
      watch(plain)
    }
    return true
  }

  /// The descriptor where the content of a connection in TLS can be read; nil, and the connection is closed, when there is
  /// no certificate or no descriptor is left.
  private func decrypted(_ descriptor: CInt) -> CInt? {
    guard let secure = tls?.context(), let ends = ListenSocket.pair() else {
      close(descriptor)
      return nil
    }
    let (refused, logger, name, address) = (refused, self.context.logger, name, input.address)
    TLSFront.join(descriptor, ends.1, secure, on: loop) { reason in
      refused.add()
      logger.warning("source '\(name)' at \(address): a TLS handshake failed: \(reason)")
    }
    return ends.0
  }

  private func end(_ descriptor: CInt) {
    close(descriptor)
    connections[descriptor] = nil
    isReady = true
  }

  private func receive() -> (busy: Bool, blocked: Bool) {
    guard let datagrams else { return (false, false) }
    var more = isReady
    if datagrams.hasRoom, isReady {
      more = datagrams.read(listener)
      isReady = more
    }
    let now = Clock.monotonic()
    if looked == .min || now - looked > 1_000_000_000 {
      looked = now
      let drops = ListenSocket.dropped(listener)
      lost.add(UInt64(drops &- kernelDrops))
      kernelDrops = drops
    }
    let blocked = !datagrams.ship(shipper, final: false)
    return (more && !blocked, blocked)
  }
}

/// Datagrams between the socket and the spool: at most 4 MiB, then they wait in the socket.
final class DatagramQueue {
  private static let limit = 4 << 20
  private let isSyslog: Bool
  private let buffer = ByteArena(capacity: 64 << 10)
  private var frames: [LineShipper.Frame] = []
  private let identity = UInt64.random(in: 1...UInt64.max)
  private var offset: UInt64 = 0
  private(set) var memory = GroupMemory()

  init(_ format: LogSourceConfiguration.ListenFormat) { isSyslog = format == .syslog }

  var hasRoom: Bool { buffer.count < Self.limit }

  /// Reads some datagrams; true when there may be more.
  func read(_ descriptor: CInt) -> Bool {
    for _ in 0..<256 {
      guard hasRoom else { return true }
      let n = recv(descriptor, buffer.reserve(65_536), 65_536, 0)
      guard n >= 0 else { return errno == EINTR }
      let start = buffer.count
      buffer.advance(n)
      if isSyslog {
        var end = buffer.count
        while end > start, [0x0A, 0x0D, 0].contains(buffer.bytes[end - 1]) { end -= 1 }
        if end > start {
          frames.append(LineShipper.Frame(text: start..<end, end: buffer.count))
        } else {
          buffer.truncate(to: start)
        }
      } else if n > 0, buffer.bytes[buffer.count - 1] != 0x0A {
        buffer.append(0x0A as UInt8)
      }
    }
    return true
  }

  /// False when the spool would not take them.
  func ship(_ shipper: LineShipper, final: Bool) -> Bool {
    guard buffer.count > 0 else { return true }
    let shipped =
      isSyslog
      ? shipper.ship(frames, of: buffer.bytes, identity: identity, offset: offset)
      : shipper.ship(buffer.bytes, stream: .none, identity: identity, offset: offset, final: final, &memory)
    offset += UInt64(shipped.safe)
    buffer.removeFirst(shipped.safe)
    if isSyslog {
      frames = frames.filter { $0.text.lowerBound >= shipped.safe }.map { $0.moved(by: shipped.safe) }
    }
    if buffer.count == 0 { buffer.release(above: 256 << 10) }
    return !shipped.isBlocked
  }
}
