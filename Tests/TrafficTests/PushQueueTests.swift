import Resilience
import Telemetry
import Testing
import Traffic

@Suite struct PushQueueTests {
  private func request(_ number: UInt8, octets: Int = 10) -> PushRequest {
    PushRequest(body: [UInt8](repeating: number, count: octets), samples: Int(number))
  }

  @Test func requestsGoInOrderAndOnlyOnceTaken() throws {
    var queue = PushQueue()
    var random = SeededRandom(seed: 1)
    #expect(queue.first == nil)
    #expect(queue.offer([request(1), request(2)]) == 0)
    let first = try #require(queue.first)
    var longest = Duration.zero
    for attempt in 0..<12 {
      let (wait, isNews) = queue.settle(first, .later(after: nil, "away"), using: &random)
      #expect(isNews == (attempt == 0))
      #expect(queue.first == first)
      longest = max(longest, wait)
    }
    #expect(longest > .seconds(1) && longest <= .seconds(30))
    #expect(queue.settle(first, .later(after: .seconds(7), "busy"), using: &random).wait == .seconds(7))
    #expect(queue.settle(first, .later(after: .seconds(86_400), "busy"), using: &random).wait == .seconds(300))
    #expect(queue.settle(first, .later(after: .zero, "busy"), using: &random).wait == .milliseconds(100))
    #expect(queue.settle(first, .taken(rejected: 0), using: &random) == (.zero, false))
    #expect(queue.first == request(2) && queue.samples == 2)
    #expect(queue.settle(request(2), .refused("no"), using: &random) == (.zero, true))
    #expect(queue.first == nil && queue.samples == 0)
    // The same refusal is no news.
    _ = queue.offer([request(3)])
    #expect(queue.settle(request(3), .refused("no"), using: &random) == (.zero, false))
  }

  @Test func theOldestGivesWay() {
    var queue = PushQueue(room: 100)
    var random = SeededRandom(seed: 2)
    #expect(queue.offer([request(1, octets: 60), request(2, octets: 40)]) == 0)
    #expect(queue.offer([request(3, octets: 50)]) == 1)
    // What was in flight gave way: its end takes nothing else away.
    _ = queue.settle(request(1, octets: 60), .taken(rejected: 0), using: &random)
    #expect(queue.first == request(2, octets: 40) && queue.samples == 5)
    // One that is longer than all of the room stays alone.
    #expect(queue.offer([request(4, octets: 500)]) == 5)
    #expect(queue.first == request(4, octets: 500))
  }
}
