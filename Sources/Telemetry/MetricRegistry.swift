import Synchronization

/// A label of a series. Values are escaped when they are written.
package struct Label: Sendable, Hashable {
  package var name: String
  package var value: String
  package init(_ name: String, _ value: String) {
    self.name = name
    self.value = value
  }
}

/// Every metric of the process by family and labels. Registering the same family and labels again adds a cell to
/// the same series, so that each event loop owns a cell and a scrape sums them.
package final class MetricRegistry: Sendable {
  package enum Kind: String, Sendable { case counter, gauge, histogram }

  private enum Cell: Sendable {
    case counter(Counter)
    case gauge(Gauge)
    case histogram(Histogram)
    case read(@Sendable () -> Double)
  }

  private struct Family {
    var kind: Kind
    var help: String
    var series: [[Label]: [Cell]] = [:]
    var order: [[Label]] = []
  }

  private struct State {
    var families: [String: Family] = [:]
    /// Cells of what an earlier process counted.
    var inherited: [String: [[Label]: Cell]] = [:]
  }

  private let state = Mutex(State())

  package init() {}

  /// A new counter cell. `name` ends in `_total` by convention.
  package func counter(_ name: String, _ help: String, _ labels: [Label] = []) -> Counter {
    let counter = Counter()
    add(name, .counter, help, labels, .counter(counter))
    return counter
  }

  package func gauge(_ name: String, _ help: String, _ labels: [Label] = []) -> Gauge {
    let gauge = Gauge()
    add(name, .gauge, help, labels, .gauge(gauge))
    return gauge
  }

  /// A new histogram cell; recorded in nanoseconds, exposed in seconds.
  package func histogram(
    _ name: String, _ help: String, _ labels: [Label] = [], bounds: [UInt64] = Histogram.durationBounds
  ) -> Histogram {
    let histogram = Histogram(bounds: bounds)
    add(name, .histogram, help, labels, .histogram(histogram))
    return histogram
  }

  /// A value computed when scraped.
  package func read(
    _ name: String, _ kind: Kind, _ help: String, _ labels: [Label] = [], _ value: @escaping @Sendable () -> Double
  ) {
    add(name, kind, help, labels, .read(value))
  }

  private func add(_ name: String, _ kind: Kind, _ help: String, _ labels: [Label], _ cell: Cell) {
    state.withLock { state in
      var family = state.families[name] ?? Family(kind: kind, help: help)
      if family.series[labels] == nil { family.order.append(labels) }
      family.series[labels, default: []].append(cell)
      state.families[name] = family
    }
  }

  /// What a series has counted, for the process that takes over. Gauges and values that are read are not among it.
  package struct Retained: Sendable, Equatable {
    package var name: String
    package var help: String
    package var labels: [Label]
    /// Of a histogram, in nanoseconds; empty = a counter.
    package var bounds: [UInt64]
    /// A counter's value, or a histogram's counts and their sum.
    package var values: [UInt64]

    package init(name: String, help: String, labels: [Label], bounds: [UInt64], values: [UInt64]) {
      self.name = name
      self.help = help
      self.labels = labels
      self.bounds = bounds
      self.values = values
    }
  }

  /// Every counter and histogram that has counted anything, or anything since `earlier`.
  package func retained(since earlier: [Retained] = []) -> [Retained] {
    let families = state.withLock { $0.families }
    var before: [String: [[Label]: [UInt64]]] = [:]
    for entry in earlier { before[entry.name, default: [:]][entry.labels] = entry.values }
    var retained: [Retained] = []
    for (name, family) in families {
      for (labels, cells) in family.series {
        var entry = Self.sum(cells)
        if let former = before[name]?[labels], former.count == entry.values.count {
          entry.values = zip(entry.values, former).map { $0 &- $1 }
        }
        guard entry.values.contains(where: { $0 > 0 }) else { continue }
        retained.append(
          Retained(name: name, help: family.help, labels: labels, bounds: entry.bounds, values: entry.values))
      }
    }
    return retained
  }

  private static func sum(_ cells: [Cell]) -> (bounds: [UInt64], values: [UInt64]) {
    var bounds: [UInt64] = []
    var values: [UInt64] = []
    for cell in cells {
      let more: [UInt64]
      switch cell {
      case .counter(let counter): more = [counter.value]
      case .histogram(let histogram):
        bounds = histogram.bounds
        let snapshot = histogram.snapshot
        more = snapshot.counts + [snapshot.sum]
      case .gauge, .read: continue
      }
      values = values.isEmpty ? more : zip(values, more).map { $0 &+ $1 }
    }
    return (bounds, values)
  }

  /// Adds what an earlier process counted.
  package func adopt(_ entry: Retained) {
    let known = state.withLock { $0.inherited[entry.name]?[entry.labels] }
    let cell =
      known ?? (entry.bounds.isEmpty ? .counter(Counter()) : .histogram(Histogram(bounds: entry.bounds)))
    switch cell {
    case .counter(let counter): counter.add(entry.values.first ?? 0)
    case .histogram(let histogram): histogram.add(counts: entry.values.dropLast(), sum: entry.values.last ?? 0)
    case .gauge, .read: return
    }
    guard known == nil else { return }
    add(entry.name, entry.bounds.isEmpty ? .counter : .histogram, entry.help, entry.labels, cell)
    state.withLock { $0.inherited[entry.name, default: [:]][entry.labels] = cell }
  }

  /// Of every family.
  package var names: Set<String> { state.withLock { Set($0.families.keys) } }

  /// The Prometheus text exposition format, version 0.0.4, families in alphabetical order.
  package func prometheusText() -> String {
    let families = state.withLock { $0.families }
    var text = ""
    for (name, family) in families.sorted(by: { $0.key < $1.key }) {
      text += "# HELP \(name) \(family.help)\n# TYPE \(name) \(family.kind.rawValue)\n"
      for labels in family.order {
        Self.write(name, labels, family.series[labels] ?? [], to: &text)
      }
    }
    return text
  }

  private static func write(_ name: String, _ labels: [Label], _ cells: [Cell], to text: inout String) {
    var sum = 0.0
    var counts: [UInt64] = []
    var nanoseconds: UInt64 = 0
    var bounds: [UInt64] = []
    for cell in cells {
      switch cell {
      case .counter(let counter): sum += Double(counter.value)
      case .gauge(let gauge): sum += Double(gauge.value)
      case .read(let value): sum += value()
      case .histogram(let histogram):
        bounds = histogram.bounds
        let snapshot = histogram.snapshot
        nanoseconds += snapshot.sum
        counts = counts.isEmpty ? snapshot.counts : zip(counts, snapshot.counts).map(+)
      }
    }
    guard !bounds.isEmpty else {
      text += "\(name)\(render(labels)) \(number(sum))\n"
      return
    }
    var cumulative: UInt64 = 0
    for (index, count) in counts.enumerated() {
      cumulative += count
      let bound = index < bounds.count ? number(Double(bounds[index]) / 1e9) : "+Inf"
      text += "\(name)_bucket\(render(labels + [Label("le", bound)])) \(cumulative)\n"
    }
    text += "\(name)_sum\(render(labels)) \(number(Double(nanoseconds) / 1e9))\n"
    text += "\(name)_count\(render(labels)) \(cumulative)\n"
  }

  private static func number(_ value: Double) -> String {
    value == value.rounded() && abs(value) < 1e15 ? "\(Int64(value))" : "\(value)"
  }

  private static func render(_ labels: [Label]) -> String {
    guard !labels.isEmpty else { return "" }
    let pairs = labels.map { label in
      var value = ""
      for scalar in label.value.unicodeScalars {
        switch scalar {
        case "\\": value += "\\\\"
        case "\"": value += "\\\""
        case "\n": value += "\\n"
        default: value.unicodeScalars.append(scalar)
        }
      }
      return "\(label.name)=\"\(value)\""
    }
    return "{" + pairs.joined(separator: ",") + "}"
  }
}
