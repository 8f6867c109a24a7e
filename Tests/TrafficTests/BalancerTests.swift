import Resilience
import Testing

@testable import Traffic

/// A cluster whose endpoints answer as the test says; time is what the test says.
struct BalancedCluster {
  var endpoints: [BalancedEndpoint]
  var available: [Bool]
  var joined: [UInt64]
  var active: [Int]
  var latency: [PeakEWMA]
  var isFresh: [Bool]
  var balancer: Balancer
  let balance: ClusterConfiguration.Balance
  var panicPercent = 50

  init(
    _ endpoints: [BalancedEndpoint], _ balance: ClusterConfiguration.Balance, slowStart: UInt64 = 0, seed: UInt64 = 7
  ) {
    self.endpoints = endpoints
    self.balance = balance
    available = endpoints.map { _ in true }
    joined = endpoints.map { _ in 0 }
    active = endpoints.map { _ in 0 }
    latency = endpoints.map { _ in PeakEWMA() }
    isFresh = endpoints.map { _ in true }
    balancer = Balancer(balance, slowStart: SlowStart(window: slowStart), seed: seed)
    arrange()
  }

  init(weights: [Int], _ balance: ClusterConfiguration.Balance, slowStart: UInt64 = 0, seed: UInt64 = 7) {
    self.init(
      weights.enumerated().map { BalancedEndpoint(name: "10.0.0.\($0):80", weight: $1) }, balance,
      slowStart: slowStart, seed: seed)
  }

  mutating func arrange() {
    let (available, joined) = (available, joined)
    balancer.arrange(EndpointArrangement(endpoints, balance: balance), panicPercent: panicPercent) {
      available[$0]
    } joined: {
      joined[$0]
    }
  }

  mutating func pick(hash: UInt64? = nil, excluding: Int = -1, now: UInt64 = 1) -> Int? {
    let (active, latency, isFresh) = (active, latency, isFresh)
    return balancer.pick(hash: hash, excluding: excluding, now: now) {
      EndpointLoad(active: active[$0], isFresh: isFresh[$0], latency: latency[$0])
    }
  }

  /// How often each endpoint was picked.
  mutating func counts(_ picks: Int, now: UInt64 = 1) -> [Int] {
    var counts = endpoints.map { _ in 0 }
    for _ in 0..<picks {
      if let picked = pick(now: now) { counts[picked] += 1 }
    }
    return counts
  }
}

let allBalances: [ClusterConfiguration.Balance] = ClusterConfiguration.Balance.allCases

@Suite struct BalancerTests {
  @Test func roundRobinIsSmooth() {
    var cluster = BalancedCluster(weights: [5, 1, 1], .roundRobin)
    let turn = (0..<7).compactMap { _ in cluster.pick() }
    // The sequence that nginx documents for 5, 1, 1: the heavy one is not taken five times in a row.
    #expect(turn == [0, 0, 1, 0, 2, 0, 0])
    var even = BalancedCluster(weights: [1, 1, 1], .roundRobin)
    #expect(even.counts(300) == [100, 100, 100])
  }

