/// Whether inbound connections pass the proxy by, and for how long. A value without I/O: commands and the time go in,
/// actions come out. Time is a duration since any fixed moment.
package struct BypassSwitch: Sendable {
  /// Nobody leaves it on for longer by mistake.
  package static let longest = Duration.seconds(24 * 3600)
  /// While it is on it is said this often.
  package static let warningInterval = Duration.seconds(30)

  package enum Action: Sendable, Equatable {
    /// New connections pass by from now on.
    case begin
    /// They are the proxy's again.
    case end(expired: Bool)
    /// To be said loudly, with the time that is left.
    case warn(left: Duration)
  }

  /// nil = off.
  package private(set) var until: Duration?
  private var nextWarning = Duration.zero

  package init() {}

  /// When `tick` has something to do; nil = never.
  package var nextDeadline: Duration? { until.map { min($0, nextWarning) } }

  /// On from now for `time` (above 0, at most `longest`), whatever was before.
  package mutating func turnOn(for time: Duration, at now: Duration) -> [Action] {
    let wasOff = until == nil
    let left = min(time, Self.longest)
    until = now + left
    nextWarning = now + Self.warningInterval
    return (wasOff ? [.begin] : []) + [.warn(left: left)]
  }

  package mutating func turnOff() -> [Action] {
    guard until != nil else { return [] }
    until = nil
    return [.end(expired: false)]
  }

  package mutating func tick(at now: Duration) -> [Action] {
    guard let until else { return [] }
    if until <= now {
      self.until = nil
      return [.end(expired: true)]
    }
    guard nextWarning <= now else { return [] }
    nextWarning = now + Self.warningInterval
    return [.warn(left: until - now)]
  }
}
