import Resilience
import Testing
import Vocabulary

@testable import Traffic

@Suite struct RetryPolicyTests {
  func state(_ edit: (inout TryState) -> Void = { _ in }) -> TryState {
    var state = TryState()
    edit(&state)
    return state
  }

  @Test func defaultsAreSafe() {
    let policy = RetryPolicy(RetryConfiguration())
    #expect(policy.decide(.connect, state(), budgetAllows: true) == .retry(attempt: 0))
    #expect(policy.decide(.connect, state { $0.isIdempotent = false }, budgetAllows: true) == .retry(attempt: 0))
    #expect(policy.decide(.connect, state { $0.retries = 1 }, budgetAllows: true) == .giveUp)
    #expect(policy.decide(.connect, state(), budgetAllows: false) == .giveUp)
    #expect(policy.decide(.reset, state { $0.requestWritten = true }, budgetAllows: true) == .giveUp)
    #expect(!policy.mayRetry(status: 503))
  }

  @Test func staleConnectionsAreReplayedOnce() {
    let policy = RetryPolicy(RetryConfiguration())
    let stale = state {
      $0.reusedConnection = true
      $0.requestWritten = true
    }
    #expect(policy.decide(.reset, stale, budgetAllows: false) == .replay)
    var again = stale
    again.replayed = true
    #expect(policy.decide(.reset, again, budgetAllows: true) == .giveUp)
    var post = stale
    post.isIdempotent = false
    #expect(policy.decide(.reset, post, budgetAllows: true) == .giveUp)
    post.requestWritten = false
    #expect(policy.decide(.reset, post, budgetAllows: true) == .replay)
    var answered = stale
    answered.responseSeen = true
    #expect(policy.decide(.reset, answered, budgetAllows: true) == .giveUp)
    var lost = stale
    lost.bodyKept = false
    #expect(policy.decide(.reset, lost, budgetAllows: true) == .giveUp)
  }

  @Test func aPostIsNeverSentTwiceWhateverTheConditions() {
    var configuration = RetryConfiguration()
    configuration.attempts = 5
    configuration.conditions = Set(RetryConfiguration.Condition.allCases)
    let policy = RetryPolicy(configuration)
    for failure in [TryFailure.connect, .reset, .timeout, .status(503)] {
      for reused in [true, false] {
        let post = state {
          $0.isIdempotent = false
          $0.requestWritten = true
          $0.reusedConnection = reused
        }
        #expect(policy.decide(failure, post, budgetAllows: true) == .giveUp)
      }
    }
    let get = state {
      $0.requestWritten = true
      $0.responseSeen = true
    }
    #expect(policy.decide(.status(503), get, budgetAllows: true) == .retry(attempt: 0))
  }
}

@Suite struct FaultTests {
  @Test func everyFaultIsAnErrorWithAToken() {
    for fault in Fault.allCases {
      #expect((400...599).contains(fault.status))
      #expect(fault.reason.utf8CodeUnitCount > 0 && fault.flag.utf8CodeUnitCount > 0)
    }
    #expect(Fault.connectionRefused.blame(toApp: true) == .app)
    #expect(Fault.connectionRefused.blame(toApp: false) == .upstream)
  }
}
