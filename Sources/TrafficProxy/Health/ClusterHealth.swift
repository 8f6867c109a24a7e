import NIOCore
import Resilience
import Synchronization
import Traffic

/// Which endpoints of a cluster are well: results of checks and ejections, for all loops. Survives a reload by
/// endpoint.
final class ClusterHealth: Sendable {
  /// One endpoint that gets no requests, for the status.
  struct Absence: Sendable {
    enum Kind: String, Sendable { case unhealthy, ejected }
    var address: SocketAddress
    var kind: Kind
    var reason: String
    /// Nanoseconds of uptime; nil = until a check passes.
    var until: UInt64?
  }

  /// What became of an endpoint.
  struct News: Sendable {
    var address: SocketAddress
    /// For the log: a whole predicate.
    var text: String
    var isEjection = false
    var isGood: Bool
  }

  private struct Member {
    var health: EndpointHealth
    var check = HealthCheck()
    /// What was counted until the last sweep.
    var seen: (requests: UInt64, failures: UInt64) = (0, 0)
  }

  private struct State {
    var members: [Int: Member] = [:]
    var detector: OutlierDetector
    var lastID = 0
    var sweepDue = UInt64.max
    var random = SeededRandom()
  }

  let checks: HealthCheckConfiguration?
  let outliers: OutlierConfiguration?
  private let state: Mutex<State>

  /// `before` is that of the cluster's name before a reload.
  init(_ configuration: ClusterConfiguration, before: ClusterHealth? = nil) {
    checks = configuration.health
    outliers = configuration.outliers
    var state = State(detector: OutlierDetector(configuration.outliers?.settings ?? OutlierDetector.Settings()))
    let limit = outliers?.consecutive5xx ?? .max
    let (hasChecks, ejects) = (checks != nil, outliers != nil)
    before?.state.withLock { old in
      for (id, member) in old.members {
        let ejection = ejects ? old.detector.ejection(of: id) : nil
        var kept = Member(
          health: EndpointHealth(id: id, address: member.health.address, limit: limit, isAvailable: true))
        if hasChecks {
          kept.check = member.check
          kept.check.restart()
        }
        state.members[id] = kept
        if let ejection { state.detector.adopt(ejection, of: id) }
      }
      state.lastID = old.lastID
      for id in old.members.keys { Self.settle(id, &state) }
    }
    self.state = Mutex(state)
  }

  /// There is something to look at now and then.
  var isWatched: Bool { checks != nil || outliers != nil }

  /// The endpoints are these from now on; what is known of those that stay is kept. In their order.
  func watch(_ addresses: [SocketAddress], now: UInt64) -> [EndpointHealth] {
    state.withLock { state in
      var known: [SocketAddress: Int] = [:]
      for (id, member) in state.members { known[member.health.address] = id }
      var kept: [Int: Member] = [:]
      let ids = addresses.map { address -> Int in
        if let id = known[address], let member = state.members[id] {
          kept[id] = member
          return id
        }
        state.lastID += 1
        known[address] = state.lastID
        let health = EndpointHealth(
          id: state.lastID, address: address, limit: outliers?.consecutive5xx ?? .max, isAvailable: true)
        kept[state.lastID] = Member(health: health)
        state.members[state.lastID] = kept[state.lastID]
        return state.lastID
      }
      state.members = kept
      state.detector.keep(Array(kept.keys))
      for (id, member) in kept { state.detector.set(id, isHealthy: member.check.isHealthy) }
      let sweeps = outliers != nil && kept.count > 1
      if !sweeps { state.sweepDue = .max } else if state.sweepDue == .max { state.sweepDue = nextSweep(now) }
      return ids.compactMap { kept[$0]?.health }
    }
  }

  private func nextSweep(_ now: UInt64) -> UInt64 { now &+ UInt64(outliers?.interval.nanoseconds ?? 0) }

  private static func settle(_ id: Int, _ state: inout State) {
    guard let member = state.members[id] else { return }
    let isAvailable = member.check.isHealthy && state.detector.ejection(of: id) == nil
    if member.health.isAvailable != isAvailable { member.health.set(isAvailable: isAvailable) }
  }

  // MARK: What happens

