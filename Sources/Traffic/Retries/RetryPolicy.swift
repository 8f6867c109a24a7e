package import Resilience
import Vocabulary

/// How a try failed.
package enum TryFailure: Sendable, Equatable {
  /// No connection was made: nothing was sent.
  case connect
  /// The connection ended, or broke the protocol, before a response byte.
  case reset
  /// The upstream has not looked at the request: REFUSED_STREAM, or a GOAWAY that leaves its stream out.
  case refused
  /// No response head within the per-try timeout.
  case timeout
  /// A response that may be retried instead of forwarded.
  case status(Int)
  /// A response that one of its fields marks as one to retry.
  case marked(Int)
  /// A response of gRPC without messages whose status may be retried.
  case grpc(Int)
}

/// What a retry decision depends on.
package struct TryState: Sendable {
  /// Retries made so far, replays of a stale connection not counted.
  package var retries = 0
  package var isIdempotent = true
  /// The connection had carried an earlier request.
  package var reusedConnection = false
  /// A stale connection has been replayed already.
  package var replayed = false
  /// Some byte of this request was handed to the upstream connection.
  package var requestWritten = false
  /// Some byte of a response has arrived.
  package var responseSeen = false
  /// Every body byte that was sent is still at hand.
  package var bodyKept = true
  package init() {}
}

package enum RetryDecision: Sendable, Equatable {
  case giveUp
  /// At once, on a new connection; not counted as a retry.
  case replay
  /// After a backoff; `attempt` counts from 0.
  case retry(attempt: Int)
}

/// Decides about another try. A request that is not idempotent is never sent again once the upstream may have seen it.
package struct RetryPolicy: Sendable {
  package let attempts: Int
  package let backoff: Backoff
  private let conditions: Set<RetryConfiguration.Condition>
  private let statuses: Set<Int>
  private let fields: [(name: [UInt8], value: [UInt8]?)]
  /// Responses below this status are passed on without a second look; 400 unless the configuration names others.
  package let leastStatus: Int
  /// Longest wait that a response may ask for, in nanoseconds.
  package let retryAfterMax: UInt64

  package init(_ configuration: RetryConfiguration) {
    attempts = configuration.attempts
    conditions = configuration.conditions
    statuses = conditions.contains(.retriableStatusCodes) ? Set(configuration.statuses) : []
    fields =
      conditions.contains(.retriableHeaders)
      ? configuration.responseHeaders.map { (Array($0.name.lowercased().utf8), $0.value.map { Array($0.utf8) }) } : []
    leastStatus = fields.isEmpty ? min(400, statuses.min() ?? 400) : 0
    retryAfterMax = UInt64(max(0, configuration.retryAfterMax.inNanoseconds))
    backoff = Backoff(base: configuration.backoffBase, cap: configuration.backoffCap)
  }

  /// True when a response of that status may be withheld for another try.
  package func mayRetry(status: Int) -> Bool {
    if statuses.contains(status) { return true }
    if status < 400 { return false }
    if status == 409 { return conditions.contains(.retriable4xx) }
    if status < 500 { return false }
    return conditions.contains(.serverError)
      || conditions.contains(.gatewayError) && (status == 502 || status == 503 || status == 504)
  }

  /// True when a field of a response says that it may be withheld for another try. `field` gives the value of the
  /// first field of a lower-case name.
  package func isMarked(field: (UnsafeRawBufferPointer) -> UnsafeRawBufferPointer?) -> Bool {
    fields.contains { name, wanted in
      guard let value = name.withUnsafeBytes({ field($0) }) else { return false }
      return wanted.map { value.elementsEqual($0) } ?? true
    }
  }

  /// True when a gRPC response that is nothing but that status may be withheld for another try.
  package func mayRetry(grpcStatus: Int) -> Bool {
    switch GRPC.Status(rawValue: grpcStatus) {
    case .cancelled: conditions.contains(.cancelled)
    case .deadlineExceeded: conditions.contains(.deadlineExceeded)
    case .internal: conditions.contains(.internalError)
    case .resourceExhausted: conditions.contains(.resourceExhausted)
    case .unavailable: conditions.contains(.unavailable)
    default: false
    }
  }

  package func decide(_ failure: TryFailure, _ state: TryState, budgetAllows: Bool) -> RetryDecision {
    if state.responseSeen, !isStatus(failure) { return .giveUp }
    if failure == .refused {
      // Whatever the method: nothing was done with it.
      return state.bodyKept && state.retries < attempts && budgetAllows && conditions.contains(.refusedStream)
        ? .retry(attempt: state.retries) : .giveUp
    }
    if case .grpc(let status) = failure {
      // The service says so itself, and that another try is safe is what the condition was named for.
      return state.bodyKept && state.retries < attempts && budgetAllows && mayRetry(grpcStatus: status)
        ? .retry(attempt: state.retries) : .giveUp
    }
    let repeatable = !state.requestWritten || state.isIdempotent && state.bodyKept
    guard repeatable else { return .giveUp }
    if failure == .reset, state.reusedConnection, !state.replayed { return .replay }
    guard state.retries < attempts, budgetAllows, applies(failure, state) else { return .giveUp }
    return .retry(attempt: state.retries)
  }

  private func isStatus(_ failure: TryFailure) -> Bool {
    switch failure {
    case .status, .marked, .grpc: true
    case .connect, .reset, .refused, .timeout: false
    }
  }

  private func applies(_ failure: TryFailure, _ state: TryState) -> Bool {
    switch failure {
    case .connect: conditions.contains(.connectFailure)
    case .reset:
      conditions.contains(.reset) || conditions.contains(.serverError)
        || !state.requestWritten && conditions.contains(.resetBeforeRequest)
    case .refused, .grpc: false
    case .timeout: conditions.contains(.gatewayError) || conditions.contains(.serverError)
    case .status(let status): mayRetry(status: status)
    case .marked: true
    }
  }
}
