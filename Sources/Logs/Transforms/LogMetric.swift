import Telemetry

/// A metric that records feed. Owned by one thread; labels are bounded in number and length.
final class LogMetric {
  private enum Cell {
    case counter(Counter)
    case histogram(Histogram)
  }

  private let rule: LogMetricRule
  private let matcher: ConditionMatcher?
  private let registry: MetricRegistry
  private let labels: [String]
  private let bounds: [UInt64]
  private var cells: [Int: Cell] = [:]
  private var other: Cell?
  /// Of records that the spool has yet to take.
  private var pending: [(cell: Cell, value: UInt64)] = []
  /// Longest value of a label, bytes.
  private static let longestLabel = 64

  init(_ rule: LogMetricRule, _ matcher: ConditionMatcher?, _ registry: MetricRegistry) {
    self.rule = rule
    self.matcher = matcher
    self.registry = registry
    labels = rule.labels.map(\.labelName)
    // Histograms of the registry count in billionths.
    bounds = rule.buckets.map { UInt64($0 * 1e9) }
    if rule.labels.isEmpty { other = make([]) }
  }

  func observe(_ record: RecordFields) {
    if let matcher, !matcher.matches(record) { return }
    var number = 0.0
    if let field = rule.histogram {
      guard let value = record.value(field).flatMap({ ConditionMatcher.number($0) }), value >= 0, value < 1e9 else {
        return
      }
      number = value
    }
    pending.append((cell(record), UInt64(number * 1e9)))
  }

  func commit() {
    for (cell, value) in pending {
      switch cell {
      case .counter(let counter): counter.addAsOwner()
      case .histogram(let histogram): histogram.recordAsOwner(value)
      }
    }
    pending.removeAll(keepingCapacity: true)
  }

  func rollBack() { pending.removeAll(keepingCapacity: true) }

  private func cell(_ record: RecordFields) -> Cell {
    if rule.labels.isEmpty, let other { return other }
    var hasher = Hasher()
    for field in rule.labels {
      let value = record.value(field)
      hasher.combine(value?.count ?? -1)
      if let value { hasher.combine(bytes: value) }
    }
    let key = hasher.finalize()
    if let cell = cells[key] { return cell }
    guard cells.count < rule.series else {
      if let other { return other }
      let cell = make(labels.map { Label($0, "other") })
      other = cell
      return cell
    }
    let values = zip(labels, rule.labels).map { Label($0, Self.text(record.value($1))) }
    let cell = make(values)
    cells[key] = cell
    return cell
  }

  private static func text(_ value: Bytes?) -> String {
    guard let value else { return "" }
    let text = JSONText.string(value) ?? value.text
    guard text.utf8.count > longestLabel else { return text }
    var cut = ""
    for character in text {
      if cut.utf8.count + character.utf8.count > longestLabel { break }
      cut.append(character)
    }
    return cut
  }

  private func make(_ labels: [Label]) -> Cell {
    rule.histogram == nil
      ? .counter(registry.counter(rule.name, rule.help, labels))
      : .histogram(registry.histogram(rule.name, rule.help, labels, bounds: bounds))
  }
}

extension FieldPath {
  /// The name as Prometheus takes it.
  package var labelName: String {
    var label = ""
    for byte in name.utf8 {
      let isPlain = (0x30...0x39).contains(byte) || (0x61...0x7A).contains(byte | 0x20)
      label.append(isPlain ? Character(UnicodeScalar(byte)) : "_")
    }
    return label.first.map { $0.isNumber } == true ? "_" + label : label
  }
}
