import Telemetry
import Traffic

/// Which requests of one loop are told about, and their stories.
struct StoryKeeper {
  private(set) var isOn = false
  private(set) var ring = StoryRing()
  /// Nanoseconds from which on a request is slow.
  private(set) var slow: UInt64 = 0
  /// Each so many-th request that is nothing special is told about; 0 = none.
  private var every = 0
  private var left = 0

  /// What it holds goes on, as far as it fits.
  mutating func take(_ configuration: StoriesConfiguration, loops: Int) {
    isOn = configuration.isOn
    slow = configuration.slow.nanoseconds
    every = configuration.sample > 0 ? max(1, Int(1 / configuration.sample)) : 0
    left = every
    ring.resize(
      limit: isOn ? configuration.memory / max(1, loops) : 0, keep: isOn ? configuration.keep.nanoseconds : 0)
  }

  /// Whether it is the turn of a request that is nothing special.
  @inline(__always)
  mutating func isTurn() -> Bool {
    guard every > 0 else { return false }
    left -= 1
    if left > 0 { return false }
    left = every
    return true
  }

  mutating func add(id: some Collection<UInt8>, time: UInt64, isFailure: Bool, text: some Collection<UInt8>) {
    ring.add(id: id, time: time, isFailure: isFailure, text: text)
  }
}
