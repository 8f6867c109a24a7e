import Logs
import Resilience
import Testing

@Suite struct RedactorTests {
  func redact(_ text: String, _ values: [String]) -> String {
    let redactor = Redactor(values: values.map { Array($0.utf8) })
    let arena = ByteArena()
    return withBytes(text) { redactor.redact($0, into: arena) } > 0 ? arena.bytes.text : text
  }

  @Test func formsOfOneValue() {
    let secret = "p/w \"ü+<1"
    #expect(redact("raw p/w \"ü+<1 end", [secret]) == "raw *** end")
    #expect(redact("j p/w \\\"ü+<1.", [secret]) == "j ***.")
    #expect(redact("j p/w \\\"\\u00fc+<1.", [secret]) == "j ***.")
    #expect(redact("j p/w \\\"ü+\\u003c1.", [secret]) == "j ***.")
    #expect(redact("u p%2Fw%20%22%C3%BC%2B%3C1&", [secret]) == "u ***&")
    #expect(redact("u p%2fw+%22%c3%bc%2b%3c1&", [secret]) == "u ***&")
  }

  @Test func shortValuesAreIgnoredAndOverlapsVanishWhole() {
    #expect(redact("yes or no", ["yes"]) == "yes or no")
    #expect(redact("xabcdefghx", ["abcdef", "defgh"]) == "x***x")
    #expect(redact("abcdabcdx", ["abcd", "abcdabcd"]) == "***x")
    #expect(redact("tail abcd", ["abcd\n"]) == "tail ***")
    #expect(redact("secondline99", ["-----BEGIN X-----\nfirstline11\nsecondline99\n"]) == "***")
  }

  @Test func everyFormOfRandomSecretsIsFound() throws {
    var random = SeededRandom(seed: 5)
    let alphabet = Array("abcXYZ019+/=\"\\ %&é".unicodeScalars)
    for _ in 0..<300 {
      let secrets = (0..<Int.random(in: 1...5, using: &random)).map { _ in
        String(
          String.UnicodeScalarView(
            (0..<Int.random(in: 8...40, using: &random)).map { _ in alphabet.randomElement(using: &random)! }))
      }
      let redactor = Redactor(values: secrets.map { Array($0.utf8) })
      for secret in secrets {
        let raw = Array(secret.utf8)
        let lead = Array("-_!@".utf8.prefix(Int.random(in: 0...4, using: &random)))
        let forms = [raw, Array(JSONText.quoted(secret).dropFirst().dropLast())]
        for form in forms {
          let arena = ByteArena()
          let line = lead + form + Array("~~".utf8)
          #expect(line.withUnsafeBytes { redactor.redact($0, into: arena) } >= 1)
          #expect(!contains(Array(arena.bytes), form))
        }
        let coded = base64(lead + raw + lead)
        let arena = ByteArena()
        #expect(coded.withUnsafeBytes { redactor.redact($0, into: arena) } >= 1, "base64 of \(secret)")
      }
      let encoder = RecordEncoder(source: "app")
      for secret in secrets {
        let json = "{\"v\":" + String(decoding: JSONText.quoted("x" + secret), as: UTF8.self) + "}"
        let (record, _) = try #require(encode(encoder, Array(json.utf8), redactor: redactor))
        #expect(withBytes(record) { JSONScanner.isValid($0) })
        #expect(record.contains("***") && !record.contains(secret))
      }
    }
  }

