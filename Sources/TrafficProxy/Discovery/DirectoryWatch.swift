import CLinux
import Synchronization
import Threads

#if canImport(Glibc)
  import Glibc
#else
  import Musl
#endif

/// Tells of changes in directories, by inotify: of files that are written, and of files or links that take the place of
/// others. One thread, begun with the first directory.
final class DirectoryWatch: Sendable {
  typealias Bell = @Sendable () -> Void

  private struct State {
    var inotify: CInt = -1
    /// Wakes the thread when it is to end.
    var stop: CInt = -1
    /// Bells by the path of their directory.
    var bells: [String: [Int: Bell]] = [:]
    /// Paths by watch; the kernel gives one watch to a directory whatever it is called.
    var watches: [CInt: Set<String>] = [:]
    var serial = 0
  }

  private static let events =
    UInt32(IN_CLOSE_WRITE) | UInt32(IN_CREATE) | UInt32(IN_MOVED_TO) | UInt32(IN_MOVED_FROM) | UInt32(IN_DELETE)
    | UInt32(IN_ATTRIB) | UInt32(IN_DELETE_SELF) | UInt32(IN_MOVE_SELF)

  private let state = Mutex(State())

  /// Rings the bell at every change in that directory, until `forget` is called with what this returns.
  func watch(_ directory: String, _ bell: @escaping Bell) -> Int {
    state.withLock { state in
      state.serial += 1
      state.bells[directory, default: [:]][state.serial] = bell
      if state.inotify < 0 { start(&state) }
      add(directory, &state)
      return state.serial
    }
  }

  /// Watches the directory again if it was not there, or another one has taken its place; returns at once when it is.
  func refresh(_ directory: String) { state.withLock { add(directory, &$0) } }

  func forget(_ directory: String, _ serial: Int) {
    state.withLock { state in
      state.bells[directory]?[serial] = nil
      guard state.bells[directory]?.isEmpty == true else { return }
      state.bells[directory] = nil
      for (watch, paths) in state.watches where paths.contains(directory) {
        state.watches[watch]?.remove(directory)
        guard state.watches[watch]?.isEmpty == true else { continue }
        state.watches[watch] = nil
        _ = inotify_rm_watch(state.inotify, watch)
      }
    }
  }

  func stop() {
    state.withLock { state in
      state.bells = [:]
      state.watches = [:]
      guard state.stop >= 0 else { return }
      var one: UInt64 = 1
      _ = write(state.stop, &one, 8)
      state.inotify = -1
      state.stop = -1
    }
  }

  private func add(_ directory: String, _ state: inout State) {
    guard state.inotify >= 0 else { return }
    let watch = inotify_add_watch(state.inotify, directory, Self.events)
    if watch >= 0 { state.watches[watch, default: []].insert(directory) }
  }

  private func start(_ state: inout State) {
    let inotify = inotify_init1(CInt(IN_CLOEXEC) | CInt(IN_NONBLOCK))
    let stop = eventfd(0, CInt(EFD_CLOEXEC))
    // The thread owns both descriptors, and closes them.
    if inotify >= 0, stop >= 0, WorkThread.start({ [weak self] in Self.run(inotify, stop) { self?.ring($0) } }) {
      state.inotify = inotify
      state.stop = stop
      return
    }
    if inotify >= 0 { close(inotify) }
    if stop >= 0 { close(stop) }
  }

  private static func run(_ inotify: CInt, _ stop: CInt, _ ring: (CInt) -> Void) {
    defer {
      close(inotify)
      close(stop)
    }
    var buffer = [UInt8](repeating: 0, count: 16 << 10)
    while true {
      var polls = [
        pollfd(fd: inotify, events: Int16(POLLIN), revents: 0), pollfd(fd: stop, events: Int16(POLLIN), revents: 0),
      ]
      if poll(&polls, 2, -1) < 0 {
        if errno == EINTR { continue }
        return
      }
      if polls[1].revents != 0 { return }
      let count = read(inotify, &buffer, buffer.count)
      if count <= 0 { continue }
      var changed = Set<CInt>()
      buffer.withUnsafeBytes { bytes in
        // inotify(7): a watch, a mask, a cookie, a length, and a name of that length.
        var at = 0
        while at + 16 <= count {
          changed.insert(bytes.loadUnaligned(fromByteOffset: at, as: CInt.self))
          at += 16 + Int(bytes.loadUnaligned(fromByteOffset: at + 12, as: UInt32.self))
        }
      }
      for watch in changed { ring(watch) }
    }
  }

  /// A watch of -1 says that events were lost: everything may have changed.
  private func ring(_ watch: CInt) {
    let bells = state.withLock { state in
      let paths = watch < 0 ? Set(state.bells.keys) : state.watches[watch] ?? []
      return paths.flatMap { state.bells[$0].map { Array($0.values) } ?? [] }
    }
    for bell in bells { bell() }
  }
}
