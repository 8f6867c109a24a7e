import CLinux
import Glibc
package import NIOCore

/// A bound and listening socket: hands what it accepts to the loops in turn.
///
/// `@unchecked Sendable`: everything mutable is touched on the thread of `loop` only.
package final class ListeningSocket: EpollSocket, @unchecked Sendable {
  /// Gets each accepted connection on the thread of the loop that it is for, and owns the descriptor.
  package typealias Accept = @Sendable (EpollLoop, CInt) -> Void

  package let localAddress: SocketAddress?
  private let loop: EpollLoop
  private let others: [EpollLoop]
  private let accept: Accept
  private var descriptor: CInt
  private var turn = 0
  private var isPaused = false
  private var isWaiting = false
  /// Gets errno when a connection could not be accepted for want of descriptors or memory, at most once a second.
  private let shortage: @Sendable (CInt) -> Void
  private var lastShortage: UInt64 = 0

  /// Takes ownership of the descriptor. Throws `IOError`.
  package static func open(
    _ descriptor: CInt, on loops: [EpollLoop], shortage: @escaping @Sendable (CInt) -> Void, accept: @escaping Accept
  ) async throws -> ListeningSocket {
    _ = fcntl(descriptor, F_SETFL, fcntl(descriptor, F_GETFL) | O_NONBLOCK)
    let loop = loops[Int(descriptor) % loops.count]
    let made = ListeningSocket(descriptor, loop, loops, shortage, accept)
    try await loop.submit {
      do { try loop.register(made, descriptor) } catch {
        made.descriptor = -1
        Glibc.close(descriptor)
        throw error
      }
    }.get()
    return made
  }

  private init(
    _ descriptor: CInt, _ loop: EpollLoop, _ others: [EpollLoop], _ shortage: @escaping @Sendable (CInt) -> Void,
    _ accept: @escaping Accept
  ) {
    self.descriptor = descriptor
    self.loop = loop
    self.others = others
    self.accept = accept
    self.shortage = shortage
    localAddress = SocketAddress.of(descriptor, getsockname)
  }

  /// Accepts nothing more; returns once everything that was accepted is with its loop.
  package func pause() async {
    try? await loop.submit { self.isPaused = true }.get()
    for other in others { try? await other.submit {}.get() }
  }

  package func close() async { try? await loop.submit { self.closeNow() }.get() }

  func closeNow() {
    guard descriptor >= 0 else { return }
    loop.forget(self, descriptor, hasCopies: true)
    Glibc.close(descriptor)
    descriptor = -1
  }

  func ready(_ events: EpollEvents) {
    // The kernel tells of the queue once: it is emptied, a turn at a time.
    if !isWaiting { takeSome() }
  }

  private static let connectionsInTurn = 64

  private func takeSome() {
    isWaiting = false
    for _ in 0..<Self.connectionsInTurn {
      guard descriptor >= 0, !isPaused else { return }
      let connection = outrider_accept_stream(descriptor)
      if connection >= 0 {
        hand(connection)
        continue
      }
      switch errno {
      case EAGAIN: return
      case EMFILE, ENFILE, ENOBUFS, ENOMEM: return runShort(errno)
      // Of one connection, which is gone; the others are not (accept(2)).
      case ECONNABORTED, EINTR, EPERM, EPROTO, ENETDOWN, ENOPROTOOPT, EHOSTDOWN, EHOSTUNREACH, ENETUNREACH, ETIMEDOUT:
        continue
      default: return
      }
    }
    isWaiting = true
    loop._executeIsolatedUnsafeUnchecked { [self] in takeSome() }
  }

  private func hand(_ connection: CInt) {
    turn = (turn + 1) % others.count
    let chosen = others[turn]
    if chosen === loop { return accept(chosen, connection) }
    chosen.execute { [accept] in accept(chosen, connection) }
  }

  /// Connections wait in the kernel's queue until something is given back.
  private func runShort(_ code: CInt) {
    let now = NIODeadline.now().uptimeNanoseconds
    if now &- lastShortage > 1_000_000_000 {
      lastShortage = now
      shortage(code)
    }
    isWaiting = true
    loop.add(
      TimerHeap.Timer(deadline: now &+ 100_000_000) { [weak self] in
        self?.takeSome()
      } fail: { _ in
      })
  }
}
