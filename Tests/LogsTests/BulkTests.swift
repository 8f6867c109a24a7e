import Logs
import Resilience
import Testing

@Suite struct BulkTests {
  func parse(_ body: String, _ count: Int, deterministic: Bool = true) -> [BulkVerdict]? {
    withBytes(body) { BulkResponse.parse($0, items: count, deterministicID: deterministic) }
  }

  @Test func verdictsPerItem() {
    let body = """
      {"took":1,"errors":true,"items":[{"create":{"_index":"i","_id":"1","status":201}},
      {"create":{"status":429,"error":{"type":"es_rejected_execution_exception","reason":"full"}}},
      {"create":{"status":409,"error":{"type":"version_conflict_engine_exception","reason":"exists"}}},
      {"create":{"status":400,"error":{"type":"mapper_parsing_exception","reason":"no \\"int\\""}}}]}
      """
    #expect(
      parse(body, 4) == [
        .stored, .again("429 es_rejected_execution_exception: full"), .stored,
        .refused("400 mapper_parsing_exception: no \"int\""),
      ])
    #expect(parse(body, 4, deterministic: false)?[2] == .refused("409 version_conflict_engine_exception: exists"))
    #expect(parse(body, 3) == nil)
    #expect(parse("<html>", 1) == nil)
    #expect(parse("{\"errors\":false,\"items\":[]}", 1) == nil)
  }

  @Test func wholeStatus() {
    #expect(BulkResponse.whole(status: 200) == .items)
    #expect(BulkResponse.whole(status: 413) == .split)
    for status in [429, 500, 503, 401, 404] { #expect(BulkResponse.whole(status: status) == .again) }
  }

  @Test func bodyLines() {
    var options = LogSinkConfiguration.ElasticsearchOutput(urls: [], index: "shop-%Y.%m.%d-${Env}")
    let batch = SinkBatch()
    batch.add("{\"Env\":\"Pro D\"}", identity: 0xAB, offset: 255)
    batch.add("{}", identity: 0xAB, offset: 0)
    let action = "{\"create\":{\"_index\":\"shop-2026.01.31-pro_d\",\"_id\":\"ab-ff\"}}\n"
    let second = "{\"create\":{\"_index\":\"shop-2026.01.31-unknown\",\"_id\":\"ab-0\"}}\n{}\n"
    #expect(text(BulkFormat(options).encode(batch, [0])) == action + "{\"Env\":\"Pro D\"}\n")
    #expect(text(BulkFormat(options).encode(batch, [0, 1])) == action + "{\"Env\":\"Pro D\"}\n" + second)
    options.deterministicID = false
    #expect(
      text(BulkFormat(options).encode(batch, [1])) == "{\"index\":{\"_index\":\"shop-2026.01.31-unknown\"}}\n{}\n")
  }

  @Test func gzipRoundTrip() {
    var random = SeededRandom(seed: 1)
    for size in [0, 1, 1000, 300_000] {
      let bytes = (0..<size).map { _ in UInt8.random(in: 0...3, using: &random) }
      let packed = bytes.withUnsafeBytes { Gzip.compress($0) }
      #expect(packed?.withUnsafeBytes { Gzip.decompress($0, limit: size) } == bytes)
      if size > 1 { #expect(packed?.withUnsafeBytes { Gzip.decompress($0, limit: size / 2) } == nil) }
    }
  }

  @Test func delaysAreBounded() {
    for attempt in 0..<100 {
      let delay = RetryDelay.next(attempt: attempt, initial: .seconds(1), maximum: .seconds(60), random: 0.999)
      #expect(delay <= .seconds(60) && delay >= .milliseconds(900))
    }
    #expect(RetryDelay.next(attempt: 5, initial: .seconds(1), maximum: .seconds(60), random: 0) == .zero)
  }
}
