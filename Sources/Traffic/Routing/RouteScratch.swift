package import RegularExpressions
package import Resilience

/// What matching needs besides the routes and the request. Owned by one event loop.
package final class RouteScratch {
  /// Steps of backtracking for one match: about a millisecond of a core.
  package static let steps = 50_000
  /// Longer paths and values are not matched with expressions.
  package static let longestSubject = 8 << 10

  package var random: SeededRandom
  package private(set) lazy var workspace = MatchWorkspace(steps: Self.steps, longest: Self.longestSubject)
  /// Where query parameters are decoded.
  var room: [UInt8] = []
  /// Conditions that were not decided since they would have cost too much.
  private var exceeded = 0

  package init(seed: UInt64) { random = SeededRandom(seed: seed) }

  func noteExceeded() { exceeded += 1 }

  /// How many conditions were not decided since the last call.
  package func takeExceeded() -> Int {
    defer { exceeded = 0 }
    return exceeded
  }

  /// At least 0, below 1.
  package func draw() -> Double { Double(random.next() >> 11) * 0x1p-53 }
}
