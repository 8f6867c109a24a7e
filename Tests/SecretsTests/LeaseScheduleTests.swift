import Resilience
import Testing

@testable import Secrets

struct LeaseScheduleTests {
  var random = SeededRandom(seed: 11)

  private func moment(_ step: LeaseSchedule.Step) -> Duration {
    switch step {
    case .fetch(let due), .renew(let due), .look(let due): due
    }
  }

  /// A lease of an hour that is never looked at.
  private mutating func leased(ttl: Int = 3600, renewable: Bool = true) -> LeaseSchedule {
    var lease = LeaseSchedule(interval: .seconds(1_000_000))
    #expect(lease.next == .fetch(at: .zero))
    lease.fetched(at: .zero, ttl: .seconds(ttl), renewable: renewable, using: &random)
    return lease
  }

  @Test mutating func renewedAtTwoThirdsAndAThirdOfTheGrace() {
    for _ in 0..<100 {
      let lease = leased(ttl: 300)
      guard case .renew(let due) = lease.next else {
        Issue.record("a renewal was expected")
        return
      }
      #expect(due >= .seconds(210) && due <= .seconds(220))
    }
  }

  @Test mutating func whatCannotBeRenewedIsReplacedBeforeItEnds() {
    guard case .fetch(let due) = leased(ttl: 100, renewable: false).next else {
      Issue.record("a fetch was expected")
      return
    }
    #expect(due >= .seconds(80) && due <= .seconds(90))
  }

  /// A server that grants less and less: new credentials come before the maximum, and renewals stay few.
  @Test mutating func newCredentialsBeforeTheMaximum() {
    for maximum in [3600, 5000, 9000, 86400] {
      var lease = leased()
      var renewals = 0
      var fetched: Duration?
      while fetched == nil, renewals < 100 {
        let now = moment(lease.next)
        switch lease.next {
        case .renew:
          renewals += 1
          lease.renewed(at: now, ttl: min(.seconds(3600), .seconds(maximum) - now), using: &random)
        case .fetch: fetched = now
        case .look: break
        }
      }
      let at = fetched ?? .zero
      #expect(at < .seconds(maximum) && at > .seconds(maximum - 1000), "\(maximum): \(at)")
      #expect(renewals <= maximum / 2400 + 4, "\(maximum): \(renewals) renewals")
    }
  }

  /// Five minutes without a server in the middle of an hour change nothing; the lease is renewed afterwards.
  @Test mutating func anOutageOfFiveMinutesKeepsTheLease() {
    var lease = leased()
    let start = moment(lease.next)
    var tries = 0
    while moment(lease.next) < start + .seconds(300) {
      guard case .renew(let due) = lease.next else {
        Issue.record("a renewal was expected")
        return
      }
      tries += 1
      lease.renewalFailed(at: due, using: &random)
    }
    #expect(tries >= 5 && tries <= 12, "\(tries)")
    lease.renewed(at: moment(lease.next), ttl: .seconds(3600), using: &random)
    #expect(lease.state == .held)
  }

  /// An outage past the end of a short lease: new credentials are asked for again and again, spaced.
  @Test mutating func anOutagePastTheEndOfTheLease() {
    var lease = leased(ttl: 20)
    var fetches = 0
    var renewals = 0
    while moment(lease.next) < .seconds(300) {
      let now = moment(lease.next)
      switch lease.next {
      case .renew:
        renewals += 1
        lease.renewalFailed(at: now, using: &random)
      case .fetch:
        fetches += 1
        lease.fetchFailed(at: now, using: &random)
      case .look: break
      }
    }
    #expect(renewals >= 1 && fetches >= 5 && fetches <= 20, "\(renewals) renewals, \(fetches) fetches")
    #expect(lease.expires == .seconds(20), "the real end is known")
    lease.fetched(at: .seconds(301), ttl: .seconds(20), renewable: true, using: &random)
    #expect(lease.state == .held)
  }

