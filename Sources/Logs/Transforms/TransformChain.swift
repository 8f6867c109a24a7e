import RegularExpressions
import Telemetry
import Vocabulary

/// The transforms of a configuration in their order, for the records of one source. Owned by one thread; times are those
/// of the records' arrival.
final class TransformChain {
  private enum Step {
    case add([(key: [UInt8], value: [UInt8])])
    case remove([[UInt8]])
    case rename([(from: [UInt8], to: [UInt8])])
    case dropBelow(LogLevel)
    case filter(ConditionMatcher, keep: Bool)
    case redact(RecordRedactor)
    /// An index into `samplers`, and so on.
    case sample(Int, ConditionMatcher?)
    case dedupe(Int)
    case limit(Int)
    case metric(LogMetric)
  }

  /// `pending` are drops of records that the spool has yet to take.
  private var steps: [(step: Step, dropped: Counter, pending: UInt64)] = []
  private var samplers: [Sampler] = []
  private var dedupers: [Deduper] = []
  private var limiters: [RateLimiter] = []
  private let record = RecordFields()
  private let workspace = MatchWorkspace(steps: 1_000_000)
  private let exceeded: Counter
  private var redacted: [(redactor: RecordRedactor, counters: [Counter], told: [UInt64])] = []

  /// Whether `RecordEncoder` alone can do what the transforms say, which is quicker.
  static func isNeeded(_ transforms: [LogTransform]) -> Bool {
    transforms.contains { transform in
      switch transform {
      case .add, .remove, .dropBelow, .redactSecrets, .route: false
      case .rename, .filter, .redact, .sample, .dedupe, .rateLimit, .metric: true
      }
    }
  }

  init(_ transforms: [LogTransform], source: String, metrics: MetricRegistry) {
    let label = Label("source", source)
    exceeded = metrics.counter(
      "outrider_log_match_limit_total", "Expressions that gave up on a record at the match limit.", [label])
    for transform in transforms {
      guard let (name, step) = make(transform, metrics) else { continue }
      let dropped = metrics.counter(
        "outrider_log_filtered_total", "Records that a transform dropped, by transform.",
        [label, Label("transform", name)])
      steps.append((step, dropped, 0))
      if case .redact(let redactor) = step {
        let counters = redactor.names.map {
          metrics.counter(
            "outrider_log_redactions_total", "Values hidden in records, by pattern.", [label, Label("pattern", $0)])
        }
        redacted.append((redactor, counters, redactor.counts))
      }
    }
  }

  private func matcher(_ condition: LogCondition?) -> ConditionMatcher? {
    condition.map { ConditionMatcher($0, workspace) }
  }

  private func make(_ transform: LogTransform, _ metrics: MetricRegistry) -> (String, Step)? {
    func inside(_ name: String) -> [UInt8] { Array(JSONText.quoted(name).dropFirst().dropLast()) }
    switch transform {
    case .add(let fields):
      return ("add", .add(fields.sorted { $0.key < $1.key }.map { (inside($0.key), JSONText.quoted($0.value)) }))
    case .remove(let names): return ("remove", .remove(names.map(inside)))
    case .rename(let rules): return ("rename", .rename(rules.map { (inside($0.from), inside($0.to)) }))
    case .dropBelow(let level): return ("drop", .dropBelow(LogLevel(level) ?? .unknown))
    case .filter(let condition, let keep):
      return (keep ? "keep" : "drop", .filter(ConditionMatcher(condition, workspace), keep: keep))
    case .redact(let rules): return ("redact", .redact(RecordRedactor(rules, workspace)))
    case .sample(let rule):
      samplers.append(Sampler(rule))
      return ("sample", .sample(samplers.count - 1, matcher(rule.condition)))
    case .dedupe(let rule):
      dedupers.append(Deduper(rule, window: rule.window.inNanoseconds))
      return ("dedupe", .dedupe(dedupers.count - 1))
    case .rateLimit(let rule):
      limiters.append(RateLimiter(rule, per: rule.per.inNanoseconds))
      return ("rate_limit", .limit(limiters.count - 1))
    case .metric(let rule): return ("metric", .metric(LogMetric(rule, matcher(rule.condition), metrics)))
    case .redactSecrets, .route: return nil
    }
  }

  /// Changes the record that `arena` holds from `start` on; nil when a transform drops it, and nothing of it is kept.
  func apply(_ arena: ByteArena, from start: Int, _ mark: RecordMark, arrival: Int64) -> RecordMark? {
    // What the encoder wrote is JSON; if it were not, it would pass as it is.
    guard record.load(arena.bytes.part(start..<arena.count), mark) else { return mark }
    for index in steps.indices where !passes(steps[index].step, mark, arrival) {
      steps[index].pending += 1
      arena.truncate(to: start)
      return nil
    }
    guard record.isChanged else { return mark }
    arena.truncate(to: start)
    return record.write(mark, into: arena)
  }

