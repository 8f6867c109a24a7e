import HTTP1
import NIOCore
import Traffic

#if canImport(Glibc)
  import Glibc
#else
  import Musl
#endif

/// Responses that may be withheld for another try.
extension ExchangeDriver {
  /// True when the parsed response, whose status may be one to retry, is withheld.
  final func withholdsResponse(_ head: ByteBuffer, status: Int, _ policy: RetryPolicy) -> Bool {
    let failure: TryFailure
    if policy.mayRetry(status: status) {
      failure = .status(status)
    } else if policy.isMarked(field: { [loop] name in
      head.withUnsafeReadableBytes { loop.response.table.first(named: name, $0)?.value.of($0) }
    }) {
      failure = .marked(status)
    } else {
      return false
    }
    // The try beside it may still succeed.
    if let lead, lead.isUnderWay { return true }
    let owner = lead ?? self
    guard owner.decide(failure) != .giveUp else {
      if owner.exchange.tries.retries > 0 { owner.exchange.flag = "URX" }
      return false
    }
    guard let wait = requestedWait(head) else { return true }
    let now = NIODeadline.now().uptimeNanoseconds
    // Nobody is served by a try before that time, nor by one that comes too late.
    guard wait <= policy.retryAfterMax, now &+ wait < owner.exchange.routeDeadline else { return false }
    owner.exchange.retryAfter = wait
    return true
  }

  /// The nanoseconds of the parsed response's `Retry-After`; nil without one, or with one that is not valid.
  private func requestedWait(_ head: ByteBuffer) -> UInt64? {
    let name: StaticString = "retry-after"
    let wanted = UnsafeRawBufferPointer(start: name.utf8Start, count: name.utf8CodeUnitCount)
    return head.withUnsafeReadableBytes { bytes in
      guard let value = loop.response.table.first(named: wanted, bytes)?.value.of(bytes) else { return nil }
      return RetryAfter.seconds(value, now: Int64(time(nil))).map { UInt64($0) &* 1_000_000_000 }
    }
  }
}
