import Testing

@testable import Telemetry

@Suite struct TapTests {
  private func subject(_ status: Int = 200, path: String = "/a/b", milliseconds: UInt64 = 5) -> TapFilter.Subject {
    .init(
      status: status, listener: Array("web".utf8), route: Array("api".utf8), cluster: Array("pay".utf8),
      blame: status >= 500 ? Array("upstream".utf8) : [], method: Array("GET".utf8), path: Array(path.utf8),
      duration: milliseconds * 1_000_000)
  }

  @Test func everyConditionMustHold() {
    var filter = TapFilter()
    #expect(filter.takes(subject()))
    filter.statuses = TapFilter.statuses("5xx")
    #expect(!filter.takes(subject()) && filter.takes(subject(503)))
    filter.blame = Array("upstream".utf8)
    filter.path = Array("/a/".utf8)
    filter.slow = 5_000_000
    #expect(filter.takes(subject(503)))
    #expect(!filter.takes(subject(503, path: "/b")))
    #expect(!filter.takes(subject(503, milliseconds: 4)))
    filter.cluster = Array("other".utf8)
    #expect(!filter.takes(subject(503)))
  }

  @Test func statusesAreGroupsSinglesAndRanges() {
    #expect(TapFilter.statuses("5xx") == 500...599)
    #expect(TapFilter.statuses("404") == 404...404)
    #expect(TapFilter.statuses("200-299") == 200...299)
    for wrong in ["", "6xx", "x", "20", "299-200", "200-", "-1", "2xx-3xx", "+20"] {
      #expect(TapFilter.statuses(wrong) == nil, "\(wrong)")
    }
  }

  @Test func aSlowReaderLosesRecordsAndIsToldHowMany() async {
    let tap = Tap(TapFilter())
    let line = [UInt8](repeating: 0x61, count: 1023) + [10]
    for _ in 0..<300 { line.withUnsafeBytes { tap.offer($0) } }
    let batch = await tap.next()
    #expect(batch?.lines.count == Tap.room)
    #expect(batch?.lost == 300 - Tap.room / 1024)
    line.withUnsafeBytes { tap.offer($0) }
    let later = await tap.next()
    #expect(later?.lines.count == 1024 && later?.lost == 0)
  }

  @Test func endsAtItsLimitAndWhenClosed() async {
    var filter = TapFilter()
    filter.limit = 2
    let hub = TapHub()
    #expect(!hub.isTapped)
    guard let tap = hub.open(filter) else { return #expect(Bool(false)) }
    #expect(hub.isTapped)
    for _ in 0..<3 { [UInt8]("x\n".utf8).withUnsafeBytes { tap.offer($0) } }
    let batch = await tap.next()
    #expect(batch?.lines.count == 4 && batch?.isLast == true && batch?.lost == 0)
    hub.close(tap)
    #expect(await tap.next() == nil)
    #expect(!hub.isTapped)
    let more = (0..<TapHub.limit).map { _ in hub.open(filter) }
    #expect(more.allSatisfy { $0 != nil })
    #expect(hub.open(filter) == nil)
  }

  @Test func aWaitingReaderIsWoken() async {
    let tap = Tap(TapFilter())
    async let batch = tap.next()
    // Whichever comes first: a wake that nobody waits for is not kept, the record is.
    tap.wake()
    [UInt8]("x\n".utf8).withUnsafeBytes { tap.offer($0) }
    #expect(await batch != nil)
  }
}
