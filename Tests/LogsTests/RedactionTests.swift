import Logs
import RegularExpressions
import Resilience
import Telemetry
import Testing

@Suite struct RedactionTests {
  private func hidden(_ text: String, _ rules: RedactionRules) -> String? {
    let encoder = RecordEncoder(source: "app", parser: .none, transforms: [.redact(rules)])
    guard let record = encode(text, encoder) else { return nil }
    var message: String?
    withBytes(record) { bytes in
      _ = JSONScanner.object(bytes) { key, value in
        if bytes.part(key).equals("message") { message = JSONText.string(bytes.part(value)) }
      }
    }
    return message
  }

  @Test(arguments: [
    (RedactionRules.Pattern.email, "to jo.doe+x@mail.example.co.uk, now", "to ***, now"),
    (.email, "<a@b.org>; c@d.org.", "<***>; ***."), (.email, "a@b", "a@b"),
    (.email, "@home.org x@.org", "@home.org x@.org"),
    (.email, "a@b@c.org", "a@***"), (.email, "é@bücher.example", "***"),
    (.creditCard, "card 4111 1111 1111 1111 ok", "card *** ok"), (.creditCard, "4111-1111-1111-1111", "***"),
    (.creditCard, "n=4111111111111111;", "n=***;"), (.creditCard, "4111111111111112", "4111111111111112"),
    (.creditCard, "378282246310005 5555555555554444 6011111111111117", "*** *** ***"),
    (.creditCard, "1769860800000 1769860800000000000", "1769860800000 1769860800000000000"),
    (.creditCard, "x4111111111111111", "x4111111111111111"),
    (.creditCard, "41111111111111111111", "41111111111111111111"),
    (.jwt, "t=eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abc-_1 x", "t=*** x"), (.jwt, "eyJ.a.b", "eyJ.a.b"),
    (.jwt, "eyJhbGciOiJub25lIn0.eyJzdWIiOiIxIn0.", "***"),
    (.awsKey, "AKIAIOSFODNN7EXAMPLE ASIAIOSFODNN7EXAMPL", "*** ASIAIOSFODNN7EXAMPL"),
    (.awsKey, "XAKIAIOSFODNN7EXAMPLE", "XAKIAIOSFODNN7EXAMPLE"),
    (.ipv4, "from 10.0.0.255:80, 1.2.3.4.", "from ***:80, ***."),
    (.ipv4, "1.2.3.256 1.2.3 1.2.3.4.5", "1.2.3.256 1.2.3 1.2.3.4.5"),
    (.ipv6, "[2001:db8::1]:443 ::1 fe80::a:b, x", "[***]:443 *** ***, x"),
    (.ipv6, "12:00:01 std::vector aa:bb:cc:dd:ee:ff ::", "12:00:01 std::vector aa:bb:cc:dd:ee:ff ::"),
    (.bearer, "Authorization: Bearer abc.DEF-123_~+/= next", "Authorization: Bearer *** next"),
    (.bearer, "bearer of good newspapers", "bearer of good newspapers"),
  ]) func pattern(pattern: RedactionRules.Pattern, text: String, wanted: String) {
    #expect(hidden(text, rules([pattern])) == wanted)
  }

