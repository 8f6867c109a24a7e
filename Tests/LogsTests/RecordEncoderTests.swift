import Logs
import Resilience
import Testing

@Suite struct RecordEncoderTests {
  let head = "{\"@timestamp\":\"2026-01-31T12:00:00.000Z\",\"source\":\"app\",\"stream\":\"stdout\""

  @Test func text() {
    #expect(encode("hello \"you\"\r") == head + ",\"message\":\"hello \\\"you\\\"\"}\n")
    #expect(encode("2026 ERROR boom") == head + ",\"level\":\"error\",\"message\":\"2026 ERROR boom\"}\n")
    #expect(encode("") == head + ",\"message\":\"\"}\n")
  }

  @Test(arguments: [
    ("WARNING:root:x", LogLevel.warn), ("[info] started", .info), ("I have no errors", .unknown),
    ("error: no such file", .error), ("NOERROR", .unknown), ("x CRITICAL y", .fatal), ("ERROR_CODE=1 2", .unknown),
  ]) func levelInText(line: String, level: LogLevel) {
    #expect(withBytes(line) { LogLevel.find(inText: $0) } == level)
  }

  @Test func jsonPassesThrough() {
    #expect(
      encode("{ \"a\":1.000000000000000000001e400, \"b\":[ ], \"a\":2 }")
        == head + ",\"a\":1.000000000000000000001e400, \"b\":[ ], \"a\":2}\n")
    #expect(encode("{}") == head + "}\n")
    #expect(encode("{\"severity\":\"WARNING\"}") == head + ",\"level\":\"warn\",\"severity\":\"WARNING\"}\n")
    #expect(encode("{\"level\":50,\"msg\":\"x\"}") == head + ",\"level\":50,\"msg\":\"x\"}\n")
    #expect(encode("{\"a\":01}") == head + ",\"message\":\"{\\\"a\\\":01}\"}\n")
  }

  @Test func ownFieldsAreNeverWrittenTwice() throws {
    let line =
      "{\"@timestamp\":\"2026-01-01T00:00:00Z\",\"source\":\"x\",\"stream\":1,\"level\":\"info\",\"message\":\"m\"}"
    let record = try #require(encode(line))
    #expect(
      record.hasPrefix("{\"observed_timestamp\":\"2026-01-31T12:00:00.000Z\",\"outrider.source\":\"app\",\"@time"))
    for key in ["\"@timestamp\"", "\"source\"", "\"stream\"", "\"level\"", "\"message\""] {
      #expect(record.ranges(of: key).count == 1)
    }
  }

  @Test func timeOfTheAppIsTaken() {
    #expect(
      encode("{\"time\":\"2026-01-31T13:00:00.123456+02:00\"}")
        == "{\"@timestamp\":\"2026-01-31T11:00:00.123456Z\",\"observed_timestamp\":\"2026-01-31T12:00:00.000Z\","
        + "\"source\":\"app\",\"stream\":\"stdout\",\"time\":\"2026-01-31T13:00:00.123456+02:00\"}\n")
  }

  @Test func logfmt() {
    #expect(
      encode("level=warn msg=\"a \\\"b\\\"\" n=1")
        == head + ",\"level\":\"warn\",\"message\":\"level=warn msg=\\\"a \\\\\\\"b\\\\\\\"\\\" n=1\","
        + "\"msg\":\"a \\\"b\\\"\",\"n\":\"1\"}\n")
    #expect(encode("a=1 b=2 a=3") == head + ",\"message\":\"a=1 b=2 a=3\"}\n")
    #expect(encode("a=1 and text") == head + ",\"message\":\"a=1 and text\"}\n")
  }

  @Test func invalidUTF8IsKeptAndMarked() {
    let encoder = RecordEncoder(source: "app")
    #expect(
      encode(encoder, Array("a".utf8) + [0xFF])?.0 == head + ",\"message\":\"a\\\\xff\",\"invalid_utf8\":true}\n")
    #expect(
      encode(encoder, Array("{\"a\":\"".utf8) + [0xC3] + Array("\"}".utf8))?.0
        == head + ",\"invalid_utf8\":true,\"a\":\"\\\\xc3\"}\n")
  }

  @Test func transforms() {
    let encoder = RecordEncoder(
      source: "app", transforms: [.add(["env": "prod", "a": "mine"]), .remove(["pw"]), .dropBelow(level: "warn")])
    #expect(encode("{\"a\":1,\"pw\":\"x\"}", encoder) == head + ",\"env\":\"prod\",\"a\":1}\n")
    #expect(encode("INFO nothing", encoder) == nil)
    #expect(encode("{\"level\":\"debug\"}", encoder) == nil)
    #expect(encode("no level", encoder) != nil)
  }

  @Test func everyRecordIsOneLineOfJSONAndTheRawLineComesBack() {
    let encoder = RecordEncoder(source: "app")
    var random = SeededRandom(seed: 42)
    let pieces = ["{", "}", "\"a\":", "1", ",", "\"x\"", "k=v", " ", "\\", "\u{1}", "é", "ERROR", "=", "\"", "\t"]
    for _ in 0..<5000 {
      let line = (0..<Int.random(in: 0...8, using: &random)).map { _ in pieces.randomElement(using: &random)! }.joined()
      guard let (record, mark) = encode(encoder, Array(line.utf8)) else { continue }
      withBytes(record) { bytes in
        #expect(JSONScanner.isValid(bytes), "\(line)")
        #expect(bytes.firstOffset(of: 0x0A) == bytes.count - 1)
        let raw = ByteArena()
        RecordView.appendRaw(bytes, mark, into: raw)
        #expect(raw.bytes.text.filter { !" \t".contains($0) } == line.filter { !" \t".contains($0) })
      }
    }
  }

  @Test func pretty() {
    let shown = withBytes(encode("{\"level\":\"warn\",\"message\":\"a\\u001b[2J\",\"n\":1}")!) {
      RecordView.pretty($0, colour: false)
    }
    #expect(shown == "12:00:00.000 WARN  app a\\x1b[2J n=1")
  }

  @Test func times() {
    for text in ["1970-01-01T00:00:00.000Z", "2000-02-29T23:59:59.000000001Z", "1969-12-31T23:59:59.999Z"] {
      #expect(withBytes(text) { LogTime.parse($0) }.map(LogTime.format) == text)
    }
    for text in ["2025-02-29T00:00:00Z", "2025-01-01T00:00:00", "2025-01-01T24:00:00Z", "2025-1-01T00:00:00Z"] {
      #expect(withBytes(text) { LogTime.parse($0) } == nil)
    }
  }
}
