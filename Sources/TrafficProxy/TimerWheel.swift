import NIOCore

/// Something with a deadline. It is linked into the wheel at most once; a deadline that moves later costs nothing.
class Timed {
  fileprivate(set) var deadline = UInt64.max
  fileprivate var slotTick = UInt64.max
  fileprivate var next: Timed?
  // Valid while linked: the previous entry, or the wheel, holds this one by `next`.
  fileprivate unowned(unsafe) var previous: Timed?

  /// The deadline has passed. The wheel has forgotten this; set a new deadline to be called again.
  func deadlinePassed(_ now: UInt64) {}
}

/// The deadlines of one event loop in 20 ms slots, driven by one scheduled task.
final class TimerWheel {
  private static let tick: UInt64 = 20_000_000
  private static let slots = 512

  private let eventLoop: any EventLoop
  private var heads = ContiguousArray<Timed?>(repeating: nil, count: TimerWheel.slots)
  private var current: UInt64
  private var count = 0
  private var wakeTick = UInt64.max
  private var wake: Scheduled<Void>?

  init(eventLoop: any EventLoop) {
    self.eventLoop = eventLoop
    current = NIODeadline.now().uptimeNanoseconds / Self.tick
  }

  /// Calls `deadlinePassed` once `deadline` (nanoseconds of uptime) has passed, at most about 20 ms later.
  func set(_ timed: Timed, _ deadline: UInt64, now: UInt64) {
    timed.deadline = deadline
    let due = deadline == .max ? UInt64.max : deadline / Self.tick &+ 1
    if timed.slotTick <= due { return }
    unlink(timed)
    link(timed, due, now)
  }

  func remove(_ timed: Timed) {
    timed.deadline = .max
    unlink(timed)
  }

  private func link(_ timed: Timed, _ due: UInt64, _ now: UInt64) {
    if due == .max { return }
    if count == 0 { current = max(current, now / Self.tick) }
    let tick = min(max(due, current + 1), current + UInt64(Self.slots) - 1)
    let slot = Int(tick % UInt64(Self.slots))
    timed.slotTick = tick
    timed.next = heads[slot]
    timed.previous = nil
    heads[slot]?.previous = timed
    heads[slot] = timed
    count += 1
    if tick < wakeTick { schedule(tick, now) }
  }

  private func unlink(_ timed: Timed) {
    guard timed.slotTick != .max else { return }
    let slot = Int(timed.slotTick % UInt64(Self.slots))
    if let previous = timed.previous { previous.next = timed.next } else { heads[slot] = timed.next }
    timed.next?.previous = timed.previous
    timed.next = nil
    timed.previous = nil
    timed.slotTick = .max
    count -= 1
  }

  private func schedule(_ tick: UInt64, _ now: UInt64) {
    wake?.cancel()
    wakeTick = tick
    let delay = tick * Self.tick > now ? tick * Self.tick - now : 0
    wake = eventLoop.assumeIsolated().scheduleTask(in: .nanoseconds(Int64(delay))) { [weak self] in self?.turn() }
  }

  private func turn() {
    let now = NIODeadline.now().uptimeNanoseconds
    // What is linked meanwhile does not ask to be woken for: the next entry of all is looked for at the end.
    wakeTick = 0
    wake = nil
    let end = now / Self.tick
    while current < end, count > 0 {
      current += 1
      drain(Int(current % UInt64(Self.slots)), now)
    }
    current = max(current, end)
    wakeTick = .max
    if count > 0 { scheduleNext(now) }
  }

  private func drain(_ slot: Int, _ now: UInt64) {
    var timed = heads[slot]
    while let entry = timed {
      timed = entry.next
      unlink(entry)
      if entry.deadline <= now {
        entry.deadline = .max
        entry.deadlinePassed(now)
        // The callee may have changed the list: begin again.
        timed = heads[slot]
      } else if entry.deadline != .max {
        link(entry, entry.deadline / Self.tick &+ 1, now)
      }
    }
  }

  private func scheduleNext(_ now: UInt64) {
    for offset in 1...UInt64(Self.slots) where heads[Int((current + offset) % UInt64(Self.slots))] != nil {
      if current + offset < wakeTick { schedule(current + offset, now) }
      return
    }
  }
}