  @Test(arguments: [ClusterConfiguration.Balance.random, .leastRequest, .roundRobin, .peakEWMA])
  func sharesFollowWeights(balance: ClusterConfiguration.Balance) {
    var cluster = BalancedCluster(weights: [1, 2, 3, 4], balance)
    if balance == .peakEWMA {
      for index in 0..<4 { cluster.latency[index].observe(1_000_000, now: 1) }
      // Equal times: what a request costs is weighed, and so two draws prefer the heavy ones even more.
      let counts = cluster.counts(10_000)
      #expect(counts[0] < counts[1] && counts[1] < counts[2] && counts[2] < counts[3])
      return
    }
    let counts = cluster.counts(10_000)
    for index in 0..<4 { #expect(abs(counts[index] - (index + 1) * 1000) < 200, "\(counts)") }
  }

  /// Four endpoints, one of which needs ten times as long: requests come evenly, and leave when they are done.
  @Test func leastRequestKeepsLoadOffTheSlowOne() {
    var cluster = BalancedCluster(weights: [1, 1, 1, 1], .leastRequest)
    var running: [(endpoint: Int, until: Int)] = []
    var counts = [0, 0, 0, 0]
    for tick in 0..<20_000 {
      for done in running where done.until <= tick { cluster.active[done.endpoint] -= 1 }
      running.removeAll { $0.until <= tick }
      guard let picked = cluster.pick() else { continue }
      counts[picked] += 1
      cluster.active[picked] += 1
      running.append((picked, tick + (picked == 3 ? 100 : 10)))
    }
    #expect(counts[3] < 2000, "\(counts)")
    #expect(counts[3] > 200, "\(counts)")
    for index in 0..<3 { #expect(counts[index] > 5500, "\(counts)") }
  }

  @Test func peakEWMAAvoidsTheSlowOne() {
    var cluster = BalancedCluster(weights: [1, 1, 1, 1], .peakEWMA)
    var now: UInt64 = 1
    var counts = [0, 0, 0, 0]
    for _ in 0..<10_000 {
      now += 1_000_000
      guard let picked = cluster.pick(now: now) else { continue }
      counts[picked] += 1
      cluster.latency[picked].observe(picked == 2 ? 200_000_000 : 5_000_000, now: now)
    }
    // Ten seconds, which is one decay: it was asked when nothing was known of it.
    #expect(counts[2] <= 2, "\(counts)")
    // Nobody asks it for a minute: it has faded, and gets another chance.
    now += 60_000_000_000
    for index in [0, 1, 3] { cluster.latency[index].observe(5_000_000, now: now) }
    counts = cluster.counts(1000, now: now)
    #expect(counts[2] > 300, "\(counts)")
  }

  @Test func peakEWMAIsPeakSensitive() {
    var average = PeakEWMA()
    #expect(!average.isMeasured)
    average.observe(10, now: 1)
    average.observe(1000, now: 2)
    #expect(average.average(now: 2) == 1000)
    average.observe(10, now: 10_000_000_002)
    // 1000/e + 10 × (1 - 1/e)
    #expect(abs(average.average(now: 10_000_000_002) - 374.2) < 0.1)
    #expect(abs(average.average(now: 20_000_000_002) - 137.7) < 0.1)
  }

  @Test func peakEWMASendsOneRequestToTheUnknown() {
    var cluster = BalancedCluster(weights: [1, 1], .peakEWMA)
    cluster.latency[0].observe(1_000_000, now: 1)
    cluster.active[1] = 1
    #expect(cluster.counts(100) == [100, 0])
    cluster.active[1] = 0
    #expect(cluster.counts(100) == [0, 100])
  }

  @Test(arguments: allBalances)
  func avoidsTheExcludedAndTheStale(balance: ClusterConfiguration.Balance) {
    var cluster = BalancedCluster(weights: [1, 1, 1], balance)
    cluster.isFresh[1] = false
    for hash in 0..<100 {
      #expect(cluster.pick(hash: XXHash64.mixed(UInt64(hash)), excluding: 0) == 2)
      #expect(cluster.pick(hash: nil, excluding: 0) == 2)
    }
    let rest = (0...2).map { count in
      var few = BalancedCluster(weights: Array(repeating: 1, count: count), balance)
      few.isFresh = few.isFresh.map { _ in false }
      return few.pick(hash: 9, excluding: 0)
    }
    #expect(rest == [nil, 0, 1])
  }

  @Test(arguments: allBalances)
  func unavailableEndpointsGetNothing(balance: ClusterConfiguration.Balance) {
    var cluster = BalancedCluster(weights: [1, 1, 1, 1], balance)
    cluster.available = [true, false, true, true]
    cluster.arrange()
    for hash in 0..<500 {
      #expect(cluster.pick(hash: XXHash64.mixed(UInt64(hash))) != 1)
      #expect(cluster.pick() != 1)
    }
    cluster.available = [false, false, false, true]
    cluster.arrange()
    // 25 % are fewer than the panic threshold: everybody is asked.
    #expect(Set((0..<500).compactMap { cluster.pick(hash: XXHash64.mixed(UInt64($0))) }) == [0, 1, 2, 3])
    cluster.panicPercent = 0
    cluster.arrange()
    #expect(cluster.balancer.only == 3)
    cluster.available[3] = false
    cluster.arrange()
    #expect(cluster.pick(hash: 1) == nil)
  }

  @Test(arguments: [ClusterConfiguration.Balance.random, .leastRequest, .roundRobin])
  func slowStartRampsEvenly(balance: ClusterConfiguration.Balance) {
    let second: UInt64 = 1_000_000_000
    var cluster = BalancedCluster(weights: [1, 1], balance, slowStart: 30 * second)
    // Known from the start: no ramp.
    #expect(abs(cluster.counts(2000, now: 5 * second)[1] - 1000) < 120)
    cluster.joined[1] = 100 * second
    cluster.arrange()
    var shares: [Double] = []
    for elapsed in [0, 3, 15, 24, 30] as [UInt64] {
      let counts = cluster.counts(20_000, now: (100 + elapsed) * second)
      shares.append(Double(counts[1]) / Double(counts[0]))
    }
    for (share, wanted) in zip(shares, [0.1, 0.1, 0.5, 0.8, 1.0]) { #expect(abs(share - wanted) < 0.06, "\(shares)") }
  }
}

@Suite struct LevelLoadsTests {
  func loads(_ levels: (Int, Int)..., panic: Int = 50) -> LevelLoads {
    LevelLoads(levels.map { (available: $0.0, total: $0.1) }, panicPercent: panic)
  }

  /// The table of Envoy's documentation of priority levels.
  @Test func spillsAsEnvoyDoes() {
    #expect(loads((100, 100), (100, 100)).percents == [100, 0])
    #expect(loads((72, 100), (100, 100)).percents == [100, 0])
    #expect(loads((71, 100), (100, 100)).percents == [99, 1])
    #expect(loads((50, 100), (100, 100)).percents == [70, 30])
    #expect(loads((25, 100), (100, 100)).percents == [35, 65])
    #expect(loads((0, 100), (100, 100)).percents == [0, 100])
    #expect(loads((20, 100), (20, 100), (10, 100), panic: 0).percents == [40, 40, 20])
    #expect(loads((0, 100), (0, 100), panic: 0).percents == [0, 0])
  }

  @Test func panicsWhenTooFewAreLeftInAll() {
    // The second level carries what the first cannot: nobody panics.
    #expect(loads((25, 100), (100, 100)).panics == [false, false])
    #expect(loads((25, 100), (25, 100)).panics == [true, true])
    #expect(loads((5, 100), (65, 100)).panics == [true, false])
    #expect(loads((0, 3), (0, 1)).percents == [75, 25])
    #expect(loads((0, 0), (0, 4)).percents == [0, 100])
    #expect(loads((49, 100)).panics == [true])
    #expect(loads((50, 100)).panics == [false])
    #expect(loads((0, 100), panic: 0).panics == [false])
  }

  @Test func prioritiesAndLocalities() {
    func endpoint(_ name: String, _ priority: Int, _ isLocal: Bool) -> BalancedEndpoint {
      BalancedEndpoint(name: name, priority: priority, isLocal: isLocal)
    }
    var cluster = BalancedCluster(
      [
        endpoint("far", 0, false), endpoint("near-1", 0, true), endpoint("near-2", 0, true), endpoint("last", 1, true),
      ], .random)
    #expect(cluster.counts(1000)[0] == 0)
    #expect(cluster.counts(1000)[3] == 0)
    // One of two: 70 % stay near, 30 % go far, nothing to the next priority.
    cluster.available[1] = false
    cluster.arrange()
    var counts = cluster.counts(10_000)
    #expect(abs(counts[2] - 7000) < 300 && abs(counts[0] - 3000) < 300 && counts[3] == 0 && counts[1] == 0, "\(counts)")
    cluster.available = [false, false, false, true]
    cluster.arrange()
    counts = cluster.counts(100)
    #expect(counts == [0, 0, 0, 100])
    // The near ones have just refused a connection: others are better than those.
    cluster.available = [true, true, true, true]
    cluster.isFresh = [true, false, false, true]
    cluster.arrange()
    #expect(cluster.counts(100) == [100, 0, 0, 0])
  }
}

@Suite struct ConsistentHashTests {
  static let balances: [ClusterConfiguration.Balance] = [.ringHash, .maglev]
  let keys = (0..<20_000).map { XXHash64.hash("user-\($0)") }

  func owners(_ cluster: inout BalancedCluster) -> [String] {
    keys.map { key in cluster.pick(hash: key).map { cluster.endpoints[$0].name } ?? "" }
  }

  @Test(arguments: balances)
  func keysStayWhereTheyAre(balance: ClusterConfiguration.Balance) {
    var ten = BalancedCluster(weights: Array(repeating: 1, count: 10), balance)
    var nine = ten
    nine.endpoints.remove(at: 4)
    nine.available.removeLast()
    nine.joined.removeLast()
    nine.arrange()
    var down = ten
    down.available[4] = false
    down.arrange()
    let before = owners(&ten)
    #expect(before == owners(&ten))
    let gone = ten.endpoints[4].name
    for after in [owners(&nine), owners(&down)] {
      #expect(!after.contains(gone))
      // Keys of those that stay, which moved all the same: none on the ring, few in the table.
      let moved = zip(before, after).count { $0 != gone && $0 != $1 }
      #expect(moved <= (balance == .ringHash ? 0 : keys.count / 20), "\(moved) moved")
    }
    // What is unavailable for a while leaves the table as it is.
    #expect(zip(before, owners(&down)).count { $0 != gone && $0 != $1 } == 0)
  }

  @Test(arguments: balances)
  func sharesFollowWeights(balance: ClusterConfiguration.Balance) {
    var cluster = BalancedCluster(weights: [1, 1, 2, 4], balance)
    let owners = owners(&cluster)
    for (index, weight) in [1, 1, 2, 4].enumerated() {
      let share = Double(owners.count { $0 == cluster.endpoints[index].name }) / Double(keys.count)
      let tolerance = balance == .ringHash ? 0.25 : 0.05
      #expect(abs(share * 8 / Double(weight) - 1) < tolerance, "endpoint \(index) has \(share)")
    }
  }

  @Test(arguments: balances)
  func aRequestWithoutKeyGoesAnywhere(balance: ClusterConfiguration.Balance) {
    var cluster = BalancedCluster(weights: [1, 1, 1, 1], balance)
    for count in cluster.counts(4000) { #expect(abs(count - 1000) < 150) }
  }

  @Test(arguments: balances)
  func levelsKeepTheirKeys(balance: ClusterConfiguration.Balance) {
    var cluster = BalancedCluster(
      (0..<8).map { BalancedEndpoint(name: "10.0.0.\($0):80", priority: $0 / 4) }, balance)
    cluster.available = [true, true, false, false, true, true, true, true]
    cluster.arrange()
    let first = owners(&cluster)
    #expect(first == owners(&cluster))
    let spilled = first.count { owner in cluster.endpoints.first { $0.name == owner }?.priority == 1 }
    #expect(abs(spilled - keys.count * 30 / 100) < 400)
  }

  /// Of the reference implementation.
  @Test func xxHashVectors() {
    #expect(XXHash64.hash("") == 0xEF46_DB37_51D8_E999)
    #expect(XXHash64.hash("a") == 0xD24E_C4F1_A98C_6E5B)
    #expect(XXHash64.hash("abc") == 0x44BC_2CF5_AD77_0999)
    #expect(XXHash64.hash("Nobody inspects the spammish repetition") == 0xFBCE_A83C_8A37_8BF1)
  }
}

@Suite struct RequestKeyTests {
  func find(
    _ name: String, _ text: String,
    _ look: (UnsafeRawBufferPointer, UnsafeRawBufferPointer) -> UnsafeRawBufferPointer?
  ) -> String? {
    Array(name.utf8).withUnsafeBytes { name in
      Array(text.utf8).withUnsafeBytes { text in look(name, text).map { String(decoding: $0, as: UTF8.self) } }
    }
  }

  @Test func cookies() {
    let look = RequestKey.cookie
    #expect(find("sid", "sid=abc", look) == "abc")
    #expect(find("sid", "a=1; sid=x=y; b=2", look) == "x=y")
    #expect(find("sid", "xsid=1; sid2=2; sid", look) == nil)
    #expect(find("sid", "SID=1", look) == nil)
    #expect(find("sid", "sid=", look) == "")
    #expect(find("sid", "", look) == nil)
  }

  @Test func queryParameters() {
    let look = RequestKey.query
    #expect(find("user", "user=7&x=1", look) == "7")
    #expect(find("user", "a=user&user=8", look) == "8")
    #expect(find("user", "users=1&use=2&user", look) == nil)
  }
}
