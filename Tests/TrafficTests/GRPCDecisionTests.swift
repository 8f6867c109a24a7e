import Testing

@testable import Traffic

@Suite struct GRPCDecisionTests {
  private func policy(_ conditions: Set<RetryConfiguration.Condition>, attempts: Int = 1) -> RetryPolicy {
    var configuration = RetryConfiguration()
    configuration.attempts = attempts
    configuration.conditions = conditions
    return RetryPolicy(configuration)
  }

  private func state(written: Bool = true, idempotent: Bool = false, kept: Bool = true, retries: Int = 0) -> TryState {
    var state = TryState()
    state.requestWritten = written
    state.isIdempotent = idempotent
    state.bodyKept = kept
    state.retries = retries
    return state
  }

  /// Nothing was done with a refused stream: any method goes again while its body is at hand.
  @Test func refusedStreams() {
    let safe = policy([.refusedStream])
    #expect(safe.decide(.refused, state(), budgetAllows: true) == .retry(attempt: 0))
    #expect(safe.decide(.refused, state(kept: false), budgetAllows: true) == .giveUp)
    #expect(safe.decide(.refused, state(retries: 1), budgetAllows: true) == .giveUp)
    #expect(safe.decide(.refused, state(), budgetAllows: false) == .giveUp)
    #expect(policy([.reset]).decide(.refused, state(), budgetAllows: true) == .giveUp)
    // Another kind of end says nothing of the sort.
    #expect(safe.decide(.reset, state(), budgetAllows: true) == .giveUp)
  }

  @Test(arguments: [
    (1, RetryConfiguration.Condition.cancelled), (4, .deadlineExceeded), (8, .resourceExhausted), (13, .internalError),
    (14, .unavailable),
  ])
  func statuses(number: Int, condition: RetryConfiguration.Condition) {
    #expect(policy([condition]).decide(.grpc(number), state(), budgetAllows: true) == .retry(attempt: 0))
    #expect(policy([condition]).decide(.grpc(number), state(kept: false), budgetAllows: true) == .giveUp)
    #expect(policy([.serverError, .reset]).decide(.grpc(number), state(), budgetAllows: true) == .giveUp)
    for other in [0, 2, 3, 5, 12, 16, 99] { #expect(!policy([condition]).mayRetry(grpcStatus: other)) }
  }

  @Test(arguments: [
    ("application/grpc", true), ("application/grpc+proto", true), ("Application/GRPC;x", true),
    ("application/grpc-web", false), ("application/grp", false), ("text/plain", false), ("", false),
  ])
  func contentTypes(text: String, isOne: Bool) {
    #expect(Array(text.utf8).withUnsafeBytes { GRPC.isContentType($0) } == isOne)
  }

  @Test func everyFaultHasAStatusThatIsAnError() {
    for fault in Fault.allCases { #expect(fault.grpcStatus != .ok) }
    #expect(Fault.routeTimeout.grpcStatus == .deadlineExceeded && Fault.connectionRefused.grpcStatus == .unavailable)
  }
}
