import Logs
import RegularExpressions
import Resilience
import Telemetry
import Testing

@Suite struct TransformTests {
  let head = "{\"@timestamp\":\"2026-01-31T12:00:00.000Z\",\"source\":\"app\",\"stream\":\"stdout\""

  private func encoder(_ transforms: LogTransform...) -> RecordEncoder {
    RecordEncoder(source: "app", transforms: transforms)
  }

  @Test func renameKeepsBytesOrderAndPlace() {
    let encoder = encoder(.rename([RenameRule(from: "msg", to: "message"), RenameRule(from: "a", to: "b")]))
    #expect(
      encode("{\"z\":1.50, \"msg\":\"x\\u0041\" , \"b\":1,\"a\":2}", encoder)
        == head + ",\"z\":1.50,\"message\":\"x\\u0041\",\"b\":1,\"a\":2}\n")
    #expect(encode("text", encoder) == head + ",\"message\":\"text\"}\n")
    let toText = self.encoder(.rename([RenameRule(from: "message", to: "log.text")]))
    #expect(encode("text", toText) == head + ",\"log.text\":\"text\"}\n")
  }

  @Test func orderCounts() throws {
    let first = encoder(
      .add(["env": "prod"]), .rename([RenameRule(from: "env", to: "stage")]), .remove(["pw"]),
      .filter(try LogCondition("has pw"), keep: false))
    #expect(encode("{\"a\":1,\"pw\":2}", first) == head + ",\"stage\":\"prod\",\"a\":1}\n")
    let second = encoder(.filter(try LogCondition("has pw"), keep: false), .remove(["pw"]))
    #expect(encode("{\"a\":1,\"pw\":2}", second) == nil)
    let third = encoder(.add(["env": "prod"]), .remove(["env"]), .rename([RenameRule(from: "x", to: "y")]))
    #expect(encode("{\"a\":1}", third) == head + ",\"a\":1}\n")
  }

  @Test func theRawLineComesBack() throws {
    let encoder = encoder(
      .rename([RenameRule(from: "a", to: "b")]), .add(["env": "x"]), .redact(rules([.email], fields: ["pw"])))
    for (line, raw) in [
      ("{\"a\":1,\"m\":\"a@example.org\",\"pw\":{\"x\":[1]}}", "{\"b\":1,\"m\":\"***\",\"pw\":\"***\"}"),
      ("mail a@example.org \"now\"", "mail *** \"now\""), ("pw=x k=a@example.org", "pw=*** k=***"), ("{}", "{}"),
    ] {
      let (record, mark) = try #require(encode(encoder, Array(line.utf8)))
      withBytes(record) { bytes in
        #expect(JSONScanner.isValid(bytes))
        let arena = ByteArena()
        RecordView.appendRaw(bytes, mark, into: arena)
        #expect(arena.bytes.text == raw)
      }
    }
  }

  @Test func keepAndDrop() throws {
    let keep = encoder(.filter(try LogCondition("level >= warn"), keep: true))
    #expect(encode("ERROR x", keep) != nil)
    #expect(encode("INFO x", keep) == nil)
    #expect(encode("nothing", keep) == nil)
    let drop = encoder(.filter(try LogCondition("msg =~ \"health\""), keep: false))
    #expect(encode("GET /healthz", drop) == nil)
    #expect(encode("GET /", drop) != nil)
  }

  @Test func anExpressionWithoutEndKeepsTheRecordAndCounts() throws {
    let metrics = MetricRegistry()
    let encoder = RecordEncoder(
      source: "app", transforms: [.filter(try LogCondition("msg =~ \"^(a|aa)+$\" || level == fatal"), keep: true)],
      metrics: metrics)
    let line = String(repeating: "a", count: 200) + "b"
    #expect(encode(line, encoder) != nil)
    #expect(metrics.prometheusText().contains("outrider_log_match_limit_total{source=\"app\"} 1\n"))
  }

  @Test func sampleByRateAndKey() {
    var rule = SampleRule(rate: 0.25)
    func kept(_ rule: SampleRule, _ line: (Int) -> String) -> [Int] {
      let encoder = encoder(.sample(rule))
      return (0..<4000).filter { encode(line($0), encoder) != nil }
    }
    let plain = kept(rule) { "line \($0)" }
    #expect((850...1150).contains(plain.count))
    #expect(kept(rule) { "line \($0)" } == plain)
    rule.seed = 7
    #expect(kept(rule) { "line \($0)" } != plain)
    rule.key = FieldPath("trace")
    let byKey = kept(rule) { "{\"trace\":\"t\($0 / 4)\"}" }
    #expect((750...1250).contains(byKey.count))
    #expect(Dictionary(grouping: byKey) { $0 / 4 }.values.allSatisfy { $0.count == 4 })
    #expect(kept(SampleRule(rate: 0)) { "\($0)" }.isEmpty)
    #expect(kept(SampleRule(rate: 1)) { "\($0)" }.count == 4000)
  }

  @Test func dedupe() throws {
    var rule = DedupeRule()
    rule.window = .seconds(10)
    let clock = Lines(.dedupe(rule))
    #expect(clock.add("WARN disk full", at: 0) != nil)
    for second in 1...9 { #expect(clock.add("WARN disk full", at: second) == nil) }
    #expect(clock.add("ERROR disk full", at: 9) != nil)
    let next = try #require(clock.add("WARN disk full", at: 10))
    #expect(next.contains("\"repeated\":9"))
    #expect(clock.add("WARN disk full", at: 21)?.contains("repeated") == false)
    #expect(clock.add("{\"a\":1,\"msg\":\"m\"}", at: 22) != nil)
    #expect(clock.add("{\"a\":2,\"msg\":\"m\"}", at: 22) == nil)
    #expect(clock.add("{\"a\":2}", at: 22) != nil)
    #expect(clock.add("{\"a\":3}", at: 22) != nil)
    rule.keys = 2
    let small = Lines(.dedupe(rule))
    for line in ["a", "b", "c", "a"] { #expect(small.add(line, at: 1) != nil) }
    #expect(small.add("a", at: 2) == nil)
  }

  @Test func rateLimit() {
    var rule = RateLimitRule(records: 10)
    rule.key = FieldPath("user")
    let clock = Lines(.rateLimit(rule))
    func passed(_ user: String, _ count: Int, at second: Int) -> Int {
      (0..<count).filter { _ in clock.add("{\"user\":\"\(user)\"}", at: second) != nil }.count
    }
    #expect(passed("a", 100, at: 0) == 10)
    #expect(passed("b", 100, at: 0) == 10)
    #expect(passed("a", 100, at: 1) == 10)
    #expect(passed("a", 100, at: 100) == 10)
    rule.keys = 3
    let small = Lines(.rateLimit(rule))
    let all = (0..<100).filter { small.add("{\"user\":\"u\($0)\"}", at: 0) != nil }.count
    // Three keys of their own, and ten for everybody else.
    #expect(all == 13)
  }

  @Test func metrics() throws {
    let metrics = MetricRegistry()
    var count = LogMetricRule(name: "requests_total")
    count.labels = [FieldPath("http.method"), FieldPath("code")]
    count.series = 2
    count.condition = try LogCondition("has code")
    var took = LogMetricRule(name: "took_seconds")
    took.histogram = FieldPath("took")
    took.buckets = [0.1, 1]
    let encoder = RecordEncoder(source: "app", transforms: [.metric(count), .metric(took)], metrics: metrics)
    for code in [200, 200, 404, 500, 501] {
      #expect(encode("{\"http\":{\"method\":\"GET\"},\"code\":\(code),\"took\":0.5}", encoder) != nil)
    }
    #expect(encode("plain", encoder) != nil)
    #expect(encode("{\"took\":\"-1\"}", encoder) != nil)
    encoder.commit()
    let text = metrics.prometheusText()
    #expect(text.contains("requests_total{http_method=\"GET\",code=\"200\"} 2\n"))
    #expect(text.contains("requests_total{http_method=\"other\",code=\"other\"} 2\n"))
    #expect(text.contains("took_seconds_bucket{le=\"0.1\"} 0\n"))
    #expect(text.contains("took_seconds_bucket{le=\"1\"} 5\n"))
    #expect(text.contains("took_seconds_sum 2.5\n"))
  }

  @Test func routesOfASink() throws {
    let rules = [
      RouteRule(sink: "es", condition: try LogCondition("level >= warn")),
      RouteRule(sink: "file", condition: try LogCondition("has audit")),
    ]
    let transforms: [LogTransform] = [
      .route(rules), .route([RouteRule(sink: "es", condition: try LogCondition("has audit"))]),
    ]
    #expect(transforms.route(to: "es")?.text == "(level >= warn) || (has audit)")
    #expect(transforms.route(to: "file")?.text == "has audit")
    #expect(transforms.route(to: "store") == nil)
    var configuration = LogsConfiguration()
    configuration.sources = [LogSourceConfiguration(name: "app", input: .app)]
    configuration.transforms = transforms
    configuration.sinks = ["es", "file", "store"].map { LogSinkConfiguration(name: $0, output: .file(path: "/x")) }
    let trial = LogTrial(configuration, source: "app", arrival: noon)
    #expect(withBytes("WARN x") { trial.run($0) }.sinks == ["es", "store"])
    #expect(withBytes("{\"audit\":1}") { trial.run($0) }.sinks == ["es", "file", "store"])
  }

  @Test func aSpoolReaderPassesOverWhatIsRoutedElsewhere() throws {
    let builder = SpoolBatchBuilder(source: "app")
    let encoder = RecordEncoder(source: "app")
    for line in ["INFO a", "ERROR b", "INFO c"] {
      _ = builder.add(delta: 0) { arena in
        withBytes(line) { encoder.encode($0, stream: .stdout, arrival: noon, redactor: nil, into: arena) }
      }
    }
    builder.finish(sequence: 0, identity: 1, start: 0, end: 10, time: noon)
    var view = try #require(SpoolBatchView(builder.arena.bytes))
    view.filter = ConditionMatcher(try LogCondition("level >= error"))
    #expect(view.next()?.bytes.text.contains("ERROR b") == true)
    #expect(view.next() == nil)
  }

  @Test func testsOfTheConfiguration() throws {
    var configuration = LogsConfiguration()
    configuration.sources = [LogSourceConfiguration(name: "app", input: .app)]
    configuration.sinks = [LogSinkConfiguration(name: "store", output: .store(path: nil, keep: 1))]
    configuration.transforms = [.redact(rules([.email])), .filter(try LogCondition("level == debug"), keep: false)]
    var test = LogTest(name: "t", input: ["{\"to\":\"a@b.org\",\"n\":1}"])
    test.expect = [.init(field: "to", value: "***"), .init(field: "n", value: "1")]
    test.sinks = ["store"]
    test.absent = ["x"]
    #expect(LogTrial.failures(of: test, configuration).isEmpty)
    test.expect = [.init(field: "to", value: "a"), .init(field: "q", value: "1")]
    test.absent = ["n"]
    test.sinks = []
    #expect(LogTrial.failures(of: test, configuration).count == 4)
    test.dropped = true
    #expect(LogTrial.failures(of: test, configuration).count == 1)
    test.input = ["DEBUG x"]
    #expect(LogTrial.failures(of: test, configuration).isEmpty)
    test.dropped = false
    #expect(LogTrial.failures(of: test, configuration) == ["the record was dropped"])
  }
}

func rules(_ patterns: [RedactionRules.Pattern] = [], fields: [String] = []) -> RedactionRules {
  var rules = RedactionRules()
  rules.patterns = patterns
  rules.fields = fields
  return rules
}

/// Lines that arrive when the test says.
private final class Lines {
  private let encoder: RecordEncoder
  private let arena = ByteArena()

  init(_ transforms: LogTransform...) { encoder = RecordEncoder(source: "app", transforms: transforms) }

  func add(_ line: String, at second: Int) -> String? {
    arena.removeAll()
    let mark = withBytes(line) {
      encoder.encode($0, stream: .stdout, arrival: noon + Int64(second) * 1_000_000_000, redactor: nil, into: arena)
    }
    return mark == nil ? nil : arena.bytes.text
  }
}

@Suite struct RollBackTests {
  /// Lines that the spool did not take come again: they are no repetition, use no allowance twice, and count once.
  @Test func whatTheSpoolDidNotTakeIsForgotten() throws {
    let metrics = MetricRegistry()
    var limit = RateLimitRule(records: 3)
    limit.key = FieldPath("user")
    var sample = SampleRule(rate: 0.5)
    sample.seed = 4
    var count = LogMetricRule(name: "seen_total")
    count.labels = [FieldPath("user")]
    let encoder = RecordEncoder(
      source: "app",
      transforms: [
        .sample(sample), .dedupe(DedupeRule()), .rateLimit(limit), .metric(count), .redact(rules([.email])),
      ], metrics: metrics)
    let lines = (0..<60).map { "{\"user\":\"u\($0 % 2)\",\"n\":\($0 / 2 % 8),\"to\":\"a@b.org\"}" }
    func pass() -> [String?] { lines.map { encode($0, encoder) } }
    let first = pass()
    for _ in 0..<3 {
      encoder.rollBack()
      #expect(pass() == first)
    }
    encoder.commit()
    #expect(first.compactMap { $0 }.count == 6)
    let text = metrics.prometheusText()
    #expect(text.contains("seen_total{user=\"u0\"} 3\n"))
    #expect(text.contains("outrider_log_redactions_total{source=\"app\",pattern=\"email\"} 6\n"))
    // What is committed is remembered.
    #expect(pass().compactMap { $0 }.isEmpty)
    encoder.rollBack()
    #expect(metrics.prometheusText() == text)
  }

  @Test func aSmallTableComesBackAsItWas() {
    var rule = DedupeRule()
    rule.keys = 3
    let encoder = RecordEncoder(source: "app", transforms: [.dedupe(rule)])
    func pass(_ lines: [String]) -> [Bool] { lines.map { encode($0, encoder) != nil } }
    #expect(pass(["a", "b", "c"]) == [true, true, true])
    encoder.commit()
    for _ in 0..<3 {
      #expect(pass(["d", "e", "a", "e", "b"]) == [true, true, true, false, true])
      encoder.rollBack()
    }
    #expect(pass(["a", "b", "c"]) == [false, false, false])
  }
}
