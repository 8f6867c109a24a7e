import Glibc

/// Decides which records are kept; the same seed decides the same.
struct Sampler {
  let rule: SampleRule
  private let threshold: UInt64
  private var count: UInt64 = 0
  private var safe: UInt64 = 0

  init(_ rule: SampleRule) {
    self.rule = rule
    threshold = rule.rate >= 1 ? .max : UInt64(max(0, rule.rate) * 18_446_744_073_709_549_568)
  }

  /// `key` is the value that records have in common; a record without it is decided by itself.
  mutating func keeps(_ key: Bytes?) -> Bool {
    if threshold == .max { return true }
    let hash: UInt64
    if let key {
      hash = Checksum.fnv64(key)
    } else {
      count &+= 1
      hash = count
    }
    return Self.mixed(hash ^ Self.mixed(rule.seed)) < threshold
  }

  mutating func commit() { safe = count }
  mutating func rollBack() { count = safe }

  /// SplitMix64's finalizer: neighbours become far apart.
  private static func mixed(_ value: UInt64) -> UInt64 {
    var value = value &+ 0x9E37_79B9_7F4A_7C15
    value = (value ^ value >> 30) &* 0xBF58_476D_1CE4_E5B9
    value = (value ^ value >> 27) &* 0x94D0_49BB_1331_11EB
    return value ^ value >> 31
  }
}

/// Remembers what passed within the window. Times are nanoseconds of any clock that does not go back far.
struct Deduper {
  let rule: DedupeRule
  private let window: Int64
  private var seen: [Int: (until: Int64, repeats: UInt32)] = [:]
  /// In the order of their ends; begins at `head`.
  private var order: [(hash: Int, until: Int64)] = []
  private var head = 0
  /// What stood there before, of records that may have to be shown again.
  private var journal: [(hash: Int, before: (until: Int64, repeats: UInt32)?)] = []
  private var safe = (count: 0, head: 0)

  init(_ rule: DedupeRule, window: Int64) {
    self.rule = rule
    self.window = window
  }

  /// How many of the same were dropped since the last that passed, or nil: this one is dropped. `hash` must be one that
  /// nobody outside can aim at.
  mutating func passes(_ hash: Int, at now: Int64) -> UInt32? {
    let before = seen[hash]
    journal.append((hash, before))
    if let entry = before {
      if now < entry.until {
        seen[hash]!.repeats &+= 1
        return nil
      }
      remember(hash, now)
      return entry.repeats
    }
    remember(hash, now)
    return 0
  }

  private mutating func remember(_ hash: Int, _ now: Int64) {
    seen[hash] = (now &+ window, 0)
    order.append((hash, now &+ window))
    // Kept for a second window after the end, so that the next one can tell how many there were.
    while head < order.count, seen.count > rule.keys || order[head].until &+ window < now {
      let oldest = order[head]
      head += 1
      guard let entry = seen[oldest.hash], entry.until == oldest.until else { continue }
      journal.append((oldest.hash, entry))
      seen[oldest.hash] = nil
    }
  }

  mutating func commit() {
    journal.removeAll(keepingCapacity: true)
    if head > 1024, head * 2 > order.count {
      order.removeFirst(head)
      head = 0
    }
    safe = (order.count, head)
  }

  mutating func rollBack() {
    for entry in journal.reversed() { seen[entry.hash] = entry.before }
    journal.removeAll(keepingCapacity: true)
    order.removeLast(order.count - safe.count)
    head = safe.head
  }
}

/// An allowance for each key, by the generic cell rate algorithm (ITU-T I.371): one number a key.
struct RateLimiter {
  let rule: RateLimitRule
  private let interval: Int64
  private let tolerance: Int64
  private var due: [Int: Int64] = [:]
  private var shared: Int64 = .min
  private var purged: Int64 = .min
  /// nil is the shared allowance.
  private var journal: [(key: Int?, before: Int64?)] = []

  init(_ rule: RateLimitRule, per nanoseconds: Int64) {
    self.rule = rule
    interval = max(1, nanoseconds / Int64(max(1, rule.records)))
    tolerance = interval &* Int64(max(1, rule.burst) - 1)
  }

  mutating func allows(_ key: Int, at now: Int64) -> Bool {
    if due[key] == nil, due.count >= rule.keys {
      // Those with a full allowance need not be remembered; looked for once an interval of a burst at most.
      if purged == .min || now - purged > tolerance + interval {
        purged = now
        due = due.filter { $0.value > now }
      }
      if due.count >= rule.keys {
        journal.append((nil, shared))
        return Self.take(&shared, interval, tolerance, now)
      }
    }
    journal.append((key, due[key]))
    return Self.take(&due[key, default: now], interval, tolerance, now)
  }

  mutating func commit() { journal.removeAll(keepingCapacity: true) }

  mutating func rollBack() {
    for entry in journal.reversed() {
      if let key = entry.key { due[key] = entry.before } else { shared = entry.before ?? .min }
    }
    journal.removeAll(keepingCapacity: true)
  }

  private static func take(_ due: inout Int64, _ interval: Int64, _ tolerance: Int64, _ now: Int64) -> Bool {
    let start = max(due, now)
    guard start - now <= tolerance else { return false }
    due = start + interval
    return true
  }
}
