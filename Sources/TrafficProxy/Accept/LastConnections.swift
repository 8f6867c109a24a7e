import NIOCore
import NIOPosix

#if canImport(Glibc)
  import Glibc
#else
  import Musl
#endif

/// A second descriptor of a listening socket. The channel on the first one ends; what the kernel has accepted until then
/// would be reset with the socket, although its clients are connected: it is taken from here and served.
struct LastConnections: Sendable {
  private let descriptor: CInt

  /// Nil when there are no descriptors left; then the socket ends with its channel.
  init?(of listening: CInt) {
    descriptor = fcntl(listening, F_DUPFD_CLOEXEC, 3)
    if descriptor < 0 { return nil }
  }

  /// The connections in the queue, and the end of the socket right behind them.
  func take() -> [CInt] {
    var taken: [CInt] = []
    while true {
      let connection = accept(descriptor, nil, nil)
      if connection >= 0 {
        _ = fcntl(connection, F_SETFD, FD_CLOEXEC)
        taken.append(connection)
      } else if errno != EINTR, errno != ECONNABORTED {
        break
      }
    }
    end()
    return taken
  }

  func end() { close(descriptor) }
}
