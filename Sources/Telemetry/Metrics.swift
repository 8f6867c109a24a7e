import Synchronization

/// A count that only grows. Any thread may add; a cell owned by one thread adds without a locked instruction.
package final class Counter: Sendable {
  private let cell = Atomic<UInt64>(0)

  package init() {}

  /// Adds from any thread.
  package func add(_ amount: UInt64 = 1) { cell.wrappingAdd(amount, ordering: .relaxed) }

  /// Adds from the only thread that ever writes this counter (an event loop): a plain load and store.
  @inline(__always)
  package func addAsOwner(_ amount: UInt64 = 1) {
    cell.store(cell.load(ordering: .relaxed) &+ amount, ordering: .relaxed)
  }

  package var value: UInt64 { cell.load(ordering: .relaxed) }
}

/// A number that goes up and down.
package final class Gauge: Sendable {
  private let cell = Atomic<Int64>(0)

  package init() {}
  package func set(_ value: Int64) { cell.store(value, ordering: .relaxed) }
  package func add(_ amount: Int64) { cell.wrappingAdd(amount, ordering: .relaxed) }
  package var value: Int64 { cell.load(ordering: .relaxed) }
}

/// Counts of durations by upper bound. One writer thread for `recordAsOwner`; readers may race with it and see
/// a value that is at most one observation old.
package final class Histogram: Sendable {
  /// OpenTelemetry's default bounds for HTTP durations, in nanoseconds.
  package static let durationBounds: [UInt64] = [
    5, 10, 25, 50, 75, 100, 250, 500, 750, 1000, 2500, 5000, 7500, 10000,
  ].map { $0 * 1_000_000 }
  /// Bounds for time spent in the sidecar itself, in nanoseconds.
  package static let overheadBounds: [UInt64] = [
    10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000, 25000, 100_000,
  ].map { $0 * 1000 }

  package let bounds: [UInt64]
  private let buckets: [Counter]
  private let total = Counter()

  /// `bounds` are ascending upper bounds in nanoseconds.
  package init(bounds: [UInt64] = Histogram.durationBounds) {
    self.bounds = bounds
    buckets = (0...bounds.count).map { _ in Counter() }
  }

  /// Records one observation in nanoseconds, from the only thread that writes this histogram.
  package func recordAsOwner(_ nanoseconds: UInt64) {
    buckets[index(of: nanoseconds)].addAsOwner()
    total.addAsOwner(nanoseconds)
  }

  /// Records one observation in nanoseconds, from any thread.
  package func record(_ nanoseconds: UInt64) {
    buckets[index(of: nanoseconds)].add()
    total.add(nanoseconds)
  }

  private func index(of nanoseconds: UInt64) -> Int {
    var index = 0
    while index < bounds.count, nanoseconds > bounds[index] { index &+= 1 }
    return index
  }

  /// Adds what another histogram of the same bounds has counted.
  func add(counts: some Sequence<UInt64>, sum: UInt64) {
    for (bucket, count) in zip(buckets, counts) { bucket.add(count) }
    total.add(sum)
  }

  /// Counts per bucket (not cumulative; the last is above every bound) and the sum in nanoseconds.
  package var snapshot: (counts: [UInt64], sum: UInt64) { (buckets.map(\.value), total.value) }
}
