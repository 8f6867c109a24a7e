/// `ExportMetricsServiceRequest` of OTLP (opentelemetry/proto/metrics/v1/metrics.proto, version 1): counters become
/// cumulative sums, histograms and summaries keep their kind, the rest are gauges.
package enum OTLPMetrics {
  /// Data points of one request.
  package static let limit = 2000

  /// Whose metrics these are, and since when they count; nanoseconds since 1970.
  package struct Origin: Sendable {
    package var resource: [Label]
    package var version: String
    /// Families that began at `start`; of the others nobody knows.
    package var own: Set<String>
    package var start: UInt64

    package init(resource: [Label], version: String, own: Set<String>, start: UInt64) {
      self.resource = resource
      self.version = version
      self.own = own
      self.start = start
    }
  }

  package static func requests(_ metrics: ScrapedMetrics, _ origin: Origin, at now: UInt64) -> [PushRequest] {
    var requests: [PushRequest] = []
    var waiting: [[UInt8]] = []
    var count = 0
    func finish() {
      guard count > 0 else { return }
      requests.append(PushRequest(body: request(waiting, origin), samples: count))
      waiting = []
      count = 0
    }
    for family in metrics.families where !family.samples.isEmpty {
      let start = origin.own.contains(family.name) ? origin.start : 0
      let points = points(family, start: start, now: now)
      var index = 0
      while index < points.count {
        let end = min(points.count, index + limit - count)
        waiting.append(metric(family, points[index..<end]))
        count += end - index
        index = end
        if count >= limit { finish() }
      }
    }
    finish()
    return requests
  }

  /// How many points the receiver says it rejected: `partial_success.rejected_data_points` of its answer. What is no
  /// such message says nothing.
  package static func rejected(_ answer: some Sequence<UInt8>) -> Int {
    let bytes = Array(answer.prefix(1 << 16))
    var at = 0
    func number() -> Int? {
      var value: UInt64 = 0
      for shift in stride(from: UInt64(0), to: 64, by: 7) {
        guard at < bytes.count else { return nil }
        let byte = bytes[at]
        at += 1
        value |= UInt64(byte & 0x7F) << shift
        if byte < 0x80 { return Int(clamping: value) }
      }
      return nil
    }
    guard number() == 0x0A, let length = number(), length > 0, number() == 0x08, let rejected = number() else {
      return 0
    }
    return max(0, rejected)
  }

  private static func request(_ metrics: [[UInt8]], _ origin: Origin) -> [UInt8] {
    var out = ProtobufWriter()
    out.message(1) { resourceMetrics in
      resourceMetrics.message(1) { resource in
        for label in origin.resource { resource.message(1) { attribute(label, &$0) } }
      }
      resourceMetrics.message(2) { scopeMetrics in
        scopeMetrics.message(1) { scope in
          scope.text(1, "outrider")
          scope.text(2, origin.version)
        }
        for metric in metrics { scopeMetrics.octets(2, metric) }
      }
    }
    return out.bytes
  }

  private static func attribute(_ label: Label, _ out: inout ProtobufWriter) {
    out.text(1, label.name)
    out.message(2) { $0.text(1, label.value) }
  }

  private static func metric(_ family: ScrapedMetrics.Family, _ points: ArraySlice<[UInt8]>) -> [UInt8] {
    var out = ProtobufWriter()
    out.text(1, family.name)
    if let help = family.help, !help.isEmpty { out.text(2, String(help)) }
    let base = family.name.hasSuffix("_total") ? String(family.name.dropLast(6)) : family.name
    if base.hasSuffix("_seconds") { out.text(3, "s") } else if base.hasSuffix("_bytes") { out.text(3, "By") }
    let field = ["counter": 7, "histogram": 9, "summary": 11][family.kind] ?? 5
    out.message(field) { data in
      for point in points { data.octets(1, point) }
      // AGGREGATION_TEMPORALITY_CUMULATIVE
      if field == 7 || field == 9 { data.integer(2, 2) }
      if field == 7 { data.integer(3, 1) }
    }
    return out.bytes
  }

  private static func points(_ family: ScrapedMetrics.Family, start: UInt64, now: UInt64) -> [[UInt8]] {
    if ["histogram", "summary"].contains(family.kind) { return distributions(family, start: start, now: now) }
    return family.samples.map { sample in
      let (value, time) = sample.reading
      var point = ProtobufWriter()
      if start != 0, family.kind == "counter" { point.fixed64(2, start) }
      point.fixed64(3, nanoseconds(time, now))
      point.fixed64(4, value.bitPattern)
      for label in sample.pairs { point.message(7) { attribute(label, &$0) } }
      return point.bytes
    }
  }

  private static func nanoseconds(_ time: Int64?, _ now: UInt64) -> UInt64 {
    time.map { UInt64(max(0, $0)) &* 1_000_000 } ?? now
  }

  /// Samples of one histogram or summary, put together again.
  private struct Distribution {
    var labels: [Label]
    var time: UInt64
    var count = 0.0
    var sum: Double?
    /// Bounds with cumulative counts, or quantiles with their values, as they stand.
    var parts: [(Double, Double)] = []
  }

  private static func distributions(_ family: ScrapedMetrics.Family, start: UInt64, now: UInt64) -> [[UInt8]] {
    let isHistogram = family.kind == "histogram"
    let key = isHistogram ? "le" : "quantile"
    var all: [Distribution] = []
    var places: [[Label]: Int] = [:]
    for sample in family.samples {
      var labels = sample.pairs
      let (value, time) = sample.reading
      var edge: Double?
      if let index = labels.firstIndex(where: { $0.name == key }) { edge = Double(labels.remove(at: index).value) }
      let place = places[labels] ?? all.count
      if place == all.count {
        places[labels] = place
        all.append(Distribution(labels: labels, time: nanoseconds(time, now)))
      }
      let suffix = String(Substring(sample.suffix))
      if suffix == "_count" {
        all[place].count = value
      } else if suffix == "_sum" {
        all[place].sum = value
      } else if let edge {
        all[place].parts.append((edge, value))
      }
    }
    return all.map { isHistogram ? histogram($0, start) : summary($0, start) }
  }

  private static func whole(_ value: Double) -> UInt64 { value > 0 && value < 1e18 ? UInt64(value) : 0 }

  private static func histogram(_ data: Distribution, _ start: UInt64) -> [UInt8] {
    var out = ProtobufWriter()
    if start != 0 { out.fixed64(2, start) }
    out.fixed64(3, data.time)
    out.fixed64(4, whole(data.count))
    if let sum = data.sum { out.fixed64(5, sum.bitPattern) }
    let parts = data.parts.filter { $0.0.isFinite }.sorted { $0.0 < $1.0 }
    var counts: [UInt64] = []
    var before: UInt64 = 0
    for (_, cumulative) in parts {
      let count = whole(cumulative)
      counts.append(count > before ? count - before : 0)
      before = max(before, count)
    }
    counts.append(whole(data.count) > before ? whole(data.count) - before : 0)
    out.octets(6, counts.flatMap(octets))
    out.octets(7, parts.flatMap { octets($0.0.bitPattern) })
    for label in data.labels { out.message(9) { attribute(label, &$0) } }
    return out.bytes
  }

  private static func summary(_ data: Distribution, _ start: UInt64) -> [UInt8] {
    var out = ProtobufWriter()
    if start != 0 { out.fixed64(2, start) }
    out.fixed64(3, data.time)
    out.fixed64(4, whole(data.count))
    out.fixed64(5, (data.sum ?? 0).bitPattern)
    for (quantile, value) in data.parts {
      out.message(6) { part in
        part.fixed64(1, quantile.bitPattern)
        part.fixed64(2, value.bitPattern)
      }
    }
    for label in data.labels { out.message(7) { attribute(label, &$0) } }
    return out.bytes
  }

  private static func octets(_ word: UInt64) -> [UInt8] {
    stride(from: UInt64(0), to: 64, by: 8).map { UInt8(truncatingIfNeeded: word >> $0) }
  }
}
