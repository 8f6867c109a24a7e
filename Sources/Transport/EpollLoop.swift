import CLinux
package import Dispatch
import Glibc
package import NIOCore
import Synchronization
import Threads

/// One thread that waits for sockets, runs tasks and keeps time: an event loop of SwiftNIO with little between a socket
/// and its handlers. Sockets are registered once, edge triggered, and never changed again.
///
/// `@unchecked Sendable`: everything mutable is either behind `inbox` or `Atomic`, or touched on the loop's own thread only, which
/// `preconditionInEventLoop` guards at the ways in.
package final class EpollLoop: EventLoop, @unchecked Sendable {
  private struct Inbox {
    var tasks: ContiguousArray<@Sendable () -> Void> = []
    /// The loop was woken and has not looked yet.
    var isWoken = false
    /// Nothing is taken any more.
    var isClosed = false
  }

  private let epoll: CInt
  private let bell: CInt
  private let inbox = Mutex(Inbox())
  private let thread = Atomic<UInt>(0)

  // The thread's own.
  private var slots: ContiguousArray<(generation: UInt32, socket: (any EpollSocket)?)> = []
  private var local: ContiguousArray<() -> Void> = []
  private var timers = TimerHeap()
  /// Sockets that had more to read than a turn allows.
  private var unfinished: ContiguousArray<StreamChannel> = []
  /// Sockets with something to write when everything that was read in this turn is dealt with.
  private var dirty: ContiguousArray<StreamChannel> = []
  /// When the kernel told what this turn deals with, as `NIODeadline`; on the loop's thread.
  package private(set) var turnBegan: UInt64 = 0
  /// Done in each turn when what was read is dealt with and written, and once more, with true, when its tasks are done
  /// and what they wrote is out. Set it on the loop's thread.
  package var onWritten: (_ isLast: Bool) -> Void = { _ in }
  private var isEnding = false
  private var ended: [() -> Void] = []
  var receiving = ReceiveBuffers()

  /// Starts the thread. Throws `IOError` when the system has no descriptor or no thread to give.
  package init() throws {
    epoll = epoll_create1(CInt(EPOLL_CLOEXEC))
    bell = eventfd(0, CInt(EFD_CLOEXEC | EFD_NONBLOCK))
    guard epoll >= 0, bell >= 0 else {
      let code = errno
      if epoll >= 0 { Glibc.close(epoll) }
      throw IOError(errnoCode: code, reason: "cannot make an event loop; raise the limit of open files (ulimit -n)")
    }
    var event = epoll_event()
    event.events = EPOLLIN.rawValue | EPOLLET.rawValue
    event.data.u64 = Self.bellToken
    _ = epoll_ctl(epoll, EPOLL_CTL_ADD, bell, &event)
    guard WorkThread.start({ self.run() }) else {
      Glibc.close(epoll)
      Glibc.close(bell)
      throw IOError(errnoCode: EAGAIN, reason: "cannot start an event loop; raise the limit of processes (ulimit -u)")
    }
  }

  private static let bellToken = UInt64.max

  // MARK: Tasks

  @inline(__always)
  package var inEventLoop: Bool { thread.load(ordering: .relaxed) == UInt(pthread_self()) }

  package func preconditionInEventLoop(file: StaticString, line: UInt) {
    precondition(inEventLoop, file: file, line: line)
  }

  package func preconditionNotInEventLoop(file: StaticString, line: UInt) {
    precondition(!inEventLoop, file: file, line: line)
  }

  /// After the loop has ended nothing is done with the task.
  package func execute(_ task: @escaping @Sendable () -> Void) {
    if inEventLoop { local.append(task) } else { push(task) }
  }

  package func _executeIsolatedUnsafeUnchecked(_ task: @escaping () -> Void) { local.append(task) }

  private func push(_ task: @escaping @Sendable () -> Void) {
    let wakes = inbox.withLock { inbox -> Bool in
      guard !inbox.isClosed else { return false }
      inbox.tasks.append(task)
      defer { inbox.isWoken = true }
      return !inbox.isWoken
    }
    if wakes { ring() }
  }

  private func ring() {
    var one: UInt64 = 1
    _ = write(bell, &one, 8)
  }

  // MARK: Time

  package func scheduleTask<T>(deadline: NIODeadline, _ task: @escaping @Sendable () throws -> T) -> Scheduled<T> {
    schedule(deadline, task)
  }

  package func scheduleTask<T>(in amount: TimeAmount, _ task: @escaping @Sendable () throws -> T) -> Scheduled<T> {
    schedule(.now() + amount, task)
  }

  package func _scheduleTaskIsolatedUnsafeUnchecked<T>(
    deadline: NIODeadline, _ task: @escaping () throws -> T
  ) -> Scheduled<T> { schedule(deadline, task) }

  package func _scheduleTaskIsolatedUnsafeUnchecked<T>(
    in amount: TimeAmount, _ task: @escaping () throws -> T
  ) -> Scheduled<T> { schedule(.now() + amount, task) }

  private func schedule<T>(_ deadline: NIODeadline, _ task: @escaping () throws -> T) -> Scheduled<T> {
    let promise = makePromise(of: T.self)
    let timer = TimerHeap.Timer(deadline: deadline.uptimeNanoseconds) {
      do { promise.assumeIsolatedUnsafeUnchecked().succeed(try task()) } catch { promise.fail(error) }
    } fail: {
      promise.fail($0)
    }
    let add: @Sendable () -> Void = { [self] in
      if isEnding { timer.fail(EventLoopError.shutdown) } else { timers.add(timer) }
    }
    if inEventLoop { add() } else { push(add) }
    return Scheduled(promise: promise) { [self] in if inEventLoop { timer.drop() } else { timer.cancel() } }
  }

  /// On the loop's thread.
  func add(_ timer: TimerHeap.Timer) { timers.add(timer) }

  // MARK: Sockets

  /// From now on `socket` is told of everything that happens on the descriptor. Throws `IOError`.
  func register(_ socket: any EpollSocket, _ descriptor: CInt) throws {
    let index = Int(descriptor)
    while slots.count <= index { slots.append((0, nil)) }
    slots[index].generation &+= 1
    slots[index].socket = socket
    var event = epoll_event()
    event.events = EPOLLIN.rawValue | EPOLLOUT.rawValue | EPOLLRDHUP.rawValue | EPOLLET.rawValue
    event.data.u64 = UInt64(slots[index].generation) << 32 | UInt64(index)
    guard epoll_ctl(epoll, EPOLL_CTL_ADD, descriptor, &event) == 0 else {
      let code = errno
      slots[index].socket = nil
      throw IOError(errnoCode: code, reason: "epoll_ctl")
    }
  }

  /// Nothing is told any more; the descriptor may be closed, which takes it out of the kernel's set unless a copy of it
  /// is open elsewhere.
  func forget(_ socket: any EpollSocket, _ descriptor: CInt, hasCopies: Bool) {
    let index = Int(descriptor)
    guard index < slots.count, slots[index].socket === socket else { return }
    slots[index].socket = nil
    guard hasCopies else { return }
    var event = epoll_event()
    _ = epoll_ctl(epoll, EPOLL_CTL_DEL, descriptor, &event)
  }

  /// Reads on in the next turn, which begins at once.
  func readOn(_ channel: StreamChannel) { unfinished.append(channel) }

  // MARK: The thread

  private func run() {
    thread.store(UInt(pthread_self()), ordering: .relaxed)
    withUnsafeTemporaryAllocation(of: epoll_event.self, capacity: 256) { events in
      while !isEnding {
        let count = epoll_wait(epoll, events.baseAddress, 256, timeout())
        turnBegan = NIODeadline.now().uptimeNanoseconds
        for index in 0..<max(0, Int(count)) { dispatch(events[index]) }
        finishReads()
        writeOut()
        onWritten(false)
        runTasks()
        runTimers()
        writeOut()
        onWritten(true)
      }
      end()
    }
  }

  private func timeout() -> CInt {
    guard local.isEmpty, unfinished.isEmpty, dirty.isEmpty else { return 0 }
    guard let next = timers.next else { return -1 }
    let now = NIODeadline.now().uptimeNanoseconds
    if next <= now { return 0 }
    // Rounded up: a timer is never early.
    return CInt(clamping: (next - now + 999_999) / 1_000_000)
  }

  private func dispatch(_ event: epoll_event) {
    let token = event.data.u64
    if token == Self.bellToken {
      var count: UInt64 = 0
      _ = read(bell, &count, 8)
      return
    }
    let index = Int(token & 0xFFFF_FFFF)
    guard slots[index].generation == UInt32(token >> 32), let socket = slots[index].socket else { return }
    socket.ready(EpollEvents(rawValue: event.events))
  }

  /// Writes at the end of this turn: many sockets are read in a row, and then many are written, so that their peers are
  /// woken once for several of them.
  func writeLater(_ channel: StreamChannel) { dirty.append(channel) }

  private func writeOut() {
    while !dirty.isEmpty {
      var channels = ContiguousArray<StreamChannel>()
      swap(&channels, &dirty)
      for channel in channels { channel.writeNow() }
      if dirty.isEmpty {
        channels.removeAll(keepingCapacity: true)
        swap(&channels, &dirty)
      }
    }
  }

  private func finishReads() {
    guard !unfinished.isEmpty else { return }
    let channels = unfinished
    unfinished.removeAll(keepingCapacity: true)
    for channel in channels { channel.readOn() }
  }

  /// What is there now; what the tasks add themselves has its turn after the sockets.
  private func runTasks() {
    let foreign = inbox.withLock { inbox -> ContiguousArray<@Sendable () -> Void>? in
      inbox.isWoken = false
      guard !inbox.tasks.isEmpty else { return nil }
      let tasks = inbox.tasks
      inbox.tasks = []
      return tasks
    }
    if let foreign { for task in foreign { task() } }
    guard !local.isEmpty else { return }
    var tasks = ContiguousArray<() -> Void>()
    swap(&tasks, &local)
    for task in tasks { task() }
    // Its room is used again.
    if local.isEmpty {
      tasks.removeAll(keepingCapacity: true)
      swap(&tasks, &local)
    }
  }

  private func runTimers() {
    guard timers.next != nil else { return }
    let now = NIODeadline.now().uptimeNanoseconds
    while let timer = timers.takeDue(now) { timer.act() }
  }

  // MARK: The end

  package func shutdownGracefully(queue: DispatchQueue, _ callback: @escaping @Sendable ((any Error)?) -> Void) {
    execute { [self] in
      isEnding = true
      ended.append { queue.async { callback(nil) } }
    }
  }

  /// Ends the loop and returns once its thread is about to end. What waits is done first; sockets are closed.
  package func shutdown() async {
    await withCheckedContinuation { (continuation: CheckedContinuation<Void, Never>) in
      execute { [self] in
        isEnding = true
        ended.append { continuation.resume() }
      }
    }
  }

  private func end() {
    for slot in slots { slot.socket?.closeNow() }
    while true {
      runTasks()
      while let timer = timers.takeAny() { timer.fail(EventLoopError.shutdown) }
      let isIdle = inbox.withLock { inbox in
        inbox.isClosed = inbox.tasks.isEmpty && local.isEmpty
        return inbox.isClosed
      }
      if isIdle { break }
    }
    Glibc.close(epoll)
    Glibc.close(bell)
    for tell in ended { tell() }
  }
}

/// What happened on a socket, as epoll(7) says it.
struct EpollEvents: OptionSet {
  let rawValue: UInt32
  static let input = EpollEvents(rawValue: EPOLLIN.rawValue)
  static let output = EpollEvents(rawValue: EPOLLOUT.rawValue)
  static let inputEnded = EpollEvents(rawValue: EPOLLRDHUP.rawValue)
  static let hangUp = EpollEvents(rawValue: EPOLLHUP.rawValue)
  static let error = EpollEvents(rawValue: EPOLLERR.rawValue)
}

/// Who is told of a descriptor's events, on the loop's thread.
protocol EpollSocket: AnyObject {
  func ready(_ events: EpollEvents)
  /// The loop ends.
  func closeNow()
}
