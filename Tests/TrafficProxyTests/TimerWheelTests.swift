import Foundation
import NIOCore
import NIOPosix
import Synchronization
import Testing

@testable import TrafficProxy

@Suite struct TimerWheelTests {
  /// Calls what it is given, once.
  private final class Once: Timed {
    private let body: (UInt64) -> Void
    init(_ body: @escaping (UInt64) -> Void) { self.body = body }
    override func deadlinePassed(_ now: UInt64) { body(now) }
  }

  /// A deadline that is set far away while another passes does not delay those in between.
  @Test func aFarDeadlineDelaysNoNearOne() async throws {
    let group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
    let late = Mutex<UInt64?>(nil)
    let eventLoop = group.next()
    let kept = try await eventLoop.submit {
      let wheel = TimerWheel(eventLoop: eventLoop)
      let now = NIODeadline.now().uptimeNanoseconds
      let near = Once { at in late.withLock { $0 = at &- (now &+ 200_000_000) } }
      wheel.set(near, now &+ 200_000_000, now: now)
      let far = Once { _ in }
      let first = Once { at in wheel.set(far, at &+ 3_600_000_000_000, now: at) }
      wheel.set(first, now &+ 50_000_000, now: now)
      return NIOLoopBound([wheel, near, far, first] as [AnyObject], eventLoop: eventLoop)
    }.get()
    await until { late.withLock { $0 != nil } }
    #expect(try #require(late.withLock { $0 }) < 4_000_000_000)
    try await eventLoop.submit { withExtendedLifetime(kept.value) {} }.get()
    try await group.shutdownGracefully()
  }
}
