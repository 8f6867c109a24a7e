/// Prometheus remote write 1.0 (prometheus.io/docs/specs/prw/remote_write_spec): `WriteRequest` in a snappy block.
package enum RemoteWrite {
  /// Samples of one request, as Prometheus itself has it.
  package static let limit = 2000

  /// Every sample as a series of one sample. `labels` are added where a series has none of that name; `now` is in
  /// milliseconds since 1970, for samples without a time.
  package static func requests(_ metrics: ScrapedMetrics, labels: [Label], at now: Int64) -> [PushRequest] {
    var requests: [PushRequest] = []
    var out = ProtobufWriter()
    var count = 0
    func finish() {
      guard count > 0 else { return }
      requests.append(PushRequest(body: Snappy.compressed(out.bytes), samples: count))
      out = ProtobufWriter()
      count = 0
    }
    // A receiver refuses a request as a whole when one sample is too old for it: those with a time of the program's own
    // travel apart from the others.
    for isDated in [false, true] {
      for family in metrics.families where !family.samples.isEmpty {
        for sample in family.samples {
          let (value, time) = sample.reading
          guard (time != nil) == isDated else { continue }
          let name = family.name + String(Substring(sample.suffix))
          out.message(1) { series(&$0, name, sample.pairs, labels, value, time ?? now) }
          count += 1
          if count == limit { finish() }
        }
        guard !isDated else { continue }
        out.message(3) { metadata in
          metadata.integer(1, kind(family.kind))
          metadata.text(2, family.name)
          if let help = family.help, !help.isEmpty { metadata.text(4, String(help)) }
        }
      }
      finish()
    }
    return requests
  }

  private static func series(
    _ out: inout ProtobufWriter, _ name: String, _ pairs: [Label], _ added: [Label], _ value: Double, _ time: Int64
  ) {
    var labels = pairs
    for label in added where !labels.contains(where: { $0.name == label.name }) { labels.append(label) }
    labels.append(Label("__name__", name))
    // The receiver wants them by name, compared octet by octet.
    labels.sort { $0.name.utf8.lexicographicallyPrecedes($1.name.utf8) }
    for label in labels {
      out.message(1) { pair in
        pair.text(1, label.name)
        pair.text(2, label.value)
      }
    }
    out.message(2) { point in
      point.fixed64(1, value.bitPattern)
      point.integer(2, UInt64(bitPattern: time))
    }
  }

  /// `MetricMetadata.MetricType`.
  private static func kind(_ text: String) -> UInt64 {
    switch text {
    case "counter": 1
    case "gauge": 2
    case "histogram": 3
    case "summary": 5
    default: 0
    }
  }
}