  @Test mutating func aLostLeaseIsReplacedAtOnceAndLossesAreSpaced() {
    var lease = leased()
    lease.gone(at: .seconds(100), using: &random)
    #expect(lease.next == .fetch(at: .seconds(100)) && lease.expires == nil)
    lease.fetched(at: .seconds(100), ttl: .seconds(3600), renewable: true, using: &random)
    lease.gone(at: .seconds(101), using: &random)
    #expect(moment(lease.next) > .seconds(101))
    lease.fetched(at: .seconds(103), ttl: .seconds(3600), renewable: true, using: &random)
    lease.renewed(at: .seconds(110), ttl: .seconds(3600), using: &random)
    lease.gone(at: .seconds(120), using: &random)
    #expect(lease.next == .fetch(at: .seconds(120)), "a renewal showed that leases live")
  }

  @Test mutating func anotherTokenReplacesAndARefreshLooks() {
    var lease = leased()
    lease.refreshNow(at: .seconds(10))
    #expect(lease.next == .look(at: .seconds(10)))
    lease.looked(at: .seconds(10), lives: true, using: &random)
    guard case .renew = lease.next else {
      Issue.record("the look is over")
      return
    }
    lease.tokenReplaced(at: .seconds(20))
    #expect(lease.next == .fetch(at: .seconds(20)) && lease.expires == .seconds(3600), "the old one is still good")
    var fresh = LeaseSchedule(interval: .seconds(30))
    fresh.tokenReplaced(at: .seconds(5))
    #expect(fresh.next == .fetch(at: .zero))
  }

  /// The failures of one lease are not those of another: schedules share nothing.
  @Test mutating func looksAreSpread() {
    var lease = LeaseSchedule(interval: .seconds(30))
    lease.fetched(at: .zero, ttl: .seconds(3600), renewable: true, using: &random)
    guard case .look(let due) = lease.next else {
      Issue.record("a look was expected")
      return
    }
    #expect(due >= .seconds(30) && due <= .seconds(33))
  }

  /// The wall clock goes an hour forward and back: a certificate is renewed no more than once too early, and in time.
  @Test mutating func certificatesAndAClockThatJumps() {
    for jump in [Int64(3600), -3600] {
      var schedule = CertificateSchedule()
      schedule.issued(wall: 1_000_000, expires: 1_000_000 + 86400, using: &random)
      var issued = 0
      var now = Duration.zero
      var wall: Int64 = 1_000_000
      while now < .seconds(80000) {
        let wait = schedule.wait(at: now, wall: wall)
        if wait == .zero {
          issued += 1
          schedule.issued(wall: wall, expires: wall + 86400, using: &random)
          continue
        }
        #expect(wait <= .seconds(60))
        let before = now
        now += wait
        wall += max(1, wait.components.seconds)
        if before < .seconds(20000), now >= .seconds(20000) { wall += jump }
        if before < .seconds(30000), now >= .seconds(30000) { wall -= jump }
      }
      #expect(issued == 1, "jump \(jump): issued \(issued) times")
    }
  }

  @Test mutating func staticRolesAreReadJustAfterTheirRotation() {
    var schedule = RefreshSchedule(interval: .seconds(30))
    schedule.succeeded(at: .zero, rotatesIn: .seconds(10), using: &random)
    #expect(schedule.due > .seconds(10) && schedule.due < .seconds(11))
    schedule.succeeded(at: .zero, rotatesIn: .seconds(3600), using: &random)
    #expect(schedule.due >= .seconds(27) && schedule.due <= .seconds(30), "a rotation by hand is seen as well")
    // A server that cannot rotate is asked every second for a while, then as ever.
    var now = Duration.zero
    for _ in 0..<20 {
      schedule.succeeded(at: now, rotatesIn: .zero, using: &random)
      #expect(schedule.due == now + .seconds(1))
      now = schedule.due
    }
    schedule.succeeded(at: now, rotatesIn: .zero, using: &random)
    #expect(schedule.due >= now + .seconds(27))
  }
}
