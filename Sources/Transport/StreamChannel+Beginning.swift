import CLinux
import Glibc
package import NIOCore

extension StreamChannel {
  /// Connects on the loop's own thread. `prepare` gets the channel before anything happens on it, and adds its handlers.
  /// Fails with `IOError`, with `ChannelError.connectTimeout` after `timeout` nanoseconds, or with what `prepare` throws.
  /// `watermark`: octets waiting to be written from which on the channel is not writable, until half of them are gone.
  package static func connect(
    _ loop: EpollLoop, to address: SocketAddress, timeout: UInt64, watermark: Int,
    _ prepare: (any Channel) throws -> Void
  ) -> EventLoopFuture<any Channel> {
    let family =
      switch address {
      case .v4: AF_INET
      case .v6: AF_INET6
      case .unixDomainSocket: AF_UNIX
      }
    let descriptor = socket(family, CInt(SOCK_STREAM.rawValue | SOCK_NONBLOCK.rawValue | SOCK_CLOEXEC.rawValue), 0)
    guard descriptor >= 0 else { return loop.makeFailedFuture(IOError(errnoCode: errno, reason: "socket")) }
    if family != AF_UNIX { sendAtOnce(descriptor) }
    let channel = StreamChannel(loop, descriptor, watermark: watermark)
    let promise = loop.makePromise(of: Void.self)
    channel.connected = promise
    do { try channel.begin(prepare) } catch {
      channel.close0(error: error, mode: .all, promise: nil)
      return promise.futureResult.map { channel }
    }
    channel.state = .connecting
    let code = address.withSockAddr { Glibc.connect(descriptor, $0, socklen_t($1)) } == 0 ? 0 : errno
    switch code {
    case 0: channel.finishConnect()
    case EINPROGRESS:
      // Holds the channel, strongly: a weak reference would make every other one to it dearer for good.
      let timer = TimerHeap.Timer(deadline: NIODeadline.now().uptimeNanoseconds &+ timeout) {
        let limit = TimeAmount.nanoseconds(Int64(clamping: timeout))
        channel.close0(error: ChannelError.connectTimeout(limit), mode: .all, promise: nil)
      } fail: { _ in
      }
      channel.connectTimer = timer
      loop.add(timer)
    default: channel.close0(error: IOError(errnoCode: code, reason: "connect"), mode: .all, promise: nil)
    }
    return promise.futureResult.map { channel }
  }

  /// Takes over a connection that stands, on the loop's own thread, and owns its descriptor from now on. Throws what
  /// `prepare` throws; then the connection is closed.
  package static func adopt(
    _ loop: EpollLoop, _ descriptor: CInt, watermark: Int, _ prepare: (any Channel) throws -> Void
  ) throws {
    let channel = StreamChannel(loop, descriptor, watermark: watermark)
    do {
      channel.learnAddresses()
      if channel.localAddress?.ipAddress != nil { sendAtOnce(descriptor) }
      try channel.begin(prepare)
    } catch {
      channel.close0(error: error, mode: .all, promise: nil)
      throw error
    }
    channel.activate()
  }

  private func begin(_ prepare: (any Channel) throws -> Void) throws {
    try prepare(self)
    guard state == .fresh else { throw ChannelError.ioOnClosedChannel }
    try loop.register(self, descriptor)
    events.fireChannelRegistered()
  }

  func connectEnded(_ happened: EpollEvents) {
    var code: CInt = 0
    var size = socklen_t(MemoryLayout<CInt>.size)
    guard getsockopt(descriptor, SOL_SOCKET, SO_ERROR, &code, &size) == 0, code == 0 else {
      return close0(error: IOError(errnoCode: code == 0 ? errno : code, reason: "connect"), mode: .all, promise: nil)
    }
    // The socket's first event may come before its connection was even begun, or say nothing of it.
    guard happened.contains(.output), !happened.contains(.hangUp) else { return }
    finishConnect()
    guard state == .active else { return }
    if happened.contains(.inputEnded) { endIsNear = true }
    if happened.contains(.input) {
      isReadable = true
      if wantsRead { read0() }
    }
  }

  private func finishConnect() {
    connectTimer?.drop()
    connectTimer = nil
    learnAddresses()
    let promise = connected
    connected = nil
    activate(promise)
  }

  private static func sendAtOnce(_ descriptor: CInt) {
    var one: CInt = 1
    _ = setsockopt(descriptor, CInt(IPPROTO_TCP), TCP_NODELAY, &one, socklen_t(MemoryLayout<CInt>.size))
  }
}
