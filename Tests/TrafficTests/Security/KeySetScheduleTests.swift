import Resilience
import Testing
import Traffic

@Suite struct KeySetScheduleTests {
  private let second: UInt64 = 1_000_000_000

  @Test func goodSetsAreFetchedAgainInTimeAndFailuresSooner() {
    var schedule = KeySetSchedule(refresh: 300 * second)
    let begins: (UInt64) -> Bool = { schedule.begins(now: $0) }
    #expect(schedule.state == .missing && begins(0))
    #expect(!begins(0))
    schedule.failed(now: second)
    #expect(schedule.state == .missing)
    // One second, then two, then four, and never more than thirty.
    #expect(!begins(2 * second - 1) && begins(2 * second))
    schedule.failed(now: 2 * second)
    #expect(!begins(4 * second - 1) && begins(4 * second))
    for _ in 0..<10 {
      schedule.failed(now: 10 * second)
      #expect(begins(40 * second))
    }
    schedule.loaded(now: 50 * second)
    #expect(schedule.state == .good && !begins(350 * second - 1) && begins(350 * second))
    schedule.failed(now: 351 * second)
    #expect(schedule.state == .stale && begins(352 * second))
    schedule.loaded(now: 352 * second)
    #expect(schedule.state == .good)
  }

  @Test func unknownKeysBringAboutOneFetchInThirtySeconds() {
    var schedule = KeySetSchedule(refresh: 300 * second)
    _ = schedule.begins(now: 0)
    let wish: (UInt64) -> KeySetSchedule.Wish = { schedule.wish(now: $0) }
    #expect(wish(0) == .wait)
    schedule.loaded(now: 0)
    #expect(wish(second) == .fetch && wish(second) == .wait)
    schedule.loaded(now: 2 * second)
    #expect(wish(3 * second) == .refused && wish(31 * second - 1) == .refused)
    #expect(wish(31 * second) == .fetch)
  }
}

@Suite struct FaultPolicyTests {
  @Test func fractionsHoldAndAreIndependent() {
    var configuration = FaultConfiguration()
    configuration.delay = .init(duration: .milliseconds(5), fraction: 0.25)
    configuration.abort = .init(status: 503, fraction: 0.5)
    let policy = FaultPolicy(configuration)
    var random = SeededRandom(seed: 1)
    let drawn = (0..<10_000).map { _ in policy.draw(using: &random) }
    let (delayed, aborted) = (drawn.filter { $0.delay == 5_000_000 }.count, drawn.filter { $0.status == 503 }.count)
    let both = drawn.filter { $0.delay > 0 && $0.status > 0 }.count
    #expect((2300...2700).contains(delayed) && (4800...5200).contains(aborted) && (1100...1400).contains(both))
  }

  @Test func allAndNoneAreExact() {
    var random = SeededRandom(seed: 2)
    var configuration = FaultConfiguration()
    configuration.abort = .init(status: 500, fraction: 1)
    configuration.delay = .init(duration: .seconds(1), fraction: 0)
    let policy = FaultPolicy(configuration)
    for _ in 0..<1000 { #expect(policy.draw(using: &random) == (0, 500)) }
    #expect(FaultPolicy(FaultConfiguration()).draw(using: &random) == (0, 0))
  }
}
