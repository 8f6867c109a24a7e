import Foundation
import Logs
import Testing
import Vocabulary

@Suite struct SinkFormatTests {
  let first = #"{"@timestamp":"2026-01-31T12:00:00.000Z","source":"app","level":"warn","message":"a \"b\"","n":1.50}"#
  let second = #"{"@timestamp":"2026-01-31T12:00:00.001Z","source":"web","message":"x","user":"U1"}"#

  func batch() -> SinkBatch {
    let batch = SinkBatch()
    batch.add(first, level: .warn)
    batch.add(second, source: "web", time: noon + 1_234_567, level: .unknown)
    return batch
  }

  func reply(_ status: Int, _ body: String = "", after: Duration? = nil) -> SinkAnswer {
    .reply(status: status, retryAfter: after, body: Array(body.utf8))
  }

  @Test func linesAndArrays() {
    #expect(text(JSONLinesFormat(isArray: false).encode(batch(), [0, 1])) == first + "\n" + second + "\n")
    #expect(text(JSONLinesFormat(isArray: false).encode(batch(), [1])) == second + "\n")
    #expect(text(JSONLinesFormat(isArray: true).encode(batch(), [0, 1])) == "[" + first + "," + second + "]")
  }

  @Test func statusesOfHTTP() {
    let format = JSONLinesFormat(isArray: false)
    for status in [200, 201, 204] { #expect(format.judge(reply(status), items: 3) == .stored) }
    #expect(format.judge(reply(429, "slow", after: .seconds(7)), items: 3) == .again("429 slow", after: .seconds(7)))
    for status in [301, 401, 403, 404, 500, 503] {
      #expect(format.judge(reply(status), items: 3) == .again("\(status)"))
    }
    for status in [400, 413, 422] { #expect(format.judge(reply(status, "a\nb"), items: 3) == .split("\(status) a b")) }
    #expect(format.judge(.failed("x"), items: 1) == .again("x"))
  }

  @Test func splunkEvents() {
    var options = LogSinkConfiguration.SplunkOutput(urls: [], token: SecretTemplate(literal: "t"))
    options.index = "shop"
    let body = text(SplunkFormat(options, host: "h\"1").encode(batch(), [0, 1]))
    #expect(
      body == #"{"time":1769860800.000,"host":"h\"1","source":"app","sourcetype":"_json","index":"shop","event":"#
        + first + "}\n"
        + #"{"time":1769860800.001,"host":"h\"1","source":"web","sourcetype":"_json","index":"shop","event":"#
        + second + "}\n")
  }

  @Test func splunkCodes() {
    let format = SplunkFormat(.init(urls: [], token: SecretTemplate(literal: "t")), host: "h")
    func judge(_ status: Int, _ code: Int, _ more: String = "", items: Int = 3) -> SinkJudgement {
      format.judge(reply(status, "{\"text\":\"told\",\"code\":\(code)\(more)}"), items: items)
    }
    #expect(judge(200, 0) == .stored)
    for code in [9, 20, 23] { #expect(judge(503, code) == .again("503 code \(code): told")) }
    #expect(judge(500, 8) == .again("500 code 8: told"))
    for code in [1, 2, 3, 4, 7, 10, 11, 14] {
      guard case .halt(let reason) = judge(403, code) else {
        Issue.record("code \(code) must stop the sink")
        continue
      }
      #expect(reason.contains("code \(code)"))
    }
    let bad = "400 code 6: told"
    #expect(judge(400, 6, ",\"invalid-event-number\":1") == .items([.again(bad), .refused(bad), .again(bad)]))
    #expect(judge(400, 6, ",\"invalid-event-number\":9") == .split(bad))
    #expect(judge(400, 12, ",\"invalid-event-number\":0", items: 1) == .split("400 code 12: told"))
    #expect(format.judge(reply(413, "too large"), items: 2) == .split("413 too large"))
    #expect(format.judge(reply(503, "<html>"), items: 2) == .again("503 <html>"))
    // A page of something else is no success.
    guard case .again = format.judge(reply(200, "<html>"), items: 2) else {
      Issue.record("an answer without a code is no success")
      return
    }
  }

  @Test func splunkAcknowledgements() {
    func isAcknowledged(_ body: String) -> Bool? { withBytes(body) { SplunkReply.isAcknowledged($0, 7) } }
    #expect(isAcknowledged(#"{"acks":{"7":true}}"#) == true)
    #expect(isAcknowledged(#"{"acks":{"7":false}}"#) == false)
    #expect(isAcknowledged(#"{"acks":{"77":true}}"#) == false)
    #expect(isAcknowledged(#"{"acks":[7]}"#) == nil)
    #expect(isAcknowledged("{}") == nil)
  }

  @Test func lokiStreams() throws {
    let format = LokiFormat(
      .init(
        urls: [],
        labels: [.init(name: "job", value: "shop-50%"), .init(name: "user", value: "${user}")]))
    let batch = batch()
    batch.add(#"{"user":"U1","n":3}"#, time: noon)
    batch.add(#"{"user":"U1","n":4}"#, time: noon)
    let body = try JSONParser.parse(format.encode(batch, [0, 1, 2, 3]))
    let expected = try JSONParser.parse(
      Array(
        """
        {"streams":[{"stream":{"job":"shop-50%"},"values":[["\(noon)",\(JSONNode.quote(first))]]},
        {"stream":{"job":"shop-50%","user":"U1"},"values":[["\(noon)","{\\"user\\":\\"U1\\",\\"n\\":3}"],
        ["\(noon)","{\\"user\\":\\"U1\\",\\"n\\":4}"],["\(noon + 1_234_567)",\(JSONNode.quote(second))]]}]}
        """.utf8))
    #expect(body == expected)
    #expect(format.keepsOrder)
  }

  @Test func lokiLabelsAreBounded() throws {
    var options = LogSinkConfiguration.LokiOutput(urls: [], labels: [.init(name: "user", value: "${user}")])
    options.labelValues = 2
    let format = LokiFormat(options)
    let batch = SinkBatch()
    for user in ["a", "b", "c", "d", "a"] { batch.add("{\"user\":\"\(user)\"}") }
    batch.add("{}")
    let body = text(format.encode(batch, Array(0..<6)))
    #expect(body.components(separatedBy: "\"stream\":").count == 5)
    for labels in [#"{"user":"a"}"#, #"{"user":"b"}"#, #"{"user":"other"}"#, #"{"source":"app"}"#] {
      #expect(body.contains("\"stream\":" + labels))
    }
    // The bound holds from batch to batch.
    let later = SinkBatch()
    later.add("{\"user\":\"e\"}")
    #expect(text(format.encode(later, [0])).contains(#"{"user":"other"}"#))
  }

  @Test func otlpAnswers() {
    let format = OTLPLogsFormat(.init(urls: []), host: "h")
    #expect(format.judge(reply(200), items: 2) == .stored)
    #expect(format.judge(reply(200, "{}"), items: 2) == .stored)
    let partial: [UInt8] = [0x0A, 0x08, 0x08, 0x01, 0x12, 0x04] + Array("full".utf8)
    let rejected = SinkAnswer.reply(status: 200, retryAfter: nil, body: partial)
    #expect(format.judge(rejected, items: 2) == .refused("the receiver rejected 1 of 2 records: full"))
    guard case .again = format.judge(reply(200, "<html>"), items: 2) else {
      Issue.record("a page is no success")
      return
    }
    for status in [429, 502, 503, 504] {
      #expect(format.judge(reply(status, after: .seconds(3)), items: 2) == .again("\(status)", after: .seconds(3)))
    }
    #expect(format.judge(reply(500), items: 2) == .refused("500"))
    #expect(format.judge(reply(400), items: 2) == .split("400"))
  }

  @Test func protobufLengths() {
    // A message of 200 bytes has a length of two bytes, one of 20,000 three.
    for size in [0, 127, 128, 200, 16383, 16384, 20_000] {
      let arena = ByteArena()
      arena.append(field: 3) { arena.zeros(size) }
      var reader = ProtobufReader(arena.bytes)
      guard let (field, value) = reader.next(), case .bytes(let bytes) = value else {
        Issue.record("a message of \(size)")
        continue
      }
      #expect(field == 3 && bytes.count == size && bytes.allSatisfy { $0 == 0 })
      #expect(reader.next() == nil && !reader.isBroken)
    }
    for broken in [[0x0A, 0x05, 1], [0x0B], [0x08], [0x00, 0x00], [0x08] + Array(repeating: 0xFF, count: 10)]
      as [[UInt8]]
    {
      broken.withUnsafeBytes { bytes in
        var reader = ProtobufReader(bytes)
        while reader.next() != nil {}
        #expect(reader.isBroken)
      }
    }
  }

  @Test func circuit() {
    var circuit = SinkCircuit()
    #expect(circuit.enter(at: 0) == nil && circuit.enter(at: 0) == nil)
    circuit.failed(at: 10, wait: 100)
    #expect(circuit.enter(at: 60) == 50 && circuit.failures == 1)
    #expect(circuit.enter(at: 110) == nil, "one may try")
    #expect(circuit.enter(at: 110) == SinkCircuit.look, "and only one")
    circuit.failed(at: 120, wait: 1000)
    #expect(circuit.enter(at: 200) == 920 && circuit.failures == 2)
    #expect(circuit.enter(at: 1120) == nil)
    circuit.succeeded()
    #expect(circuit.enter(at: 1121) == nil && circuit.enter(at: 1121) == nil && circuit.failures == 0)
  }
}

@Suite struct StreamSinkFormatTests {
  @Test func syslogFrames() {
    let batch = SinkBatch()
    let record = #"{"level":"warn","message":"a \"b\" é"}"#
    batch.add(record, source: "my app", time: noon + 1_234_567, level: .warn)
    var options = LogSinkConfiguration.SyslogOutput(addresses: [])
    let head = "<132>1 2026-01-31T12:00:00.001234Z h_1 my_app - - - "
    #expect(
      text(SyslogFormat(options, host: "h 1").encode(batch, [0]))
        == "\((head + record).utf8.count) \(head)\(record)")
    options.isText = true
    options.name = "shop"
    options.facility = 0
    let plain = "<4>1 2026-01-31T12:00:00.001234Z - shop - - - a \"b\" é"
    #expect(
      text(SyslogFormat(options, host: "").encode(batch, [0, 0]))
        == String(repeating: "\(plain.utf8.count) \(plain)", count: 2))
  }

  func pack(_ json: String) -> [UInt8] {
    let arena = ByteArena()
    withBytes(json) { arena.append(messagePackOf: $0, depth: 4) }
    return Array(arena.bytes)
  }

  /// Against the table of the MessagePack specification.
  @Test func messagePackForms() {
    #expect(pack("null") == [0xC0] && pack("true") == [0xC3] && pack("false") == [0xC2])
    #expect(pack("0") == [0] && pack("127") == [0x7F] && pack("-1") == [0xFF] && pack("-32") == [0xE0])
    #expect(pack("128") == [0xD2, 0, 0, 0, 128] && pack("-33") == [0xD2, 0xFF, 0xFF, 0xFF, 0xDF])
    #expect(pack("4294967296") == [0xD3, 0, 0, 0, 1, 0, 0, 0, 0])
    #expect(pack("1.5") == [0xCB, 0x3F, 0xF8, 0, 0, 0, 0, 0, 0])
    #expect(pack("1e999") == [0xA5] + Array("1e999".utf8))
    #expect(pack(#""a\nb""#) == [0xA3, 0x61, 0x0A, 0x62])
    #expect(pack(#"{"a":[1,{}]}"#) == [0x81, 0xA1, 0x61, 0x92, 1, 0x80])
    #expect(pack("[[[[[1]]]]]") == [0x91, 0x91, 0x91, 0x91, 0xA3] + Array("[1]".utf8))
    for (size, head) in [
      (31, [0xBF]), (32, [0xD9, 32]), (255, [0xD9, 255]), (256, [0xDA, 1, 0]), (65536, [0xDB, 0, 1, 0, 0]),
    ] as [(Int, [UInt8])] {
      #expect(pack("\"" + String(repeating: "x", count: size) + "\"").prefix(head.count) == head[...])
    }
    let array = "[" + Array(repeating: "1", count: 16).joined(separator: ",") + "]"
    #expect(pack(array).prefix(3) == [0xDC, 0, 16])
  }

  @Test func forwardEntriesAndMessages() {
    let batch = SinkBatch()
    batch.add(#"{"m":"x"}"#, time: 1_000_000_002)
    let entry: [UInt8] = [0x92, 0xD7, 0, 0, 0, 0, 1, 0, 0, 0, 2, 0x81, 0xA1, 0x6D, 0xA1, 0x78]
    #expect(ForwardFormat().encode(batch, [0]) == entry)
    let message = ForwardRequest.packed(tag: "t", entries: entry, size: 1, chunk: "c", compressed: true)
    #expect(
      message == [0x93, 0xA1, 0x74, 0xC4, 16] + entry + [0x83, 0xA4] + Array("size".utf8) + [1, 0xA5]
        + Array("chunk".utf8) + [0xA1, 0x63, 0xAA] + Array("compressed".utf8) + [0xA4] + Array("gzip".utf8))
  }

  @Test func forwardAnswers() {
    let ack = [0x81, 0xA3] + Array("ack".utf8) + [0xA1, 0x63]
    for count in 0..<ack.count {
      #expect(ack[..<count].withUnsafeBytes { ForwardValue.read($0) } == .incomplete)
    }
    guard case .value(let value, let length) = ack.withUnsafeBytes({ ForwardValue.read($0) }) else {
      Issue.record("an acknowledgement")
      return
    }
    #expect(length == ack.count && value.member("ack")?.octets == [0x63] && value.member("ac") == nil)
    for bomb in [
      [0xDD, 0xFF, 0xFF, 0xFF, 0xFF], Array(repeating: 0x91, count: 100), [0xC1], [0xC6, 0xFF, 0xFF, 0xFF, 0xFF],
    ]
      as [[UInt8]]
    {
      #expect(bomb.withUnsafeBytes { ForwardValue.read($0) } == .invalid)
    }
    let salt: [UInt8] = [1]
    let nonce: [UInt8] = [2]
    let key: [UInt8] = [3]
    let digest = ForwardRequest.digest(salt, Array("s".utf8), nonce, key)
    func pong(_ flag: Bool, _ digest: String) -> ForwardValue {
      .list(["PONG", "", "no", "s", digest].enumerated().map { $0 == 1 ? .flag(flag) : .bytes(Array($1.utf8)) })
    }
    #expect(pong(true, digest).problemOfPong(salt: salt, nonce: nonce, key: key) == nil)
    #expect(pong(true, "x").problemOfPong(salt: salt, nonce: nonce, key: key)?.contains("does not know") == true)
    #expect(pong(false, digest).problemOfPong(salt: salt, nonce: nonce, key: key) == "the server refused the login: no")
  }
}

@Suite struct FileRotationTests {
  @Test func dueBySizeAndByPeriod() {
    var rotation = FileRotation()
    rotation.size = 100
    #expect(!rotation.isDue(size: 0, adding: 1000, modified: 0, now: noon))
    #expect(!rotation.isDue(size: 60, adding: 40, modified: 0, now: noon))
    #expect(rotation.isDue(size: 60, adding: 41, modified: noon, now: noon))
    var daily = FileRotation()
    daily.every = .seconds(86400)
    let midnight = noon + 43200 * 1_000_000_000
    #expect(!daily.isDue(size: 1, adding: 1, modified: noon, now: midnight - 1))
    #expect(daily.isDue(size: 1, adding: 1, modified: midnight - 1, now: midnight))
    #expect(!daily.isDue(size: 1, adding: 1, modified: midnight, now: noon), "a clock that was set back")
  }
}

@Suite struct DeadLetterTests {
  @Test func whatIsWrittenIsRead() throws {
    let arena = ByteArena()
    let record =
      #"{"@timestamp":"2026-01-31T12:00:00.000Z","source":"web","stream":"stderr","level":"warn","message":"x"}"#
    withBytes(record + "\n") {
      BulkResponse.deadLetter(reason: "400 \"no\"", sink: "es", time: noon, record: $0, into: arena)
    }
    let line = arena.bytes.part(0..<arena.count - 1)
    let letter = try #require(DeadLetter(line))
    #expect(letter.reason == "400 \"no\"" && letter.time == "2026-01-31T12:00:00.000Z")
    #expect(line.part(letter.record).text == record)
    let (mark, source) = DeadLetter.mark(of: line.part(letter.record), now: 1)
    #expect(mark.time == noon && mark.level == .warn && mark.stream == .stderr && source == "web")
  }

  @Test(arguments: [
    "", "{}", "[]", #"{"reason":"a"}"#, #"{"reason":"a","record":[]}"#, #"{"reason":1,"record":{}}"#,
    #"{"reason":"a","record":{}"#,
  ])
  func whatIsNoLetter(line: String) { #expect(withBytes(line) { DeadLetter($0) } == nil) }
}