  private func passes(_ step: Step, _ mark: RecordMark, _ arrival: Int64) -> Bool {
    switch step {
    case .add(let fields): for (key, value) in fields where record.last(key) == nil { record.add(key, value) }
    case .remove(let names): for name in names { remove(name) }
    case .rename(let rules): for (from, to) in rules { rename(from, to) }
    case .dropBelow(let lowest): return mark.level == .unknown || mark.level >= lowest
    case .filter(let matcher, let keep):
      let before = matcher.exceeded
      let matches = matcher.matches(record)
      guard matcher.exceeded == before else {
        // Nobody knows: the record is kept.
        exceeded.addAsOwner(matcher.exceeded - before)
        return true
      }
      return matches == keep
    case .redact(let redactor):
      let before = redactor.exceeded
      redactor.redact(record, mark.kind)
      if redactor.exceeded > before { exceeded.addAsOwner(redactor.exceeded - before) }
    case .sample(let index, let matcher):
      if let matcher, !matcher.matches(record) { return true }
      return samplers[index].keeps(samplers[index].rule.key.flatMap { record.value($0) })
    case .dedupe(let index): return isNew(index, mark, arrival)
    case .limit(let index):
      var hasher = Hasher()
      if let value = limiters[index].rule.key.flatMap({ record.value($0) }) { hasher.combine(bytes: value) }
      return limiters[index].allows(hasher.finalize(), at: arrival)
    case .metric(let metric): metric.observe(record)
    }
    return true
  }

  /// The envelope and the message stay, as they do when the encoder removes fields.
  private func remove(_ name: [UInt8]) {
    let count = record.members.count
    record.members.removeAll { member in
      (member.role == .own || member.role == .added) && member.key.count == name.count
        && record.bytes.part(member.key).elementsEqual(name)
    }
    if record.members.count != count { record.isChanged = true }
  }

  /// A field that is there already is not written twice: then the old name stays.
  private func rename(_ from: [UInt8], _ to: [UInt8]) {
    guard record.last(to) == nil, record.last(from) != nil else { return }
    let key = record.keep(to)
    for index in record.members.indices {
      let name = record.bytes.part(record.members[index].key)
      if name.count == from.count, name.elementsEqual(from) { record.members[index].key = key }
    }
    record.isChanged = true
  }

  private func isNew(_ index: Int, _ mark: RecordMark, _ arrival: Int64) -> Bool {
    var hasher = Hasher()
    func combine(_ value: Bytes?) {
      hasher.combine(value?.count ?? -1)
      if let value { hasher.combine(bytes: value) }
    }
    if dedupers[index].rule.fields.isEmpty {
      hasher.combine(mark.level.rawValue)
      combine(record.message)
      // A JSON record without a message is compared as a whole, but for its times.
      if record.message == nil {
        for member in record.members where member.role == .own { combine(record.bytes.part(member.value)) }
      }
    }
    for field in dedupers[index].rule.fields { combine(record.value(field)) }
    guard let repeats = dedupers[index].passes(hasher.finalize(), at: arrival) else { return false }
    if repeats > 0 { record.add(Self.repeated, Array(String(repeats).utf8)) }
    return true
  }

  private static let repeated = Array("repeated".utf8)

  /// What was applied since the last call is in the spool: it counts.
  func commit() {
    for index in steps.indices {
      if steps[index].pending > 0 {
        steps[index].dropped.addAsOwner(steps[index].pending)
        steps[index].pending = 0
      }
      if case .metric(let metric) = steps[index].step { metric.commit() }
    }
    for index in samplers.indices { samplers[index].commit() }
    for index in dedupers.indices { dedupers[index].commit() }
    for index in limiters.indices { limiters[index].commit() }
    for index in redacted.indices {
      for pattern in redacted[index].counters.indices {
        let now = redacted[index].redactor.counts[pattern]
        let fresh = now - redacted[index].told[pattern]
        guard fresh > 0 else { continue }
        redacted[index].counters[pattern].addAsOwner(fresh)
        redacted[index].told[pattern] = now
      }
    }
  }

  /// What was applied since the last `commit` will be shown again: nothing of it is remembered, or it would be taken for
  /// its own repetition.
  func rollBack() {
    for index in steps.indices {
      steps[index].pending = 0
      if case .metric(let metric) = steps[index].step { metric.rollBack() }
    }
    for index in samplers.indices { samplers[index].rollBack() }
    for index in dedupers.indices { dedupers[index].rollBack() }
    for index in limiters.indices { limiters[index].rollBack() }
    for index in redacted.indices { redacted[index].redactor.counts = redacted[index].told }
  }
}
