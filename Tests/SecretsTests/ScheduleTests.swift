import Resilience
import Testing

@testable import Secrets

struct ScheduleTests {
  var random = SeededRandom(seed: 7)

  @Test mutating func backoffDoublesToItsCap() {
    var backoff = FailureBackoff()
    var expected = Duration.seconds(1)
    for _ in 0..<20 {
      let wait = backoff.failed(using: &random)
      #expect(wait <= expected && wait >= expected * 0.75)
      expected = min(expected * 2, .seconds(300))
    }
    backoff.reset()
    #expect(backoff.failed(using: &random) <= .seconds(1))
  }

  @Test mutating func oneSecretsFailureLeavesTheOthersAlone() {
    var good = RefreshSchedule(interval: .seconds(30))
    var bad = RefreshSchedule(interval: .seconds(30))
    good.succeeded(at: .seconds(100), using: &random)
    let due = good.due
    #expect(due >= .seconds(127) && due <= .seconds(130))
    bad.failed(at: .seconds(100), using: &random)
    #expect(bad.state == .failing && bad.due <= .seconds(101))
    #expect(good.due == due)
    good.refreshNow(at: .seconds(110))
    #expect(good.due == .seconds(110))
  }

  @Test mutating func tokensAreRenewedAtTwoThirdsAndAThirdOfTheGrace() {
    for _ in 0..<200 {
      var token = TokenSchedule()
      #expect(token.next == .login(at: .zero))
      token.loggedIn(at: .zero, ttl: .seconds(300), renewable: true, batch: false, using: &random)
      guard case .renew(let due) = token.next else {
        Issue.record("a renewal was expected")
        return
      }
      #expect(due >= .seconds(210) && due <= .seconds(220))
    }
  }

  @Test mutating func tokensThatCannotBeRenewedAreReplacedBeforeTheyEnd() {
    for batch in [true, false] {
      var token = TokenSchedule()
      token.loggedIn(at: .zero, ttl: .seconds(100), renewable: batch, batch: batch, using: &random)
      guard case .login(let due) = token.next else {
        Issue.record("a login was expected")
        return
      }
      #expect(due >= .seconds(80) && due <= .seconds(90))
    }
    var root = TokenSchedule()
    root.loggedIn(at: .zero, ttl: .zero, renewable: false, batch: false, using: &random)
    #expect(root.next == .never)
  }

  @Test mutating func renewalsNearTheMaximumLeadToALogin() {
    var token = TokenSchedule()
    token.loggedIn(at: .zero, ttl: .seconds(100), renewable: true, batch: false, using: &random)
    token.renewed(at: .seconds(70), ttl: .seconds(100))
    guard case .renew = token.next else {
      Issue.record("a renewal was expected")
      return
    }
    token.renewed(at: .seconds(140), ttl: .seconds(5))
    #expect(token.next == .login(at: .seconds(140)))
  }

  @Test mutating func failedRenewalsEndInALoginBeforeTheTokenEnds() {
    var token = TokenSchedule()
    token.loggedIn(at: .zero, ttl: .seconds(100), renewable: true, batch: false, using: &random)
    var login: Duration?
    for _ in 0..<50 where login == nil {
      switch token.next {
      case .renew(let due): token.renewalFailed(at: due, using: &random)
      case .login(let due): login = due
      case .never: break
      }
    }
    #expect(login.map { $0 <= .seconds(90) } == true)
  }

  @Test mutating func refusalsLeadToALogin() {
    var token = TokenSchedule()
    token.loggedIn(at: .zero, ttl: .seconds(3600), renewable: true, batch: false, using: &random)
    token.refused(.renewSelf, at: .seconds(10), using: &random)
    guard case .renew = token.next else {
      Issue.record("one 403 is not enough")
      return
    }
    token.refused(.renewSelf, at: .seconds(11), using: &random)
    #expect(token.next == .login(at: .seconds(11)))

    token.loggedIn(at: .seconds(11), ttl: .seconds(3600), renewable: true, batch: false, using: &random)
    token.accepted()
    token.refused(.lookupSelf, at: .seconds(20), using: &random)
    #expect(token.next == .login(at: .seconds(20)))
    token.loggedIn(at: .seconds(20), ttl: .seconds(3600), renewable: true, batch: false, using: &random)
    token.refused(.lookupSelf, at: .seconds(20), using: &random)
    guard case .login(let due) = token.next else {
      Issue.record("a login was expected")
      return
    }
    #expect(due > .seconds(20), "logins that help nothing are spaced")
  }
}
