/// Decides when the material of a TLS endpoint is read again and what is said about it. `Signature` tells two versions
/// of the material apart without reading it. The last good version stays in use whatever happens here.
package struct MaterialWatch<Signature: Equatable & Sendable>: Sendable {
  package enum State: Sendable, Equatable {
    /// Never good. Every look reads again; goes to `good`.
    case missing
    /// What is in use is what is there. Goes to `stale` when a new version is not usable.
    case good
    /// A newer version is not usable; the last good one is in use. Every look reads again; goes to `good`.
    case stale
  }

  package enum Notice: Sendable, Equatable {
    case none
    /// The first usable version, or a new one.
    case changed
    /// Usable again after a failure that was reported.
    case healed
    /// A failure that was not reported before.
    case failed(String)
  }

  package private(set) var state = State.missing
  private var signature: Signature?
  private var lastFailure: String?

  package init() {}

  /// Whether to read now, given what is there.
  package func wantsReading(_ now: Signature) -> Bool { state != .good || signature != now }

  package mutating func loaded(_ version: Signature) -> Notice {
    let failed = lastFailure != nil
    state = .good
    signature = version
    lastFailure = nil
    return failed ? .healed : .changed
  }

  package mutating func failed(_ version: Signature, _ reason: String) -> Notice {
    state = state == .missing ? .missing : .stale
    signature = version
    if lastFailure == reason { return .none }
    lastFailure = reason
    return .failed(reason)
  }

  /// Why what is there is not in use; nil when it is.
  package var failure: String? { lastFailure }
}
