/// Decides which hosts of a group are taken out of the choice for a while, because of how requests to them ended
/// (Envoy's outlier detection). Hosts are numbers that the caller gives; times are nanoseconds of one clock.
package struct OutlierDetector: Sendable {
  package struct Settings: Sendable, Equatable {
    /// The first ejection lasts this long, the second twice as long, and so on.
    package var ejection: UInt64 = 30_000_000_000
    package var longestEjection: UInt64 = 300_000_000_000
    /// Of all hosts may be ejected at once, 1...100; one host always may be.
    package var mostPercent = 10
    package init() {}
  }

  package enum Reason: Sendable, Equatable {
    /// So many failures in a row.
    case failures(Int)
    /// This percentage of requests succeeded, where at least `needed` was to be expected of this group.
    case successRate(Int, needed: Int)
  }

  package struct Ejection: Sendable, Equatable {
    package let reason: Reason
    package let until: UInt64
  }

  /// What was counted of one host since the last sweep.
  package struct Tally: Sendable {
    package var requests: UInt64
    package var failures: UInt64
    package init(requests: UInt64, failures: UInt64) {
      self.requests = requests
      self.failures = failures
    }
  }

  /// What a sweep has changed.
  package struct Sweep: Sendable, Equatable {
    package var ejected: [Int] = []
    package var returned: [Int] = []
    package var isEmpty: Bool { ejected.isEmpty && returned.isEmpty }
  }

  private enum Standing {
    /// Requests go there. Next: out.
    case serving
    /// No requests go there; a sweep after its end lets it back. Next: serving.
    case out(Ejection)
  }

  private struct Host {
    var standing = Standing.serving
    /// Ejections that lengthen the next one; each sweep that finds it serving takes one away.
    var times: UInt64 = 0
    /// Others say that it is well.
    var isHealthy = true

    var isOut: Bool { if case .out = standing { true } else { false } }
  }

  /// A group smaller than this is not compared by its success rates, and a host with fewer requests is not part of it.
  package static let leastHosts = 5
  package static let leastRequests: UInt64 = 100
  /// A host is ejected when it is so many standard deviations below the mean.
  private static let deviations = 1.9

  package var settings: Settings
  private var hosts: [Int: Host] = [:]

  package init(_ settings: Settings) { self.settings = settings }

  package func ejection(of host: Int) -> Ejection? {
    if case .out(let ejection)? = hosts[host]?.standing { ejection } else { nil }
  }

  package var ejectedCount: Int { hosts.values.count(where: \.isOut) }

  /// The group is these hosts from now on; what is known of those that stay is kept.
  package mutating func keep(_ members: [Int]) {
    var kept: [Int: Host] = [:]
    for member in members { kept[member] = hosts[member] ?? Host() }
    hosts = kept
  }

  /// What a host that is known under another number, or to another detector, brings along.
  package mutating func adopt(_ ejection: Ejection, of host: Int) {
    var known = hosts[host] ?? Host()
    known.standing = .out(ejection)
    known.times = max(1, known.times)
    hosts[host] = known
  }

  /// Others (health checks) say whether requests may go there: the last host that is left is never ejected.
  package mutating func set(_ host: Int, isHealthy: Bool) { hosts[host]?.isHealthy = isHealthy }

  /// A host has failed so many times in a row as are too many. True when that ejects it.
  package mutating func streak(_ host: Int, count: Int, now: UInt64) -> Bool {
    eject(host, .failures(count), now)
  }

  /// Looks at what was counted since the last sweep, and lets those back whose time is over.
  package mutating func sweep(_ tallies: [Int: Tally], now: UInt64) -> Sweep {
    var sweep = Sweep()
    for id in hosts.keys.sorted() {
      guard var host = hosts[id] else { continue }
      switch host.standing {
      case .out(let ejection) where ejection.until <= now:
        host.standing = .serving
        sweep.returned.append(id)
      case .out: break
      case .serving: host.times -= min(host.times, 1)
      }
      hosts[id] = host
    }
    compareRates(tallies, now, &sweep)
    return sweep
  }

  private mutating func compareRates(_ tallies: [Int: Tally], _ now: UInt64, _ sweep: inout Sweep) {
    let returned = sweep.returned
    let rates = tallies.filter { id, tally in
      tally.requests >= Self.leastRequests && hosts[id]?.isOut == false && !returned.contains(id)
    }.mapValues { 1 - Double(min($0.failures, $0.requests)) / Double($0.requests) }
    guard rates.count >= Self.leastHosts else { return }
    let mean = rates.values.reduce(0, +) / Double(rates.count)
    let variance = rates.values.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / Double(rates.count)
    let needed = mean - Self.deviations * variance.squareRoot()
    // The worst first: not all of them may go.
    for (id, rate) in rates.sorted(by: { ($0.value, $0.key) < ($1.value, $1.key) }) where rate < needed {
      let reason = Reason.successRate(Int(rate * 100), needed: Int((needed * 100).rounded(.up)))
      if eject(id, reason, now) { sweep.ejected.append(id) }
    }
  }

  private mutating func eject(_ id: Int, _ reason: Reason, _ now: UInt64) -> Bool {
    guard var host = hosts[id], !host.isOut else { return false }
    let most = max(1, hosts.count * settings.mostPercent / 100)
    let isLast = !hosts.contains { $0.key != id && !$0.value.isOut && $0.value.isHealthy }
    guard ejectedCount < most, !isLast else { return false }
    host.times += 1
    let product = settings.ejection.multipliedReportingOverflow(by: host.times)
    let time = min(product.overflow ? .max : product.partialValue, max(settings.ejection, settings.longestEjection))
    host.standing = .out(Ejection(reason: reason, until: now.addingReportingOverflow(time).partialValue))
    hosts[id] = host
    return true
  }
}
