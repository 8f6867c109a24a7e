import Testing

@testable import Resilience

@Suite struct BackoffTests {
  @Test func ceilingsDoubleToTheCap() {
    let backoff = Backoff(base: .milliseconds(25), cap: .milliseconds(250))
    let ceilings = (0..<6).map { backoff.ceiling(attempt: $0) }
    #expect(ceilings == [25, 50, 100, 200, 250, 250].map { .milliseconds($0) })
  }

  @Test func delaysUseTheWholeRangeAndRepeatBySeed() {
    let backoff = Backoff(base: .milliseconds(100), cap: .seconds(1))
    func draw(_ seed: UInt64) -> [Duration] {
      var random = SeededRandom(seed: seed)
      return (0..<200).map { _ in backoff.delay(attempt: 0, using: &random) }
    }
    let delays = draw(7)
    #expect(delays == draw(7))
    #expect(delays != draw(8))
    #expect(delays.allSatisfy { $0 >= .zero && $0 <= .milliseconds(100) })
    #expect(delays.contains { $0 < .milliseconds(20) } && delays.contains { $0 > .milliseconds(80) })
  }
}

@Suite struct RetryBudgetTests {
  @Test func allowsTheLargerOfShareAndMinimum() {
    let budget = RetryBudget(percent: 20, minimum: 3)
    #expect(budget.allows(retries: 2, active: 1))
    #expect(!budget.allows(retries: 3, active: 1))
    #expect(budget.allows(retries: 19, active: 100))
    #expect(!budget.allows(retries: 20, active: 100))
  }
}

@Suite struct TokenBucketTests {
  @Test func limitsBurstAndRefills() {
    var bucket = TokenBucket(rate: 10, per: .seconds(1), burst: 3)
    let start: UInt64 = 5_000_000_000
    let offsets: [UInt64] = [0, 0, 0, 0, 99, 100, 100, 10_000, 10_000, 10_000, 10_000]
    let taken = offsets.map { bucket.take(now: start + $0 * 1_000_000) }
    #expect(taken == [true, true, true, false, false, true, false, true, true, true, false])
  }
}
