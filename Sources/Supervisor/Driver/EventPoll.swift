import CLinux
import Glibc

/// Waits for descriptors and time.
struct EventPoll {
  private let descriptor: CInt

  /// nil when the system has no descriptor to give.
  init?() {
    descriptor = epoll_create1(CInt(O_CLOEXEC))
    if descriptor < 0 { return nil }
  }

  func add(_ watched: CInt) { control(EPOLL_CTL_ADD, watched, writing: false) }

  func remove(_ watched: CInt) { control(EPOLL_CTL_DEL, watched, writing: false) }

  func watch(_ watched: CInt, writing: Bool) { control(EPOLL_CTL_MOD, watched, writing: writing) }

  private func control(_ operation: CInt, _ watched: CInt, writing: Bool) {
    var event = epoll_event()
    event.events = EPOLLIN.rawValue | (writing ? EPOLLOUT.rawValue : 0)
    event.data.fd = watched
    epoll_ctl(descriptor, operation, watched, &event)
  }

  /// The descriptors that have something to say; none after the timeout (milliseconds, -1 = never) or a signal.
  func wait(timeout: Int32) -> [CInt] {
    withUnsafeTemporaryAllocation(of: epoll_event.self, capacity: 8) { events in
      let count = epoll_wait(descriptor, events.baseAddress, 8, timeout)
      return count > 0 ? (0..<Int(count)).map { events[$0].data.fd } : []
    }
  }
}
