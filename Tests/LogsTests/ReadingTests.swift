import Logs
import RegularExpressions
import Testing

@Suite struct TimestampFormatTests {
  /// 2026-01-31T12:00:00Z, and the same in other spellings. The arrival is four hours later.
  @Test(arguments: [
    ("rfc3339", "2026-01-31T12:00:00Z"), ("epoch", "1769860800"), ("epoch", "1769860800.000"),
    ("epoch_ms", "1769860800000"), ("epoch_us", "1769860800000000"), ("epoch_ns", "1769860800000000000"),
    ("%Y-%m-%d %H:%M:%S", "2026-01-31 12:00:00"), ("%d/%b/%Y:%H:%M:%S %z", "31/Jan/2026:13:00:00 +0100"),
    ("%b %e %T", "Jan 31 12:00:00"), ("%H:%M:%S.%f", "12:00:00.000"),
    ("%a, %d %b %Y %H:%M:%S %Z", "Sat, 31 Jan 2026 12:00:00 GMT"),
    ("%m/%d/%y %I:%M:%S %p", "01/31/26 12:00:00 PM"), ("%Y%j%H%M%S", "2026031120000"), ("%s", "1769860800"),
    ("%FT%T%z", "2026-01-31T12:00:00Z"), ("%FT%R%z", "2026-01-31T06:30-05:30"),
  ]) func readsNoon(_ format: String, _ text: String) throws {
    let format = try #require(TimestampFormat(format, zone: .fixed(0)))
    withBytes(text) { #expect(format.parseWhole($0, arrival: noon + 14_400_000_000_000) == noon) }
  }

  @Test func digitsOfASecond() throws {
    for (format, text, rest) in [
      ("epoch", "1769860800.25", 250_000_000), ("epoch_ms", "1769860800001.5", 1_500_000),
      ("%F %T,%L", "2026-01-31 12:00:00,123", 123_000_000), ("%F %T.%N", "2026-01-31 12:00:00.1234567891", 123_456_789),
    ] {
      let format = try #require(TimestampFormat(format, zone: .fixed(0)))
      withBytes(text) { #expect(format.parseWhole($0, arrival: noon) == noon + Int64(rest)) }
    }
  }

  @Test func aDateWithoutItsYearIsTheNearest() throws {
    let format = try #require(TimestampFormat("%b %d %H:%M:%S", zone: .fixed(3600)))
    let newYear = noon - 31 * 86_400_000_000_000 + 43_200_000_000_000  // 2026-01-01T00:00:00Z
    withBytes("Dec 31 23:59:59") {
      #expect(format.parse($0, arrival: newYear)?.time == newYear - 3_601_000_000_000)
    }
    withBytes("Feb 29 00:00:00") { #expect(format.parse($0, arrival: newYear) == nil, "no such day near 2026") }
  }

  @Test(arguments: [
    ("epoch", ""), ("epoch", "x"), ("epoch_ns", "99999999999999999999"), ("epoch", "9999999999999999999"),
    ("%Y", "20a6"), ("%m", "13"), ("%d", "32"), ("%H", "24"), ("%M", "60"), ("%S", "61"), ("%b", "Foo"),
    ("%z", "+9900"),
    ("%F", "2026-02-30"), ("rfc3339", "2026-01-31 12:00:00"), ("%T", "12:00"), ("%j", "367"), ("%p", "XM"),
  ]) func refuses(_ format: String, _ text: String) throws {
    let format = try #require(TimestampFormat(format, zone: .fixed(0)))
    withBytes(text) { #expect(format.parseWhole($0, arrival: noon) == nil) }
  }

  @Test(arguments: ["", "iso", "%", "%Q", "%Y-%"]) func formatsThatAreNone(_ text: String) {
    #expect(TimestampFormat(text, zone: .local) == nil)
  }
}

@Suite struct RecordReadingTests {
  func encode(_ line: String, _ rule: TimestampRule?, time: Int64? = nil) -> (text: String, mark: RecordMark)? {
    let encoder = RecordEncoder(source: "s", timestamp: rule)
    let arena = ByteArena()
    return withBytes(line) { bytes in
      encoder.encode(bytes, stream: .none, arrival: noon + 5_000_000_000, time: time, redactor: nil, into: arena)
        .map { (arena.bytes.text, $0) }
    }
  }

  @Test func theRuleNamesTheTime() throws {
    let epoch = TimestampRule(field: "when", format: try #require(TimestampFormat("epoch_ms", zone: .local)))
    for line in [
      "{\"when\":1769860800000,\"time\":\"2020-01-01T00:00:00Z\"}", "{\"when\":\"1769860800000\"}",
      "a=1 when=1769860800000",
    ] {
      let record = try #require(encode(line, epoch))
      #expect(record.mark.time == noon && record.text.contains("\"observed_timestamp\":\"2026-01-31T12:00:05.000Z\""))
    }
    #expect(encode("{\"when\":\"soon\",\"time\":\"2026-01-31T12:00:01Z\"}", epoch)?.mark.time == noon + 1_000_000_000)
    let beginning = TimestampRule(format: try #require(TimestampFormat("%F %T,%f", zone: .fixed(0))))
    #expect(encode("2026-01-31 12:00:00,5 INFO x", beginning)?.mark.time == noon + 500_000_000)
    #expect(encode("{\"ts\":\"2026-01-31 12:00:00,5\"}", beginning)?.mark.time == noon + 500_000_000)
    #expect(encode("INFO x", beginning)?.mark.time == noon + 5_000_000_000)
  }

  @Test func theTimeThatCameWithTheLine() {
    #expect(encode("text", nil, time: noon)?.mark.time == noon)
    #expect(encode("{\"time\":\"2026-01-31T12:00:01Z\"}", nil, time: noon)?.mark.time == noon + 1_000_000_000)
    #expect(encode("{\"a\":1}", nil, time: noon)?.text.contains("\"@timestamp\":\"2026-01-31T12:00:00.000Z\"") == true)
  }

  @Test func namedGroupsBecomeFields() throws {
    let reader = PatternReader(try RegularExpression(#"^(?<ip>\S+) (\S+) "(?<request>[^"]*)" (?<status>\d+)?"#))
    let arena = ByteArena()
    #expect(withBytes(#"10.0.0.1 - "GET /\x" 200"#) { reader.write($0, into: arena) })
    #expect(
      arena.bytes.text
        == #"{"message":"10.0.0.1 - \"GET /\\x\" 200","ip":"10.0.0.1","request":"GET /\\x","status":"200"}"#)
    arena.removeAll()
    #expect(withBytes(#"10.0.0.1 - "" "#) { reader.write($0, into: arena) })
    #expect(arena.bytes.text.hasSuffix(#""request":""}"#), "a group that took no part is no field")
    arena.removeAll()
    #expect(withBytes("no match") { !reader.write($0, into: arena) } && arena.count == 0)
    let endless = PatternReader(try RegularExpression("^(?<message>(a+)+)$"))
    #expect(withBytes(String(repeating: "a", count: 40) + "!") { !endless.write($0, into: arena) } && arena.count == 0)
  }
}

@Suite struct SyslogMessageTests {
  func read(_ line: String) -> (json: String, time: Int64?)? {
    let arena = ByteArena()
    return withBytes(line) { bytes in
      SyslogMessage.write(bytes, arrival: noon, zone: .fixed(0), into: arena).map { (arena.bytes.text, $0.time) }
    }
  }

  /// The examples of RFC 5424 section 6.5, RFC 3164 section 5.4, and what logger, rsyslog and syslog-ng send.
  @Test(arguments: [
    (
      "<34>1 2026-01-31T12:00:00.003Z mymachine.example.com su - ID47 - \u{FEFF}'su root' failed on /dev/pts/8",
      #"{"message":"'su root' failed on /dev/pts/8","host":"mymachine.example.com","app":"su","msgid":"ID47","facility":"auth","severity":"crit"}"#
    ),
    (
      #"<165>1 - - evntslog - ID47 [exampleSDID@32473 iut="3" eventSource="App\"l\]i\\c"][examplePriority@32473 class="high"] An event"#,
      #"{"message":"An event","app":"evntslog","msgid":"ID47","facility":"local4","severity":"notice","structured_data":{"exampleSDID@32473":{"iut":"3","eventSource":"App\"l]i\\c"},"examplePriority@32473":{"class":"high"}}}"#
    ),
    (
      "<165>1 2026-01-31T12:00:00Z host app 8710 - -",
      #"{"message":"","host":"host","app":"app","pid":"8710","facility":"local4","severity":"notice"}"#
    ),
    (
      "<34>Jan 31 12:00:00 mymachine su: 'su root' failed for lonvick on /dev/pts/8",
      #"{"message":"'su root' failed for lonvick on /dev/pts/8","host":"mymachine","app":"su","facility":"auth","severity":"crit"}"#
    ),
    (
      "<13>2026-01-31T12:00:00.000001+00:00 box shop[12]: order 17",
      #"{"message":"order 17","host":"box","app":"shop","pid":"12","facility":"user","severity":"notice"}"#
    ),
    (
      "<13>Jan  1 12:00:00 shop[12]: no host",
      #"{"message":"no host","app":"shop","pid":"12","facility":"user","severity":"notice"}"#
    ),
    ("<0>Use the BFG!", #"{"message":"Use the BFG!","facility":"kern","severity":"emerg"}"#),
  ]) func reads(_ line: String, _ json: String) { #expect(read(line)?.json == json) }

  @Test func times() {
    #expect(read("<34>1 2026-01-31T12:00:00.003Z h a - - - x")?.time == noon + 3_000_000)
    #expect(read("<34>Jan 31 12:00:00 h a: x")?.time == noon)
    #expect(read("<34>1 - h a - - - x").map { $0.time == nil } == true)
  }

  @Test(arguments: [
    "", "<", "<>x", "<192>x", "<034>x", "<1a>x", "34>x", "text", "<34>1 ", "<34>1 x h a - - - m", "<34>1 - - - -",
    "<34>1 - - - - - [", "<34>1 - - - - - [a b]", "<34>1 - - - - - [a b=\"c]", "<34>1 - - - - - [a]x",
    "<34>1 -  a - - - m",
  ]) func refuses(_ line: String) { #expect(read(line) == nil) }
}
