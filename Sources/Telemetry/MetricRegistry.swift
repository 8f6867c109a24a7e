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
