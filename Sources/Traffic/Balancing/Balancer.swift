import Resilience

/// What the balancer knows of an endpoint at the moment of choosing.
package struct EndpointLoad: Sendable {
  /// Requests in flight there from this event loop.
  package var active: Int
  /// False while it is rested after a failed connect.
  package var isFresh: Bool
  /// Read by `peak_ewma` alone.
  package var latency: PeakEWMA

  package init(active: Int, isFresh: Bool = true, latency: PeakEWMA = PeakEWMA()) {
    self.active = active
    self.isFresh = isFresh
    self.latency = latency
  }
}

/// Picks endpoints by their numbers. One of these per cluster and event loop; a pick allocates nothing.
package struct Balancer: Sendable {
  /// Endpoints of one level that requests may go to: a part of `candidates`.
  private struct Level: Sendable {
    var start: Int
    var count: Int
    /// Draws below this and above the level's before belong to it; of 100.
    var limit: Int
    var draws: AliasTable
    var isUniform: Bool
    var table: HashTable?
    /// Of `round_robin` with equal weights: whose turn it is.
    var cursor: Int
  }

  private let balance: ClusterConfiguration.Balance
  private let slowStart: SlowStart
  private var random: SeededRandom
  private var levels: ContiguousArray<Level> = []
  private var candidates: ContiguousArray<Int32> = []
  // By the number of the endpoint.
  private var isCandidate: ContiguousArray<Bool> = []
  private var weights: ContiguousArray<Int> = []
  private var joined: ContiguousArray<UInt64> = []
  /// Of `round_robin`: what an endpoint has saved up.
  private var credit: ContiguousArray<Int> = []
  /// Until then some endpoint has not its whole weight.
  private var rampsUntil: UInt64 = 0

  package init(_ balance: ClusterConfiguration.Balance, slowStart: SlowStart = SlowStart(window: 0), seed: UInt64) {
    self.balance = balance
    self.slowStart = slowStart
    random = SeededRandom(seed: seed)
  }

  /// Requests may go nowhere else; nil when there is a choice, or none to go to.
  package var only: Int? { candidates.count == 1 ? Int(candidates[0]) : nil }

  /// Takes over endpoints and which of them are available. `joined` is when each joined or came back, 0 = long ago;
  /// `panicPercent` as for `LevelLoads`.
  package mutating func arrange(
    _ arrangement: EndpointArrangement, panicPercent: Int, isAvailable: (Int) -> Bool, joined: (Int) -> UInt64
  ) {
    let count = arrangement.weights.count
    weights = ContiguousArray(arrangement.weights)
    self.joined = ContiguousArray((0..<count).map(joined))
    rampsUntil = slowStart.window == 0 ? 0 : (self.joined.max() ?? 0) &+ slowStart.window
    if credit.count != count { credit = ContiguousArray(repeating: 0, count: count) }
    isCandidate = ContiguousArray(repeating: false, count: count)
    candidates = []
    levels = []
    let available = arrangement.levels.map { $0.members.filter(isAvailable) }
    let loads = LevelLoads(
      zip(available, arrangement.levels).map { ($0.count, $1.members.count) }, panicPercent: panicPercent)
    var limit = 0
    for (index, level) in arrangement.levels.enumerated() {
      let members = loads.panics[index] ? level.members : available[index]
      limit += loads.percents[index]
      guard let first = members.first else { continue }
      for member in members { isCandidate[member] = true }
      levels.append(
        Level(
          start: candidates.count, count: members.count, limit: limit, draws: AliasTable(members.map { weights[$0] }),
          isUniform: members.allSatisfy { weights[$0] == weights[first] }, table: level.table,
          cursor: Int(random.next() >> 33) % members.count))
      candidates += members.map { Int32($0) }
    }
  }

  /// The endpoint to use, or nil when there is none. One that is not fresh, or is `excluded` (it has just failed), is
  /// taken only when no other exists. `hash` is of the request's key, for `ring_hash` and `maglev`; nil = it has none.
  package mutating func pick(
    hash: UInt64? = nil, excluding excluded: Int = -1, now: UInt64, load: (Int) -> EndpointLoad
  ) -> Int? {
    if candidates.count <= 1 { return candidates.first.map { Int($0) } }
    let chosen = levels.count == 1 ? 0 : level(hash)
    if let found = pick(in: chosen, hash, excluded, now, load) { return found }
    for other in levels.indices where other != chosen {
      if let found = pick(in: other, hash, excluded, now, load) { return found }
    }
    for candidate in candidates where Int(candidate) != excluded { return Int(candidate) }
    return nil
  }

  private mutating func level(_ hash: UInt64?) -> Int {
    // A key stays on its level; the table uses other bits.
    let draw = Int(hash.map { XXHash64.mixed($0) % 100 } ?? random.next() % 100)
    for index in levels.indices where draw < levels[index].limit { return index }
    return 0
  }

  private mutating func pick(
    in level: Int, _ hash: UInt64?, _ excluded: Int, _ now: UInt64, _ load: (Int) -> EndpointLoad
  ) -> Int? {
    switch balance {
    case .random: return draw(level, excluded, now, load)
    case .roundRobin: return nextInTurn(level, excluded, now, load)
    case .leastRequest:
      guard let first = draw(level, excluded, now, load) else { return nil }
      guard let second = draw(level, excluded, besides: first, now, load) else { return first }
      return load(second).active * weight(first, now) < load(first).active * weight(second, now) ? second : first
    case .peakEWMA:
      guard let first = draw(level, excluded, now, load) else { return nil }
      guard let second = draw(level, excluded, besides: first, now, load) else { return first }
      return cost(second, now, load) < cost(first, now, load) ? second : first
    case .ringHash, .maglev:
      if let hash, let table = levels[level].table {
        let isCandidate = isCandidate
        let found = table.endpoint(of: hash) { isCandidate[$0] && $0 != excluded && load($0).isFresh }
        if let found { return found }
        return walk(level, from: Int(hash % UInt64(levels[level].count)), excluded, load)
      }
      return draw(level, excluded, now, load)
    }
  }

  /// What the next request is likely to wait there. An endpoint that has not answered yet gets one request, and no more.
  private func cost(_ endpoint: Int, _ now: UInt64, _ load: (Int) -> EndpointLoad) -> Double {
    let load = load(endpoint)
    let active = Double(load.active)
    if !load.latency.isMeasured { return load.active == 0 ? 0 : 1e15 + active }
    return load.latency.average(now: now) * (active + 1) / Double(weight(endpoint, now))
  }

  /// Its weight at this time, times 1024.
  private func weight(_ endpoint: Int, _ now: UInt64) -> Int {
    if now >= rampsUntil { return weights[endpoint] &* SlowStart.whole }
    return weights[endpoint] &* slowStart.factor(joined: joined[endpoint], now: now)
  }

  /// A fresh endpoint, in proportion to weights; another one than `first`.
  private mutating func draw(
    _ level: Int, _ excluded: Int, besides first: Int = -1, _ now: UInt64, _ load: (Int) -> EndpointLoad
  ) -> Int? {
    let start = levels[level].start
    let count = levels[level].count
    var position = levels[level].draws.draw(random.next(), count)
    if now < rampsUntil {
      // Taking a draw with the chance of its ramp makes the shares those of the ramped weights.
      for _ in 0..<16 {
        let factor = slowStart.factor(joined: joined[Int(candidates[start + position])], now: now)
        if factor == SlowStart.whole || Int(random.next() >> 54) < factor { break }
        position = levels[level].draws.draw(random.next(), count)
      }
    }
    // Walking on at once would favour the neighbours of heavy ones.
    for _ in 0..<3 where Int(candidates[start + position]) == first {
      position = levels[level].draws.draw(random.next(), count)
    }
    return walk(level, from: position, excluded, besides: first, load)
  }

  /// The first fresh one from there on; nil when there is none.
  private func walk(
    _ level: Int, from position: Int, _ excluded: Int, besides first: Int = -1, _ load: (Int) -> EndpointLoad
  ) -> Int? {
    let start = levels[level].start
    let count = levels[level].count
    var position = position
    for _ in 0..<count {
      let endpoint = Int(candidates[start + position])
      if endpoint != excluded, endpoint != first, load(endpoint).isFresh { return endpoint }
      position = position + 1 == count ? 0 : position + 1
    }
    return nil
  }

  /// Smooth weighted round robin (nginx): everybody saves its weight, the richest is taken and pays for all.
  private mutating func nextInTurn(
    _ level: Int, _ excluded: Int, _ now: UInt64, _ load: (Int) -> EndpointLoad
  ) -> Int? {
    let start = levels[level].start
    let count = levels[level].count
    if levels[level].isUniform, now >= rampsUntil {
      let position = levels[level].cursor
      levels[level].cursor = position + 1 == count ? 0 : position + 1
      return walk(level, from: position, excluded, load)
    }
    var best = -1
    var total = 0
    for position in start..<(start + count) {
      let endpoint = Int(candidates[position])
      if endpoint == excluded || !load(endpoint).isFresh { continue }
      let weight = weight(endpoint, now)
      total += weight
      credit[endpoint] += weight
      if best < 0 || credit[endpoint] > credit[best] { best = endpoint }
    }
    if best < 0 { return nil }
    credit[best] -= total
    return best
  }
}
