import AsyncHTTPClient
import Traffic
import Vocabulary

/// How far a request has come through the checks of its listener and its route, and what they found out about it.
final class Passage {
  enum Step {
    /// Rate limits. Next: connection.
    case rates
    /// Rules that only look at whose connection it is. Next: token.
    case connection
    /// The token. Next: rules.
    case token
    /// All rules. Next: external.
    case rules
    /// The authorization service. Next: fault.
    case external
    /// Failures on purpose: the wait. Next: abort.
    case fault
    /// Failures on purpose: the answer. Next: done.
    case abort
    /// The gate lets it through.
    case done
  }

  enum Wait {
    /// It goes on by itself, or has been answered.
    case none
    /// For the key set, until the deadline at most.
    case keys
    /// For the authorization service, until the deadline at most.
    case external(HTTPClient.Task<HTTPClient.Response>)
    /// Until the deadline.
    case delay
  }

  private(set) var gate: CompiledGate
  /// The query may hold a token: it is not recorded.
  private(set) var hidesQuery: Bool
  var step = Step.rates
  var wait = Wait.none
  /// Nanoseconds of uptime.
  var deadline = UInt64.max
  /// The normal form of its path, once something asked for it.
  var path: NormalPath?
  var claims: JSONNode?
  /// `Name: value` lines for the upstream.
  var fields: [UInt8] = []
  /// The authorization service was asked a second time: a kept connection may close while it is asked.
  var hasAskedAgain = false
  /// Its key was not in the set, and the set was fetched again.
  var hasAskedForKeys = false
  /// The status that it is to be answered with on purpose; 0 = none.
  var abortStatus = 0

  init(_ gate: CompiledGate) {
    self.gate = gate
    hidesQuery = gate.hidesQuery
  }

  /// Begins with the next gate.
  func enter(_ gate: CompiledGate) {
    self.gate = gate
    if gate.hidesQuery { hidesQuery = true }
    step = .rates
    hasAskedForKeys = false
    hasAskedAgain = false
    abortStatus = 0
  }

  var isWaiting: Bool { if case .none = wait { false } else { true } }

  /// Whatever it waits for is of no more interest.
  func cancel() {
    let waited = wait
    // First: a task that is cancelled tells at once that it failed.
    wait = .none
    if case .external(let task) = waited { task.cancel() }
  }
}
