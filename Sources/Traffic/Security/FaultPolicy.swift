package import Resilience
import Vocabulary

/// Which requests fail on purpose.
package struct FaultPolicy: Sendable {
  /// Nanoseconds, and the part of requests; nil = none.
  private let delay: (nanoseconds: UInt64, fraction: Double)?
  private let abort: (status: Int, fraction: Double)?

  package init(_ configuration: FaultConfiguration) {
    delay = configuration.delay.map { (UInt64(max(0, $0.duration.inNanoseconds)), $0.fraction) }
    abort = configuration.abort.map { ($0.status, $0.fraction) }
  }

  /// What becomes of one request: first the nanoseconds that it waits (0 = none), then the status that it is answered
  /// with (0 = it goes on). Each is drawn for itself.
  package func draw(using random: inout SeededRandom) -> (delay: UInt64, status: Int) {
    let waits = delay.map { Self.holds($0.fraction, &random) ? $0.nanoseconds : 0 } ?? 0
    let status = abort.map { Self.holds($0.fraction, &random) ? $0.status : 0 } ?? 0
    return (waits, status)
  }

  private static func holds(_ fraction: Double, _ random: inout SeededRandom) -> Bool {
    Double(random.next() >> 11) * 0x1p-53 < fraction
  }
}
