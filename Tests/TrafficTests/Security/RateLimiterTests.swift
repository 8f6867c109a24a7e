import Resilience
import Testing
import Traffic
import Vocabulary

@Suite struct RateLimiterTests {
  private let second: UInt64 = 1_000_000_000

  private func limit(_ requests: Int, burst: Int, _ key: RateLimitConfiguration.Key = .all) -> RateLimitConfiguration {
    RateLimitConfiguration(requests: requests, period: .seconds(1), burst: burst, key: key)
  }

  @Test func theBurstIsTakenAtOnceAndRefilledEvenly() {
    var limiter = RateLimiter([limit(10, burst: 3)])
    let start = 50 * second
    for _ in 0..<3 { #expect(limiter.take([.nobody], now: start) == 0) }
    #expect(limiter.take([.nobody], now: start) == second / 10)
    #expect(limiter.take([.nobody], now: start + second / 10 - 1) == 1)
    #expect(limiter.take([.nobody], now: start + second / 10) == 0)
    #expect(limiter.take([.nobody], now: start + second / 10) > 0)
    // A long pause brings the burst back, and no more.
    let later = start + 1000 * second
    for _ in 0..<3 { #expect(limiter.take([.nobody], now: later) == 0) }
    #expect(limiter.take([.nobody], now: later) > 0)
  }

  @Test func overALongTimeTheRateHolds() {
    var limiter = RateLimiter([limit(100, burst: 10)])
    var random = SeededRandom(seed: 7)
    var now = second
    var taken = 0
    while now < 61 * second {
      if limiter.take([.nobody], now: now) == 0 { taken += 1 }
      now += random.next() % (second / 200)
    }
    #expect(taken >= 5990 && taken <= 6011)
  }

  @Test func keysHaveBucketsOfTheirOwn() throws {
    var limiter = RateLimiter([limit(1, burst: 1, .source)])
    let one = RateKey(source: try #require(IPAddress("10.0.0.1")))
    let other = RateKey(source: try #require(IPAddress("10.0.0.2")))
    #expect(limiter.take([one], now: second) == 0)
    #expect(limiter.take([one], now: second) == second)
    #expect(limiter.take([other], now: second) == 0)
    // The addresses of one IPv6 network are one client.
    let first = RateKey(source: try #require(IPAddress("fd00:1:2:3::1")))
    #expect(first == RateKey(source: try #require(IPAddress("fd00:1:2:3:ffff::2"))))
    #expect(first != RateKey(source: try #require(IPAddress("fd00:1:2:4::1"))))
    #expect(RateKey(text: "a".utf8) != RateKey(text: "b".utf8) && RateKey(text: "".utf8) != .nobody)
  }

  @Test func aRequestTakesOfEveryLimitOrOfNone() {
    var limiter = RateLimiter([limit(1000, burst: 5), limit(1, burst: 1, .header("x"))])
    let a = RateKey(text: "a".utf8)
    #expect(limiter.take([.nobody, a], now: second) == 0)
    // Refused by the second limit: the first one is not charged for any of these.
    for _ in 0..<50 { #expect(limiter.take([.nobody, a], now: second) == second) }
    for text in ["b", "c", "d", "e"] { #expect(limiter.take([.nobody, RateKey(text: text.utf8)], now: second) == 0) }
    #expect(limiter.take([.nobody, RateKey(text: "f".utf8)], now: second) > 0)
  }

  @Test func keysAreBoundedAndTheOldestGoes() {
    var limiter = RateLimiter([limit(1, burst: 1, .path)])
    for number in 0...RateLimiter.mostKeys + 500 {
      #expect(limiter.take([RateKey(text: "/\(number)".utf8)], now: second) == 0)
    }
    #expect(limiter.keyCount(0) == RateLimiter.mostKeys)
    // The newest are remembered, the oldest begin anew.
    #expect(limiter.take([RateKey(text: "/\(RateLimiter.mostKeys)".utf8)], now: second) > 0)
    #expect(limiter.take([RateKey(text: "/0".utf8)], now: second) == 0)
  }

  @Test func absurdLimitsDoNotOverflow() {
    let decade = Duration.seconds(10 * 366 * 86_400)
    var limiter = RateLimiter([
      RateLimitConfiguration(requests: 1, period: decade, burst: 1_000_000_000),
      RateLimitConfiguration(requests: 1_000_000_000, period: .milliseconds(1), burst: 1),
    ])
    #expect(limiter.take([.nobody, .nobody], now: UInt64.max / 4) == 0)
    #expect(limiter.take([.nobody, .nobody], now: UInt64.max / 4 + second) == 0)
  }
}

@Suite struct RecencyTableTests {
  /// Against a list that is kept in order.
  @Test func agreesWithAList() {
    var table = RecencyTable<Int, Int>(limit: 20)
    var list: [(key: Int, value: Int, weight: Int)] = []
    var random = SeededRandom(seed: 3)
    for step in 0..<20_000 {
      let key = Int(random.next() % 30)
      switch random.next() % 4 {
      case 0:
        table.remove(key)
        list.removeAll { $0.key == key }
      case 1:
        let weight = 1 + Int(random.next() % 4)
        table.set(key, step, weight: weight)
        list.removeAll { $0.key == key }
        list.append((key, step, weight))
        while list.reduce(0, { $0 + $1.weight }) > 20 { list.removeFirst() }
      case 2:
        let changed = table.update(key) { $0 += 1 }
        let place = list.firstIndex { $0.key == key }
        #expect(changed == (place != nil))
        if let place {
          var entry = list.remove(at: place)
          entry.value += 1
          list.append(entry)
        }
      default:
        let found = table.find(key)
        let place = list.firstIndex { $0.key == key }
        #expect(found == place.map { list[$0].value })
        if let place { list.append(list.remove(at: place)) }
      }
      #expect(table.count == list.count)
    }
    table.set(99, 0, weight: 21)
    #expect(table.peek(99) == nil)
  }
}
