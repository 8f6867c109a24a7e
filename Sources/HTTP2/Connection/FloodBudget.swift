/// A bucket of tokens in 1/16ths: what a peer may cost before it is told to calm down.
struct FloodBudget: Sendable {
  static let unit: Int64 = 16
  private let capacity: Int64
  private let perSecond: Int64
  private var left: Int64
  private var updated: UInt64 = 0

  init(capacity: Int, perSecond: Int) {
    self.capacity = Int64(capacity) * Self.unit
    self.perSecond = Int64(perSecond) * Self.unit
    left = self.capacity
  }

  /// Takes `cost` sixteenths; false when they are not there. `now`: nanoseconds, never less than before.
  mutating func spend(_ cost: Int64 = unit, now: UInt64) -> Bool {
    if now > updated {
      // A connection lives for less than 2^40 microseconds between two frames, or its bucket is full anyway.
      let elapsed = Int64(min((now - updated) / 1000, 1 << 40))
      let gained = elapsed.multipliedReportingOverflow(by: perSecond)
      let tokens = gained.overflow ? capacity : gained.partialValue / 1_000_000
      if tokens > 0 {
        left = min(capacity, left + min(tokens, capacity))
        updated = now
      }
    }
    if left < cost { return false }
    left -= cost
    return true
  }

  /// Gives `amount` sixteenths back.
  @inline(__always)
  mutating func refund(_ amount: Int64) { left = min(capacity, left &+ amount) }
}
