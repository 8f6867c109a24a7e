import Testing

@testable import Transport

@Suite struct TimerHeapTests {
  private struct Random: RandomNumberGenerator {
    var state: UInt64
    mutating func next() -> UInt64 {
      state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
      return state >> 1 ^ state << 31
    }
  }

  private final class Seen {
    var values: [Int] = []
  }

  @Test(arguments: 1...20) func itGoesByDeadlineAndThenByOrder(seed: UInt64) {
    var random = Random(state: seed)
    var heap = TimerHeap()
    let seen = Seen()
    let deadlines = (0..<200).map { _ in UInt64.random(in: 0..<40, using: &random) }
    for (index, deadline) in deadlines.enumerated() {
      heap.add(
        TimerHeap.Timer(deadline: deadline) {
          seen.values.append(index)
        } fail: { _ in
        })
    }
    while let timer = heap.takeDue(19) { timer.act() }
    let due = deadlines.indices.filter { deadlines[$0] <= 19 }
    #expect(seen.values == due.sorted { (deadlines[$0], $0) < (deadlines[$1], $1) })
    #expect(heap.next == deadlines.filter { $0 > 19 }.min())
  }

  @Test func aCancelledTimerDoesNothingAndLetsGo() {
    var heap = TimerHeap()
    let seen = Seen()
    weak var held: Seen?
    let timers = (0..<3).map { index in
      let captured = Seen()
      if index == 1 { held = captured }
      return TimerHeap.Timer(deadline: 1) {
        _ = captured
        seen.values.append(index)
      } fail: { _ in
      }
    }
    for timer in timers { heap.add(timer) }
    timers[0].cancel()
    timers[1].drop()
    #expect(held == nil)
    while let timer = heap.takeDue(1) { timer.act() }
    #expect(seen.values == [2])
    #expect(heap.next == nil)
  }
}