  @Test func valuesAtAnyDepthAndEscaped() {
    var rules = rules([.email, .creditCard, .jwt], fields: ["Password", "token"])
    rules.expressions = [try! RegularExpression("ORD-\\d+")]
    let encoder = RecordEncoder(source: "app", transforms: [.redact(rules)])
    let line =
      "{\"a\":[{\"m\":\"x\\u0040y.org \\\"q\\\" ORD-77\"},4111111111111111, 1.50],\"card\":4111111111111111,"
      + "\"PASSWORD\":{\"k\":[1,{}]},\"o\":{\"to\\u006ben\" : \"s\\\"}\" , \"z\":1.500},\"n\":12345678901234567890}"
    let record = encode(line, encoder)
    #expect(
      record?.hasSuffix(
        ",\"a\":[{\"m\":\"*** \\\"q\\\" ***\"},\"***\", 1.50],\"card\":\"***\",\"PASSWORD\":\"***\","
          + "\"o\":{\"to\\u006ben\" : \"***\" , \"z\":1.500},\"n\":12345678901234567890}\n") == true, "\(record ?? "")")
  }

  @Test func nothingToHideLeavesTheRecordAlone() {
    let encoder = RecordEncoder(
      source: "app", transforms: [.redact(rules(RedactionRules.Pattern.allCases, fields: ["password"]))])
    let line = "{ \"a\" : 1.50 , \"b\":[ {} ],\"c\":\"\\u0041\" }"
    #expect(encode(line, encoder) == encode(line))
  }

  @Test func anExpressionThatGivesUpHidesTheValueAndKeepsTheRecord() throws {
    let metrics = MetricRegistry()
    var rules = RedactionRules()
    rules.expressions = [try RegularExpression("^(a|aa)+$")]
    let encoder = RecordEncoder(source: "app", transforms: [.redact(rules)], metrics: metrics)
    let record = encode("{\"x\":\"" + String(repeating: "a", count: 300) + "b\",\"y\":\"c\"}", encoder)
    #expect(record?.hasSuffix("\"x\":\"***\",\"y\":\"c\"}\n") == true)
    encoder.commit()
    #expect(metrics.prometheusText().contains("outrider_log_match_limit_total{source=\"app\"} 1\n"))
    #expect(metrics.prometheusText().contains("outrider_log_redactions_total{source=\"app\",pattern=\"regex\"} 1\n"))
  }

  /// Seeded random values within seeded random text: none is left, and every record is still one line of JSON.
  @Test func randomValuesInRandomPlaces() {
    var random = SeededRandom(seed: 11)
    let encoder = RecordEncoder(
      source: "app", transforms: [.redact(rules([.email, .creditCard, .jwt, .awsKey, .ipv4, .ipv6, .bearer]))])
    let letters = Array("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789")
    func word(_ count: Int) -> String { String((0..<count).map { _ in letters.randomElement(using: &random)! }) }
    func number(_ range: ClosedRange<Int>) -> Int { Int.random(in: range, using: &random) }
    for _ in 0..<2000 {
      let value: String
      switch number(0...5) {
      case 0: value = "\(word(6)).\(word(3))@\(word(5)).example"
      case 1:
        let digits = "4" + (0..<14).map { _ in "\(number(0...9))" }.joined()
        var sum = 0
        for (index, digit) in digits.reversed().enumerated() {
          let digit = digit.wholeNumberValue!
          sum += index % 2 == 0 ? (digit > 4 ? digit * 2 - 9 : digit * 2) : digit
        }
        value = digits + "\((10 - sum % 10) % 10)"
      case 2: value = "eyJ\(word(12)).eyJ\(word(20)).\(word(30))"
      case 3: value = "AKIA" + word(16).uppercased()
      case 4: value = "\(number(0...255)).\(number(0...255)).\(number(0...255)).\(number(0...255))"
      default: value = "fd00:" + (0..<7).map { _ in String(number(4096...65535), radix: 16) }.joined(separator: ":")
      }
      let around = [" ", "\"", "(", "=", "\t", ", ", "\\", "<", "é "]
      let text =
        word(4) + around.randomElement(using: &random)! + value + [" ", "\"", ")", ", ", "\t", "\\", ">"].randomElement(
          using: &random)!
      let quoted = String(decoding: JSONText.quoted(text), as: UTF8.self)
      for line in [text, "{\"m\":\(quoted)}", "{\"a\":{\"b\":[1,\(quoted)]}}", "level=info m=\(quoted)"] {
        guard let record = encode(line, encoder) else {
          Issue.record("dropped")
          continue
        }
        #expect(!record.contains(value), "\(line)")
        #expect(withBytes(record) { JSONScanner.isValid($0) })
      }
    }
  }

  /// Random secrets in every form in which they are written, split by `max_record` at random: no piece of six bytes that
  /// tells of them is left.
  @Test func randomSecretsInEveryForm() {
    var random = SeededRandom(seed: 5)
    for round in 0..<60 {
      let secrets = (0..<Int.random(in: 1...40, using: &random)).map { _ in
        (0..<Int.random(in: 8...60, using: &random)).map { _ in
          UInt8(
            ascii: Array("ab+/=&<>\"\\ é%$XYZ019_-".unicodeScalars.filter(\.isASCII)).randomElement(using: &random)!)
        }
      }
      let redactor = Redactor(values: secrets)
      let encoder = RecordEncoder(
        source: "app",
        transforms: round % 2 == 0 ? [] : [.redact(rules([.email])), .rename([RenameRule(from: "q", to: "r")])])
      for secret in secrets {
        let text = String(decoding: secret, as: UTF8.self)
        let json = String(decoding: JSONText.quoted(text).dropFirst().dropLast(), as: UTF8.self)
        for line in ["a \(text) b", "{\"m\":\"\(json)\"}", "{\"m\":\"x\",\"q\":[\"\(json)\"]}", "k=v url=\(text)"] {
          let record = encode(encoder, Array(line.utf8), redactor: redactor)?.0 ?? ""
          #expect(!record.contains(json))
          #expect(!record.contains(text) || json == text && text.utf8.count < Redactor.minimumLength)
        }
        // However long the pieces are.
        let line = Array("start \(text) end".utf8)
        let at = Int.random(in: 1..<line.count, using: &random)
        let cut = line.withUnsafeBytes { redactor.safeCut($0, at: at) }
        let pieces = [Array(line[..<cut]), Array(line[cut...])].filter { !$0.isEmpty }
        let joined = pieces.compactMap { encode(encoder, $0, truncated: true, redactor: redactor)?.0 }.joined()
        #expect(!joined.contains(json))
        if cut > 0, cut < line.count { #expect(joined.contains("***")) }
      }
    }
  }
}