  /// Requests to that endpoint have failed so many times in a row. Nil when nothing follows.
  func streak(_ id: Int, count: Int, now: UInt64) -> News? {
    state.withLock { state in
      guard let member = state.members[id], state.detector.streak(id, count: count, now: now) else { return nil }
      Self.settle(id, &state)
      return Self.ejected(member, state.detector.ejection(of: id), now)
    }
  }

  /// The endpoints to check now, with their addresses.
  func begin(now: UInt64) -> [(id: Int, address: SocketAddress)] {
    guard checks != nil else { return [] }
    return state.withLock { state in
      state.members.keys.sorted().compactMap { id in
        guard state.members[id]?.check.begin(now: now) == true, let member = state.members[id] else { return nil }
        return (id, member.health.address)
      }
    }
  }

  /// The check that was to begin has not; it is due again at once.
  func postpone(_ id: Int) { state.withLock { $0.members[id]?.check.restart() } }

  func checked(_ id: Int, failure: String?, now: UInt64) -> News? {
    guard let checks else { return nil }
    return state.withLock { state in
      guard let address = state.members[id]?.health.address else { return nil }
      let changed =
        state.members[id]?.check.ended(failure: failure, now: now, checks.settings, using: &state.random) ?? false
      guard changed else { return nil }
      let isHealthy = failure == nil
      state.detector.set(id, isHealthy: isHealthy)
      Self.settle(id, &state)
      return News(
        address: address, text: failure.map { "is unhealthy: \($0)" } ?? "is healthy again", isGood: isHealthy)
    }
  }

  /// Lets back whose time is over, and compares success rates, when that is due.
  func sweep(now: UInt64) -> [News] {
    state.withLock { state in
      guard state.sweepDue <= now else { return [] }
      state.sweepDue = nextSweep(now)
      var tallies: [Int: OutlierDetector.Tally] = [:]
      for (id, member) in state.members {
        let counted = member.health.counted
        let seen = member.seen
        state.members[id]?.seen = counted
        // A loop that left has taken its counts along.
        guard counted.requests >= seen.requests, counted.failures >= seen.failures else { continue }
        tallies[id] = .init(requests: counted.requests - seen.requests, failures: counted.failures - seen.failures)
      }
      let sweep = state.detector.sweep(tallies, now: now)
      for id in sweep.ejected + sweep.returned { Self.settle(id, &state) }
      let ejected = sweep.ejected.compactMap { id in
        state.members[id].map { Self.ejected($0, state.detector.ejection(of: id), now) }
      }
      let returned = sweep.returned.compactMap { id in
        state.members[id].map { News(address: $0.health.address, text: "is no longer ejected", isGood: true) }
      }
      return ejected + returned
    }
  }

  private static func ejected(_ member: Member, _ ejection: OutlierDetector.Ejection?, _ now: UInt64) -> News {
    let seconds = ((ejection?.until ?? now) &- now) / 1_000_000_000
    return News(
      address: member.health.address,
      text: "is ejected for \(seconds) s: \(ejection?.reason.text ?? "it failed")", isEjection: true, isGood: false)
  }

  // MARK: What is known

  /// When to look again; `.max` = never.
  var deadline: UInt64 {
    state.withLock { state in
      let checked = checks == nil ? UInt64.max : state.members.values.map(\.check.due).min() ?? .max
      return min(checked, state.sweepDue)
    }
  }

  /// Ejection is possible: there is more than one endpoint.
  var sweeps: Bool { state.withLock { $0.sweepDue != .max } }

  var ejectedCount: Int { state.withLock { $0.detector.ejectedCount } }

  var absences: [Absence] {
    state.withLock { state in
      state.members.keys.sorted().compactMap { id in
        guard let member = state.members[id] else { return nil }
        if !member.check.isHealthy {
          return Absence(address: member.health.address, kind: .unhealthy, reason: member.check.reason)
        }
        return state.detector.ejection(of: id).map {
          Absence(address: member.health.address, kind: .ejected, reason: $0.reason.text, until: $0.until)
        }
      }
    }
  }
}

extension OutlierDetector.Reason {
  var text: String {
    switch self {
    case .failures(let count): "\(count) failures in a row"
    case .successRate(let rate, let needed):
      "\(rate) % of requests succeeded, where the others have \(needed) % and more"
    }
  }
}
