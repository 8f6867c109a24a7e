import CLinux
import Glibc
import Synchronization

/// Wakes a thread that polls it (an eventfd).
final class WakeSignal: Sendable {
  let descriptor: CInt = eventfd(0, CInt(EFD_NONBLOCK) | CInt(EFD_CLOEXEC))

  deinit { close(descriptor) }

  func raise() {
    var one: UInt64 = 1
    _ = write(descriptor, &one, 8)
  }

  func clear() {
    var count: UInt64 = 0
    _ = read(descriptor, &count, 8)
  }

  /// Waits until it is raised, at most `milliseconds`.
  func wait(milliseconds: Int32) {
    var state = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
    if poll(&state, 1, milliseconds) > 0 { clear() }
  }
}
