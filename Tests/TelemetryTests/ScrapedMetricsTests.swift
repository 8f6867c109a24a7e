import Telemetry
import Testing

@Suite struct ScrapedMetricsTests {
  private func merged(_ texts: [String], taken: Set<String> = []) throws -> String {
    var text = ""
    let sources = try texts.enumerated().map { ("http://t\($0.offset)/m", try ScrapedMetrics($0.element)) }
    ScrapedMetrics.write(sources, taken: taken, to: &text)
    return text
  }

  @Test func everyKindKeepsItsBytes() throws {
    let text = """
      # HELP http_requests_total The \\n total.
      # TYPE http_requests_total counter
      http_requests_total{method="post",code="200"} 1027 1395066363000
      http_requests_total{ method = "a\\"b\\\\c,}" , } 3

      # A comment
      # TYPE rpc_seconds histogram
      rpc_seconds_bucket{le="0.05"} 24054
      rpc_seconds_bucket{le="+Inf"} 144320
      rpc_seconds_sum 53423.5e-1
      rpc_seconds_count 144320
      untyped_thing -Inf
        other:thing \t NaN
      """
    #expect(
      try merged([text]) == """
        # HELP http_requests_total The \\n total.
        # TYPE http_requests_total counter
        http_requests_total{method="post",code="200"} 1027 1395066363000
        http_requests_total{ method = "a\\"b\\\\c,}"} 3
        # TYPE other:thing untyped
        other:thing NaN
        # TYPE rpc_seconds histogram
        rpc_seconds_bucket{le="0.05"} 24054
        rpc_seconds_bucket{le="+Inf"} 144320
        rpc_seconds_sum 53423.5e-1
        rpc_seconds_count 144320
        # TYPE untyped_thing untyped
        untyped_thing -Inf

        """)
    #expect(try ScrapedMetrics(text).count == 8)
  }

  @Test func namesDoNotClash() throws {
    let one = "# TYPE up gauge\nup 1\n# TYPE mine counter\nmine{a=\"b\"} 2\n"
    #expect(
      try merged([one], taken: ["up", "app_up"])
        == "# TYPE mine counter\nmine{a=\"b\"} 2\n# TYPE app_app_up gauge\napp_app_up 1\n")
    let other = "# TYPE up counter\nup 7\n# TYPE mine counter\nmine 3\n"
    #expect(
      try merged([one, other])
        == "# TYPE mine counter\nmine{a=\"b\",target=\"http://t0/m\"} 2\nmine{target=\"http://t1/m\"} 3\n"
        + "# TYPE up gauge\nup{target=\"http://t0/m\"} 1\n")
  }

  @Test(arguments: [
    ("a b", 1), ("a{b=\"c} 1", 1), ("ok 1\n1a 2", 2), ("a{b=c} 1", 1), ("a{b=\"\\x\"} 1", 1), ("a 1 2 3", 1), ("a", 1),
    ("a 1\na 2", 2), ("a{x=\"1\"} 1\n\n# TYPE a counter", 3), ("# TYPE a strange\n", 1), ("# TYPE 1 counter", 1),
    ("a{b=\"1\" c=\"2\"} 1", 1), ("a 0x10", 1), ("a infinity", 1), ("<html>", 1), ("a 1 x", 1),
    ("# TYPE a gauge\n# TYPE a gauge", 2),
  ]) func malformed(text: String, line: Int) {
    #expect { try ScrapedMetrics(text) } throws: { ($0 as? ScrapedMetrics.Malformed)?.line == line }
  }

  @Test func bounds() {
    let long = "a{b=\"" + String(repeating: "x", count: 70_000) + "\"} 1"
    #expect(throws: ScrapedMetrics.Malformed.self) { try ScrapedMetrics(long) }
    let many = (0...100_000).map { "a\($0) 1\n" }.joined()
    #expect(throws: ScrapedMetrics.Malformed.self) { try ScrapedMetrics(many) }
  }

  @Test func processes() throws {
    let line = "42 (a (b) c) S 7 42 42 0 -1 4194560 1 2 3 4 10 20 30 40 20 0 5 0 100 9999 250 18446744073709551615 1"
    let stat = try #require(ProcessStat(line))
    #expect(stat.parent == 7 && stat.ticks == 100 && stat.threads == 5 && stat.resident == 250)
    for broken in ["", "42", "42 (a) S", "42 (a) S x 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21"] {
      #expect(ProcessStat(broken) == nil)
    }
    func process(_ parent: Int32) -> ProcessStat {
      var process = stat
      process.parent = parent
      return process
    }
    let all = [Int32(1): process(0), 10: process(1), 11: process(10), 12: process(11), 20: process(1), 30: process(30)]
    let tree = ProcessTree(root: 10, all)
    #expect(tree.processes == 3 && tree.threads == 15 && tree.ticks == 300 && Set(tree.members) == [10, 11, 12])
    #expect(ProcessTree(root: 30, all).processes == 1)
    #expect(ProcessTree(root: 99, all).processes == 0)
    #expect(ControlGroup.path("1:name=x:/a\n0::/b/c\n") == "/b/c")
    #expect(ControlGroup.path("1:cpu:/a") == nil)
    #expect(ControlGroup.value("usage_usec", in: "usage_usec 12\nuser_usec 3") == 12)
    #expect(ControlGroup.value("usage", in: "usage_usec 12") == nil)
  }
}
