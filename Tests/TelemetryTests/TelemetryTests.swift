import Synchronization
import Testing

@testable import Telemetry

@Suite struct MetricRegistryTests {
  @Test func aSuccessorGoesOnFromWhatWasCounted() {
    let first = MetricRegistry()
    let second = MetricRegistry()
    let labels = [Label("x", "1")]
    let requests = first.counter("a_total", "A.", labels)
    requests.add(3)
    first.histogram("t_seconds", "T.", bounds: [10, 20]).record(15)
    first.gauge("g", "G.").set(7)
    first.read("r_total", .counter, "R.") { 5 }
    _ = first.counter("none_total", "N.")
    let given = first.retained()
    #expect(Set(given.map(\.name)) == ["a_total", "t_seconds"])
    for entry in given { second.adopt(entry) }
    second.counter("a_total", "A.", labels).add()
    #expect(second.prometheusText().contains("a_total{x=\"1\"} 4\n"))
    #expect(second.prometheusText().contains("t_seconds_bucket{le=\"+Inf\"} 1\n"))
    // What the first one still counts until it ends.
    requests.add(2)
    let rest = first.retained(since: given)
    #expect(rest.map(\.values) == [[2]])
    for entry in rest { second.adopt(entry) }
    #expect(second.prometheusText().contains("a_total{x=\"1\"} 6\n"))
    let third = MetricRegistry()
    for entry in second.retained() { third.adopt(entry) }
    #expect(third.prometheusText().contains("a_total{x=\"1\"} 6\n"))
  }

  @Test func cellsOfOneSeriesAreSummed() {
    let registry = MetricRegistry()
    let labels = [Label("listener", "web")]
    let first = registry.counter("requests_total", "Requests.", labels)
    let second = registry.counter("requests_total", "Requests.", labels)
    first.addAsOwner(2)
    second.add(3)
    #expect(
      registry.prometheusText()
        == "# HELP requests_total Requests.\n# TYPE requests_total counter\nrequests_total{listener=\"web\"} 5\n")
  }

  @Test func labelValuesAreEscaped() {
    let registry = MetricRegistry()
    registry.gauge("g", "A gauge.", [Label("name", "a\"b\\c\nd")]).set(-4)
    #expect(registry.prometheusText().contains(#"g{name="a\"b\\c\nd"} -4"#))
  }

  @Test func histogramsAreCumulativeAndInSeconds() {
    let registry = MetricRegistry()
    let histogram = registry.histogram("d_seconds", "Durations.", bounds: [1_000_000, 2_000_000])
    histogram.recordAsOwner(1_000_000)
    histogram.record(1_500_000)
    histogram.record(9_000_000)
    let text = registry.prometheusText()
    #expect(text.contains("d_seconds_bucket{le=\"0.001\"} 1\n"))
    #expect(text.contains("d_seconds_bucket{le=\"0.002\"} 2\n"))
    #expect(text.contains("d_seconds_bucket{le=\"+Inf\"} 3\n"))
    #expect(text.contains("d_seconds_sum 0.0115\n"))
    #expect(text.contains("d_seconds_count 3\n"))
  }

  @Test func valuesAreReadWhenScraped() {
    let registry = MetricRegistry()
    registry.read("r", .gauge, "Read.") { 2.5 }
    #expect(registry.prometheusText().hasSuffix("r 2.5\n"))
  }
}

@Suite struct EventStreamTests {
  @Test func followersGetWholeLines() {
    let stream = EventStream()
    #expect(!stream.isFollowed)
    let got = Mutex<[String]>([])
    stream.follow { topic, bytes in
      got.withLock { $0.append("\(topic.rawValue):" + String(decoding: bytes, as: UTF8.self)) }
    }
    stream.publish(.lifecycle, "{\"state\":\"ready\"}")
    #expect(stream.isFollowed)
    #expect(got.withLock { $0 } == ["lifecycle:{\"state\":\"ready\"}\n"])
  }
}