  @Test func aNumberThatIsSecretLeavesValidJSON() throws {
    let redactor = Redactor(values: [Array("12345678".utf8)])
    let (record, _) = try #require(
      encode(RecordEncoder(source: "app"), Array("{\"pin\":12345678}".utf8), redactor: redactor))
    #expect(withBytes(record) { JSONScanner.isValid($0) })
    #expect(!record.contains("12345678"))
  }

  @Test func formerValuesStaySought() {
    var memory = RedactionMemory()
    func redact(_ text: String) -> String {
      let redactor = Redactor(patterns: memory.patterns)
      let arena = ByteArena()
      return withBytes(text) { redactor.redact($0, into: arena) } > 0 ? arena.bytes.text : text
    }
    for number in 1...6 {
      memory.learn([("db.password", Array("the-value-\(number)".utf8)), ("db.user", Array("same-user".utf8))])
    }
    #expect(redact("the-value-6 the-value-5 the-value-2 same-user") == "*** *** *** ***")
    #expect(redact("the-value-1") == "the-value-1", "four former ones are kept")
    memory.learn([("other.x", Array("another-one".utf8))])
    #expect(redact("the-value-6 another-one") == "*** ***", "what is no longer named stays")
  }

  @Test func aSplitNeverPartsASecret() {
    let redactor = Redactor(values: [Array("supersecret".utf8)])
    withBytes("aaaa supersecret bbbb") { line in
      #expect(redactor.safeCut(line, at: 9) == 5)
      #expect(redactor.safeCut(line, at: 5) == 5)
      #expect(redactor.safeCut(line, at: 16) == 16)
    }
    withBytes("aaaa supers") { #expect(redactor.safeCut($0, at: 11) == 5) }
  }

  /// Long lines are parted as the sources part them; whatever the secrets, the forms and the limit, no part shows one, and
  /// nothing else is lost.
  @Test func randomSplitsOfRandomLinesShowNoSecret() {
    var random = SeededRandom(seed: 11)
    let alphabet = Array("abcXYZ019+/=\"\\ %&é".unicodeScalars)
    for _ in 0..<200 {
      let secrets = (0..<Int.random(in: 1...4, using: &random)).map { _ in
        String(
          String.UnicodeScalarView(
            (0..<Int.random(in: 8...30, using: &random)).map { _ in alphabet.randomElement(using: &random)! })) + "Q"
      }
      let redactor = Redactor(values: secrets.map { Array($0.utf8) })
      var forms: [[UInt8]] = []
      var line: [UInt8] = []
      for _ in 0..<12 {
        let secret = secrets.randomElement(using: &random)!
        let form =
          Bool.random(using: &random)
          ? Array(secret.utf8) : Array(JSONText.quoted(secret).dropFirst().dropLast())
        forms.append(form)
        // Octets that stand in no secret, so that what is left can be counted.
        line += [UInt8](repeating: 0x23, count: Int.random(in: 1...90, using: &random)) + form
      }
      let limit = redactor.longest + Int.random(in: 0...64, using: &random)
      let shown = ByteArena()
      line.withUnsafeBytes { line in
        var at = 0
        while at < line.count {
          let rest = line.part(at..<line.count)
          var length = rest.count
          if length > limit {
            length = max(1, redactor.safeCut(rest.part(0..<min(rest.count, limit + redactor.longest)), at: limit))
          }
          let part = ByteArena()
          if redactor.redact(rest.part(0..<length), into: part) == 0 { part.append(rest.part(0..<length)) }
          for form in forms { #expect(!contains(Array(part.bytes), form)) }
          shown.append(part.bytes)
          at += length
        }
      }
      for form in forms { #expect(!contains(Array(shown.bytes), form)) }
      #expect(shown.bytes.count { $0 == 0x23 } == line.count { $0 == 0x23 })
    }
  }

  private func contains(_ text: [UInt8], _ part: [UInt8]) -> Bool {
    guard text.count >= part.count else { return false }
    return (0...text.count - part.count).contains { Array(text[$0..<$0 + part.count]) == part }
  }

  private func base64(_ bytes: [UInt8]) -> [UInt8] {
    let table = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".utf8)
    let bits = bytes.flatMap { byte in (0..<8).map { byte >> UInt8(7 - $0) & 1 } }
    return stride(from: 0, to: bits.count, by: 6).map { start in
      table[(0..<6).reduce(0) { $0 * 2 + (start + $1 < bits.count ? Int(bits[start + $1]) : 0) }]
    }
  }
}
