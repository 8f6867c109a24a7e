import Logs
import RegularExpressions
import Telemetry

enum TransformTargets {
  /// A text is a condition, or the fault lies within it; asking never fails, and `!` turns the answer round.
  static func condition(_ input: UnsafeRawBufferPointer) -> String? {
    let text = String(decoding: input, as: UTF8.self)
    do throws(LogCondition.Invalid) {
      let condition = try LogCondition(text)
      guard let contrary = try? LogCondition("!(\(text))") else { return nil }
      let (matcher, other) = (ConditionMatcher(condition), ConditionMatcher(contrary))
      var record = "{\"level\":\"warn\",\"status\":503,\"msg\":\"a \\\"b\\\"\",\"a\":{\"b\":1.5},\"t\":true,\"n\":null}"
      let (holds, fails) = record.withUTF8 { (matcher.matches(Bytes($0)), other.matches(Bytes($0))) }
      if holds == fails, matcher.exceeded == 0, other.exceeded == 0 { return "a condition and its contrary agree" }
    } catch {
      if error.offset < 0 || error.offset > text.count { return "a fault at \(error.offset) of \(text.count)" }
    }
    return nil
  }

  /// What is taken of another program's metrics is written so that it is taken again, and means the same.
  static func exposition(_ input: UnsafeRawBufferPointer) -> String? {
    guard let metrics = try? ScrapedMetrics(String(decoding: input, as: UTF8.self)) else { return nil }
    var once = ""
    ScrapedMetrics.write([("t", metrics)], taken: [], to: &once)
    guard let again = try? ScrapedMetrics(once) else { return "its own text is refused: \(once.prefix(200))" }
    if again.count != metrics.count { return "\(metrics.count) samples became \(again.count)" }
    var twice = ""
    ScrapedMetrics.write([("t", again)], taken: [], to: &twice)
    if once != twice { return "written twice, it differs" }
    // And whatever it is, it can be sent.
    let labels = [Label("job", "f")]
    let sent = RemoteWrite.requests(metrics, labels: labels, at: 1).reduce(0) { $0 + $1.samples }
    if sent != metrics.count { return "\(metrics.count) samples became \(sent) of remote write" }
    _ = OTLPMetrics.requests(metrics, OTLPMetrics.Origin(resource: labels, version: "1", own: [], start: 1), at: 2)
    return nil
  }

  private static let rules: RedactionRules = {
    var rules = RedactionRules()
    rules.patterns = RedactionRules.Pattern.allCases
    rules.fields = ["password", "k"]
    return rules
  }()

  /// Whatever the line, what is left is one line of JSON, and a second look hides nothing more that is no field.
  static func redaction(_ input: UnsafeRawBufferPointer) -> String? {
    let encoder = RecordEncoder(
      source: "f", transforms: [.redact(rules), .rename([RenameRule(from: "a", to: "b")]), .add(["env": "x"])])
    let arena = ByteArena()
    guard encoder.encode(input, stream: .stdout, arrival: 0, redactor: nil, into: arena) != nil else {
      return "a record was dropped"
    }
    let record = arena.bytes
    if record.last != 0x0A { return "no LF" }
    if !JSONScanner.isValid(record) { return "no JSON: \(record.shown)" }
    let inside = record.part(0..<record.count - 1)
    if inside.firstOffset(of: 0x0A) != nil, input.firstOffset(of: 0x0A) == nil { return "two lines" }
    return nil
  }
}
