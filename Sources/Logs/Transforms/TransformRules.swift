package import RegularExpressions

/// What is hidden in records beside the values of secrets.
package struct RedactionRules: Sendable, Equatable {
  package enum Pattern: String, Sendable, CaseIterable {
    case email, jwt, ipv4, ipv6, bearer
    case creditCard = "credit_card"
    case awsKey = "aws_key"
  }
  package var patterns: [Pattern] = []
  package var expressions: [RegularExpression] = []
  /// Names of members whose values are hidden, at any depth, whatever their case.
  package var fields: [String] = []
  package init() {}

  package var isEmpty: Bool { patterns.isEmpty && expressions.isEmpty && fields.isEmpty }
}

/// Keeps a part of the records.
package struct SampleRule: Sendable, Equatable {
  /// 0...1.
  package var rate: Double
  /// Records with the same value are kept or dropped together; nil: each by itself.
  package var key: FieldPath? = nil
  package var seed: UInt64 = 0
  /// Only records that match are sampled.
  package var condition: LogCondition? = nil
  package init(rate: Double) { self.rate = rate }
}

/// Drops records that repeat one that passed less than `window` ago.
package struct DedupeRule: Sendable, Equatable {
  /// What makes two records the same; empty: message and level.
  package var fields: [FieldPath] = []
  package var window: Duration = .seconds(10)
  /// Records that are remembered.
  package var keys = 10_000
  package init() {}
}

/// Lets so many records pass in a time, for each value of a field.
package struct RateLimitRule: Sendable, Equatable {
  package var records: Int
  package var per: Duration = .seconds(1)
  /// Records that may pass at once.
  package var burst: Int
  package var key: FieldPath? = nil
  /// Values that are told apart; all further ones share one allowance.
  package var keys = 10_000
  package init(records: Int) {
    self.records = records
    burst = records
  }
}

/// Counts records, or puts a field's numbers into a histogram.
package struct LogMetricRule: Sendable, Equatable {
  package var name: String
  package var help = "Records of the log."
  package var condition: LogCondition? = nil
  /// The field of a histogram; nil counts.
  package var histogram: FieldPath? = nil
  /// Upper bounds, ascending.
  package var buckets: [Double] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10]
  package var labels: [FieldPath] = []
  /// Combinations of labels; further ones become `other`.
  package var series = 100
  package init(name: String) { self.name = name }
}

/// A sink that takes only some records.
package struct RouteRule: Sendable, Equatable {
  package var sink: String
  package var condition: LogCondition
  package init(sink: String, condition: LogCondition) {
    self.sink = sink
    self.condition = condition
  }
}

package struct RenameRule: Sendable, Equatable {
  package var from: String
  package var to: String
  package init(from: String, to: String) {
    self.from = from
    self.to = to
  }
}

extension [LogTransform] {
  /// What a sink takes: records that one of its routes' conditions wants; nil = everything.
  package func route(to sink: String) -> LogCondition? {
    var texts: [String] = []
    for case .route(let rules) in self { texts += rules.filter { $0.sink == sink }.map(\.condition.text) }
    if texts.count < 2 { return texts.first.flatMap { try? LogCondition($0) } }
    return try? LogCondition(texts.map { "(\($0))" }.joined(separator: " || "))
  }
}
