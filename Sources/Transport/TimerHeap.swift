import Synchronization

/// What a loop does later, by deadline; of one deadline, in the order in which it was asked for. Owned by one thread,
/// but for `Timer.cancel`.
struct TimerHeap {
  /// `@unchecked Sendable`: what changes is one flag, which is atomic, and what the loop's thread alone touches.
  final class Timer: @unchecked Sendable {
    /// Nanoseconds of the monotonic clock.
    let deadline: UInt64
    fileprivate var order: UInt64 = 0
    private var task: (() -> Void)?
    private var failure: ((any Error) -> Void)?
    private let isCancelled = Atomic(false)

    init(deadline: UInt64, _ task: @escaping () -> Void, fail: @escaping (any Error) -> Void) {
      self.deadline = deadline
      self.task = task
      failure = fail
    }

    /// From any thread. It stays where it is until its time, and then does nothing.
    func cancel() { isCancelled.store(true, ordering: .relaxed) }

    /// On the loop's thread: cancels it and lets go of what it holds.
    func drop() {
      cancel()
      task = nil
      failure = nil
    }

    func act() {
      if !isCancelled.load(ordering: .relaxed) { task?() }
      drop()
    }

    func fail(_ error: any Error) {
      if !isCancelled.load(ordering: .relaxed) { failure?(error) }
      drop()
    }

    fileprivate func isBefore(_ other: Timer) -> Bool {
      deadline != other.deadline ? deadline < other.deadline : order < other.order
    }
  }

  private var heap: ContiguousArray<Timer> = []
  private var count: UInt64 = 0

  /// The next deadline.
  var next: UInt64? { heap.first?.deadline }

  mutating func add(_ timer: Timer) {
    count += 1
    timer.order = count
    heap.append(timer)
    var index = heap.count - 1
    while index > 0 {
      let parent = (index - 1) / 2
      guard heap[index].isBefore(heap[parent]) else { return }
      heap.swapAt(index, parent)
      index = parent
    }
  }

  /// The first one whose time has come.
  mutating func takeDue(_ now: UInt64) -> Timer? {
    guard let first = heap.first, first.deadline <= now else { return nil }
    return takeAny()
  }

  mutating func takeAny() -> Timer? {
    guard let first = heap.first else { return nil }
    let last = heap.removeLast()
    guard !heap.isEmpty else { return first }
    heap[0] = last
    var index = 0
    while true {
      var least = index
      for child in [2 * index + 1, 2 * index + 2] where child < heap.count && heap[child].isBefore(heap[least]) {
        least = child
      }
      if least == index { return first }
      heap.swapAt(index, least)
      index = least
    }
  }
}
