import Testing

@testable import Telemetry

@Suite struct StoryRingTests {
  private func bytes(_ text: String) -> [UInt8] { Array(text.utf8) }

  private func ring(_ limit: Int, keep: UInt64 = 1000) -> StoryRing { StoryRing(limit: limit, keep: keep) }

  @Test func tellsTheNewestFirst() {
    var ring = ring(1000)
    ring.add(id: bytes("a"), time: 1, isFailure: true, text: bytes("one"))
    ring.add(id: bytes("b"), time: 2, isFailure: false, text: bytes("two"))
    ring.add(id: bytes("a"), time: 3, isFailure: true, text: bytes("three"))
    #expect(ring.stories(of: bytes("a"), now: 4).map(\.text) == [bytes("three"), bytes("one")])
    #expect(ring.stories(of: bytes("c"), now: 4).isEmpty)
    #expect(ring.failures(limit: 1, now: 4).map(\.text) == [bytes("three")])
    #expect(ring.failures(limit: 9, now: 4).map(\.time) == [3, 1])
  }

  @Test func forgetsWhatIsOld() {
    var ring = ring(1000, keep: 10)
    ring.add(id: bytes("a"), time: 5, isFailure: true, text: bytes("one"))
    ring.add(id: bytes("a"), time: 20, isFailure: true, text: bytes("two"))
    #expect(ring.failures(limit: 9, now: 15).count == 2)
    #expect(ring.failures(limit: 9, now: 16).map(\.time) == [20])
    #expect(ring.failures(limit: 9, now: 31).isEmpty)
  }

  /// Whatever sizes come: what is told is the newest, whole, and never more than fits.
  @Test(arguments: [7, 40, 64, 333]) func neverTellsBrokenStories(limit: Int) {
    var ring = ring(limit, keep: .max)
    var seed: UInt64 = UInt64(limit)
    var all: [(id: [UInt8], text: [UInt8])] = []
    for time in 1...2000 as ClosedRange<UInt64> {
      seed = seed &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
      let size = Int(seed >> 33) % 37
      let story = (id: bytes("\(time)"), text: [UInt8](repeating: UInt8(time % 251), count: size))
      ring.add(id: story.id, time: time, isFailure: true, text: story.text)
      if story.id.count + size <= limit { all.append(story) }
      let told = ring.failures(limit: .max, now: time)
      let expected = all.suffix(told.count).reversed().map(\.text)
      #expect(told.map(\.text) == Array(expected), "after \(time)")
      #expect(told.reduce(0) { $0 + $1.text.count } <= limit)
      if let last = all.last { #expect(ring.stories(of: last.id, now: time).map(\.text) == [last.text]) }
    }
  }

  @Test func keepsTheNewestWhenItsSizeChanges() {
    var ring = ring(100)
    for time in 1...20 as ClosedRange<UInt64> {
      ring.add(id: bytes("x"), time: time, isFailure: true, text: [UInt8](repeating: 1, count: 9))
    }
    #expect(ring.count == 10)
    ring.resize(limit: 30, keep: 1000)
    #expect(ring.failures(limit: 99, now: 20).map(\.time) == [20, 19, 18])
    ring.resize(limit: 1000, keep: 1000)
    #expect(ring.failures(limit: 99, now: 20).map(\.time) == [20, 19, 18])
    ring.resize(limit: 0, keep: 0)
    ring.add(id: bytes("x"), time: 21, isFailure: true, text: bytes("t"))
    #expect(ring.count == 0)
  }
}
