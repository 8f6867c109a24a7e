/// The share of its weight that an endpoint has which joined or came back a while ago: it grows evenly, so that caches
/// fill and pools open before the whole load is there. Times are nanoseconds.
package struct SlowStart: Sendable, Equatable {
  /// 0 = none: the whole weight at once.
  package var window: UInt64

  /// A tenth at first, as Envoy has it: with less an endpoint would learn nothing.
  private static let least = 102
  /// What `factor` returns for the whole weight.
  package static let whole = 1024

  package init(window: UInt64) { self.window = window }

  /// In parts of 1024. `joined` 0 = it was there from the start.
  package func factor(joined: UInt64, now: UInt64) -> Int {
    if joined == 0 || window == 0 { return Self.whole }
    let elapsed = now > joined ? now - joined : 0
    if elapsed >= window { return Self.whole }
    return max(Self.least, Int(Double(elapsed) / Double(window) * Double(Self.whole)))
  }
}
