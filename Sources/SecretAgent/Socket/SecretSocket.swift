import CLinux
import Glibc
import Logging
import NIOCore
import NIOHTTP1
import NIOPosix
import Secrets
import Synchronization
import Telemetry
import Threads

/// The Unix socket on which secrets are asked for: only by processes of the named users, as the kernel tells them
/// (SO_PEERCRED).
final class SecretSocket: Sendable {
  /// Connections at a time; more are refused.
  static let limit = 256

  private struct State {
    var path: String?
    /// The thread that accepts closes it.
    var listener: CInt = -1
    var users: Set<uid_t> = []
    var channels: [ObjectIdentifier: any Channel] = [:]
  }

  private let state = Mutex(State())
  private let desk: SecretDesk
  private let group: any EventLoopGroup
  private let logger: Logger
  private let requests: Counter
  private let refusals: Counter

  init(desk: SecretDesk, metrics: MetricRegistry, group: any EventLoopGroup, logger: Logger) {
    self.desk = desk
    self.group = group
    self.logger = logger
    requests = metrics.counter("outrider_secret_socket_requests_total", "Requests on the secret socket.")
    refusals = metrics.counter(
      "outrider_secret_socket_refused_total", "Connections to the secret socket by users who may not.")
  }

  /// Takes a configuration over, its path absolute; nil closes the socket.
  func apply(_ configuration: SecretSocketConfiguration?) throws(FileFailure) {
    var users: Set<uid_t> = [0, geteuid()]
    for user in configuration?.users ?? [] { users.insert(try Account.user(user)) }
    let (isSame, dropped) = state.withLock { state -> (Bool, [any Channel]) in
      let isSame = state.path == configuration?.path
      let dropped = isSame && state.users != users ? Array(state.channels.values) : []
      if isSame { state.users = users }
      return (isSame, dropped)
    }
    for channel in dropped { channel.close(promise: nil) }
    if isSame { return }
    let listener = try configuration.map { (configuration) throws(FileFailure) in try Self.listen(configuration.path) }
    close()
    guard let configuration, let listener else { return }
    state.withLock { state in
      state.path = configuration.path
      state.listener = listener
      state.users = users
    }
    if !WorkThread.start({ [self] in accept(listener) }) {
      close()
      throw FileFailure("no thread is left for the secret socket \(configuration.path)")
    }
  }

  /// Ends every connection and removes the socket.
  func close() {
    let (path, listener, channels) = state.withLock { state in
      defer { state = State() }
      return (state.path, state.listener, Array(state.channels.values))
    }
    guard let path else { return }
    unlink(path)
    shutdown(listener, CInt(SHUT_RDWR))
    for channel in channels { channel.close(promise: nil) }
  }

  /// A socket that an earlier worker left is replaced; whoever may ask is decided by user, so that everybody may connect.
  private static func listen(_ path: String) throws(FileFailure) -> CInt {
    var address = sockaddr_un()
    address.sun_family = sa_family_t(AF_UNIX)
    let octets = Array(path.utf8)
    let room = MemoryLayout.size(ofValue: address.sun_path)
    guard octets.count < room else {
      throw FileFailure("the path of `secrets.socket` has \(octets.count) octets; \(room - 1) is the limit: \(path)")
    }
    withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: octets) }
    var status = stat()
    if lstat(path, &status) == 0 {
      guard status.st_mode & S_IFMT == S_IFSOCK else {
        throw FileFailure("\(path) is there already and no socket; give `secrets.socket.path` another name")
      }
      unlink(path)
    }
    let descriptor = socket(AF_UNIX, CInt(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
    guard descriptor >= 0 else { throw .system("open", path, errno) }
    let length = socklen_t(MemoryLayout<sockaddr_un>.size)
    let bound = withUnsafePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { bind(descriptor, $0, length) }
    }
    guard bound == 0, chmod(path, 0o666) == 0, Glibc.listen(descriptor, 128) == 0 else {
      let code = errno
      Glibc.close(descriptor)
      let hint = code == ENOENT ? ": the directory \(PlainFile.parent(of: path)) does not exist; create it first" : ""
      throw .system("listen on", path, code, hint: hint)
    }
    return descriptor
  }

  // MARK: - Connections

  /// Runs on a thread of its own until the listener is shut down.
  private func accept(_ listener: CInt) {
    defer { Glibc.close(listener) }
    while true {
      let connection = outrider_accept(listener)
      if connection < 0 {
        switch errno {
        case EINTR, ECONNABORTED: continue
        case EMFILE, ENFILE, ENOBUFS, ENOMEM:
          // Descriptors may come free.
          _ = poll(nil, 0, 100)
          continue
        default: return
        }
      }
      take(connection)
    }
  }

  private func take(_ connection: CInt) {
    var user: uid_t = 0
    let isKnown = outrider_peer_user(connection, &user) == 0
    let (isAllowed, isFull) = state.withLock { ($0.users.contains(user), $0.channels.count >= Self.limit) }
    guard isKnown, isAllowed, !isFull else {
      if !isFull {
        refusals.add()
        logger.warning("secret socket: user \(user) may not ask; add it to `secrets.socket.uids` if it should")
      }
      refuse(connection, isFull ? "503 Service Unavailable" : "403 Forbidden")
      return
    }
    let (desk, requests) = (desk, requests)
    ClientBootstrap(group: group)
      .channelInitializer { [weak self] channel in
        channel.eventLoop.makeCompletedFuture {
          let handler = SecretSocketHandler(desk: desk, descriptor: connection, requests: requests)
          try channel.pipeline.syncOperations.addHandler(IdleStateHandler(allTimeout: .minutes(10)))
          try channel.pipeline.syncOperations.configureHTTPServerPipeline()
          try channel.pipeline.syncOperations.addHandler(handler)
          let id = ObjectIdentifier(channel)
          channel.closeFuture.whenComplete { [weak self] _ in self?.state.withLock { $0.channels[id] = nil } }
          self?.state.withLock { $0.channels[id] = channel }
        }
      }
      .withConnectedSocket(connection)
      .whenFailure { [logger] error in logger.warning("secret socket: a connection failed: \(error)") }
  }

  private func refuse(_ connection: CInt, _ status: String) {
    let text = Array("HTTP/1.1 \(status)\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".utf8)
    _ = text.withUnsafeBytes { outrider_send(connection, $0.baseAddress, $0.count, nil, 0) }
    Glibc.close(connection)
  }
}
