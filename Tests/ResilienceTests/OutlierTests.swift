import Testing

@testable import Resilience

/// A detector that expectations may change.
private final class Subject {
  var detector: OutlierDetector
  init(_ detector: OutlierDetector) { self.detector = detector }
  func streak(_ host: Int, count: Int, now: UInt64) -> Bool { detector.streak(host, count: count, now: now) }
  func sweep(_ tallies: [Int: OutlierDetector.Tally], now: UInt64) -> OutlierDetector.Sweep {
    detector.sweep(tallies, now: now)
  }
  func set(_ host: Int, isHealthy: Bool) { detector.set(host, isHealthy: isHealthy) }
  func keep(_ members: [Int]) { detector.keep(members) }
  func adopt(_ ejection: OutlierDetector.Ejection, of host: Int) { detector.adopt(ejection, of: host) }
  func ejection(of host: Int) -> OutlierDetector.Ejection? { detector.ejection(of: host) }
  var ejectedCount: Int { detector.ejectedCount }
}

/// The same for a check.
private final class Checked {
  var check = HealthCheck()
  private var random = SeededRandom(seed: 3)
  func begin(now: UInt64) -> Bool { check.begin(now: now) }
  func ended(failure: String?, now: UInt64, _ settings: HealthCheck.Settings) -> Bool {
    check.ended(failure: failure, now: now, settings, using: &random)
  }
}

@Suite struct OutlierTests {
  private static let second: UInt64 = 1_000_000_000

  private func detector(_ count: Int, percent: Int = 10) -> Subject {
    var settings = OutlierDetector.Settings()
    settings.mostPercent = percent
    var detector = OutlierDetector(settings)
    detector.keep(Array(0..<count))
    return Subject(detector)
  }

  @Test func oneHostIsNeverEjected() {
    let alone = detector(1, percent: 100)
    #expect(!alone.streak(0, count: 5, now: 0))
    #expect(alone.ejection(of: 0) == nil)
    let two = detector(2)
    #expect(two.streak(0, count: 5, now: 0))
    #expect(!two.streak(0, count: 6, now: 0), "it is out already")
    #expect(!two.streak(1, count: 5, now: 0), "it is the last one")
    #expect(two.ejectedCount == 1)
  }

  @Test func theLastHealthyHostStays() {
    let detector = detector(3, percent: 100)
    detector.set(1, isHealthy: false)
    detector.set(2, isHealthy: false)
    #expect(!detector.streak(0, count: 5, now: 0))
    detector.set(2, isHealthy: true)
    #expect(detector.streak(0, count: 5, now: 0))
  }

  @Test(arguments: [(2, 10, 1), (19, 10, 1), (20, 10, 2), (45, 10, 4), (4, 50, 2), (4, 100, 3)])
  func aShareOfTheHostsMayBeOut(count: Int, percent: Int, most: Int) {
    let detector = detector(count, percent: percent)
    let ejected = (0..<count).filter { detector.streak($0, count: 5, now: 0) }
    #expect(ejected.count == most)
  }

  @Test func ejectionsGrowToTheirLimitAndShrinkInGoodTimes() {
    let detector = detector(2)
    var now: UInt64 = 0
    var lengths: [UInt64] = []
    for _ in 0..<12 {
      #expect(detector.streak(0, count: 5, now: now))
      let until = detector.ejection(of: 0)!.until
      lengths.append((until - now) / Self.second)
      #expect(detector.sweep([:], now: until - 1).isEmpty)
      #expect(detector.sweep([:], now: until).returned == [0])
      now = until
    }
    #expect(lengths == [30, 60, 90, 120, 150, 180, 210, 240, 270, 300, 300, 300])
    for _ in 0..<11 { #expect(detector.sweep([:], now: now).isEmpty) }
    #expect(detector.streak(0, count: 5, now: now))
    #expect(detector.ejection(of: 0)!.until == now + 60 * Self.second)
  }

  @Test func aHostFarBelowTheOthersIsEjected() {
    let detector = detector(6)
    func tallies(_ failures: [UInt64], requests: UInt64 = 200) -> [Int: OutlierDetector.Tally] {
      Dictionary(
        uniqueKeysWithValues: failures.enumerated().map { ($0, .init(requests: requests, failures: $1)) })
    }
    // All alike, then too few requests, then too few hosts, then one far below.
    #expect(detector.sweep(tallies([20, 20, 20, 20, 20, 20]), now: 1).isEmpty)
    #expect(detector.sweep(tallies([99, 0, 0, 0, 0, 0], requests: 99), now: 1).isEmpty)
    #expect(detector.sweep(tallies([200, 0, 0, 0]), now: 1).isEmpty)
    #expect(detector.sweep(tallies([0, 0, 100, 0, 0, 2]), now: 1).ejected == [2])
    guard case .successRate(50, let needed)? = detector.ejection(of: 2)?.reason else {
      Issue.record("another reason")
      return
    }
    #expect((51...70).contains(needed))
    // One of six is out: no more.
    #expect(detector.sweep(tallies([200, 0, 0, 0, 0, 0]), now: 2).isEmpty)
  }

  @Test func membersThatStayKeepTheirEjection() {
    let detector = detector(3)
    #expect(detector.streak(1, count: 5, now: 7))
    let ejection = detector.ejection(of: 1)
    detector.keep([1, 2, 9])
    #expect(detector.ejection(of: 1) == ejection)
    detector.keep([2, 9])
    #expect(detector.ejectedCount == 0)
    detector.adopt(ejection!, of: 9)
    #expect(detector.ejection(of: 9) == ejection)
    #expect(detector.sweep([:], now: ejection!.until).returned == [9])
  }
}

@Suite struct HealthCheckTests {
  private var settings: HealthCheck.Settings {
    var settings = HealthCheck.Settings()
    settings.interval = 1000
    return settings
  }

  @Test(arguments: [
    ("+++", "+++"), ("-", "!"), ("-+-++-", "!---!+"), ("+--+---", "++++++!"), ("+---++", "+++!-!"), ("+----", "+++!-"),
  ])
  func thresholds(results: String, expected: String) {
    let checked = Checked()
    #expect(checked.check.isHealthy && checked.check.state == .assumed)
    // `!` = that result changed it.
    let answers = results.map { result -> Character in
      let changed = checked.ended(failure: result == "+" ? nil : "why", now: 0, settings)
      return changed ? "!" : checked.check.isHealthy ? "+" : "-"
    }
    #expect(String(answers) == expected)
  }

  @Test func isDueAtOnceAndThenAfterTheIntervalWithJitter() {
    let checked = Checked()
    #expect(checked.begin(now: 5))
    #expect(!checked.begin(now: .max - 1), "one runs")
    var pauses: [UInt64] = []
    var now: UInt64 = 5
    for _ in 0..<200 {
      _ = checked.ended(failure: nil, now: now, settings)
      pauses.append(checked.check.due - now)
      #expect(!checked.begin(now: checked.check.due - 1))
      now = checked.check.due
      #expect(checked.begin(now: now))
    }
    #expect(pauses.allSatisfy { (900...1100).contains($0) })
    #expect(pauses.contains { $0 < 930 } && pauses.contains { $0 > 1070 })
    checked.check.restart()
    #expect(checked.begin(now: now))
  }

  @Test func keepsTheLastReason() {
    let checked = Checked()
    _ = checked.ended(failure: "status 503", now: 0, settings)
    _ = checked.ended(failure: nil, now: 0, settings)
    #expect(checked.check.reason == "status 503" && !checked.check.isHealthy)
  }
}
