import Resilience
package import Vocabulary

/// What tells one client, value or path from another in a limit's table. Texts are kept as 128 bits that are keyed with
/// random of this process, so that a long one costs no memory and none can be made to fit another's.
package struct RateKey: Sendable, Hashable {
  private let high: UInt64
  private let low: UInt64

  /// Whoever has nothing that could tell them apart.
  package static let nobody = RateKey(high: 0, low: 0)

  private init(high: UInt64, low: UInt64) {
    self.high = high
    self.low = low
  }

  /// A client: an IPv4 address, or the /64 of an IPv6 one.
  package init(source: IPAddress) {
    self.init(high: source.high, low: source.isV4 ? source.low : 0)
  }

  package init(text: some Sequence<UInt8>) {
    var first = Hasher()
    var second = Hasher()
    second.combine(1)
    for octet in text {
      first.combine(octet)
      second.combine(octet)
    }
    self.init(
      high: UInt64(bitPattern: Int64(first.finalize())), low: UInt64(bitPattern: Int64(second.finalize())) | 1)
  }
}

/// The limits of one listener or route: a request takes a token of each, or of none.
package struct RateLimiter: Sendable {
  /// Keys of one limit that are kept; the bucket that was used longest ago goes first.
  package static let mostKeys = 10_000

  private enum Buckets: Sendable {
    case one(TokenBucket)
    case keyed(RecencyTable<RateKey, TokenBucket>, fresh: TokenBucket)
  }
  private var limits: [Buckets]

  package init(_ limits: [RateLimitConfiguration]) {
    self.limits = limits.map { limit in
      let bucket = TokenBucket(rate: limit.requests, per: limit.period, burst: limit.burst)
      return switch limit.key {
      case .all: .one(bucket)
      case .source, .header, .path: .keyed(RecencyTable(limit: Self.mostKeys), fresh: bucket)
      }
    }
  }

  /// Takes a token of every limit at `now` (nanoseconds); `keys` are in the order of the limits. Returns 0, or the
  /// nanoseconds until it is worth to ask again when one has none left: then nothing was taken.
  package mutating func take(_ keys: [RateKey], now: UInt64) -> UInt64 {
    var wait: UInt64 = 0
    for index in limits.indices { wait = max(wait, bucket(index, keys[index]).wait(now: now)) }
    if wait > 0 { return wait }
    for index in limits.indices {
      var taken = bucket(index, keys[index])
      _ = taken.take(now: now)
      switch limits[index] {
      case .one: limits[index] = .one(taken)
      case .keyed(var table, let fresh):
        // Moved out, so that the table is changed in place.
        limits[index] = .one(fresh)
        if !table.update(keys[index], { $0 = taken }) { table.set(keys[index], taken) }
        limits[index] = .keyed(table, fresh: fresh)
      }
    }
    return 0
  }

  private func bucket(_ index: Int, _ key: RateKey) -> TokenBucket {
    switch limits[index] {
    case .one(let bucket): bucket
    case .keyed(let table, let fresh): table.peek(key) ?? fresh
    }
  }

  /// Keys that are kept of the limit at that place.
  package func keyCount(_ index: Int) -> Int {
    if case .keyed(let table, _) = limits[index] { table.count } else { 0 }
  }
}
