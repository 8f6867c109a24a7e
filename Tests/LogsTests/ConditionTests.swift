import Logs
import Resilience
import Testing

@Suite struct ConditionTests {
  private let record = """
    {"@timestamp":"2026-01-31T12:00:00.000Z","source":"app","stream":"stdout","level":"warn","status":503,"took":"12.5",\
    "msg":"read timeout \\"x\\"","ok":true,"none":null,"http":{"status":404,"a":{"b":"c"}},"a.b":1,"n":1,"n":2}
    """

  private func holds(_ text: String) throws -> Bool {
    let matcher = ConditionMatcher(try LogCondition(text))
    return withBytes(record) { matcher.matches($0) }
  }

  @Test(arguments: [
    "level >= warn", "level == warn", "level in [warn, error]", "level in info..error", "level < error",
    "!(level > warn)",
    "status in 500..599", "status == 503", "status != 500", "status > 502.5 && status < 504", "took >= 12",
    "msg =~ \"time.ut\"", "message =~ '\"x\"'", "msg contains \"timeout\"", "msg !~ \"refused\"", "ok == true",
    "none == null", "has none", "!has missing", "missing != 3", "missing !~ \"x\"", "http.status == 404",
    "http.a.b == \"c\"", "a.b == 1", "`a.b` == 1", "n == 2", "stream == \"stdout\"", "source in [\"app\", \"x\"]",
    "level >= warn && status in 500..599 && msg =~ \"timeout\"", "false_ == 1 || status == 503 && ok == true",
    "status == 503 || status == 1 && ok == false", "has `level`", "status in [1, 503, null]", "msg =~ \"\\d|out\"",
  ]) func holds(text: String) throws { #expect(try self.holds(text)) }

  @Test(arguments: [
    "level > warn", "level in error..fatal", "level > fatal", "level < trace", "status in 200..299",
    "status == \"503\"",
    "msg =~ \"^timeout\"", "missing == 3", "missing < 3", "missing =~ \"x\"", "ok == false", "has missing",
    "http.missing == 1", "http.status.x == 1", "n == 1", "source != \"app\"", "msg contains \"Timeout\"",
  ]) func doesNotHold(text: String) throws { #expect(try !self.holds(text)) }

  @Test(arguments: [
    ("", 0, "empty"), ("level >= loud", 9, "no level"), ("level =~ \"x\"", 6, "no text"),
    ("status = 3", 7, "unexpected"),
    ("status >= \"a\"", 10, "compares a number"), ("msg > 3", 6, "compares a number"), ("msg == 3", 7, "not a number"),
    ("(status == 1", 0, "never closed"), ("status == 1)", 11, "unexpected"),
    ("msg =~ \"(\"", 7, "expression is invalid"),
    ("msg =~ \"a", 7, "never closed"), ("status in 9..1", 13, "before it begins"), ("a == 1 && ", 10, "field's name"),
    ("status in [1, 2", 10, "never closed"), ("status", 6, "ends after a field"), ("a == b", 5, "no value"),
    ("a == 1 b == 2", 7, "unexpected"), ("a == 1e999", 5, "no number"), ("``==1", 0, "empty"),
    ("a & b", 2, "unexpected"),
  ]) func faults(text: String, offset: Int, part: String) {
    #expect { try LogCondition(text) } throws: { error in
      guard let invalid = error as? LogCondition.Invalid else { return false }
      return invalid.offset == offset && invalid.message.contains(part) && !invalid.wayOut.isEmpty
    }
  }

  @Test func bounds() {
    #expect(throws: LogCondition.Invalid.self) { try LogCondition(String(repeating: "!", count: 40) + "has a") }
    #expect(throws: LogCondition.Invalid.self) { try LogCondition(String(repeating: "(", count: 2000)) }
    let many = Array(repeating: "has a", count: 300).joined(separator: "||")
    #expect(throws: LogCondition.Invalid.self) { try LogCondition(many) }
    #expect(throws: LogCondition.Invalid.self) { try LogCondition(String(repeating: " ", count: 5000)) }
  }

  @Test func anExpressionThatNeverEndsIsNoMatch() throws {
    let matcher = ConditionMatcher(try LogCondition("msg =~ \"^(a+)+$\""))
    let text = "{\"msg\":\"" + String(repeating: "a", count: 5000) + "b\"}"
    #expect(!withBytes(text) { matcher.matches($0) })
    let few = ConditionMatcher(try LogCondition("msg =~ \"(?:(?:a*)*)*(?=x)(?:b|a)*c\""))
    #expect(!withBytes(text) { few.matches($0) })
  }

  @Test func storeQuery() throws {
    let filter = try StoreFilter(StoreQuery(condition: LogCondition("status >= 500")))
    #expect(withBytes(record) { filter.accepts($0) })
    let other = try StoreFilter(StoreQuery(condition: LogCondition("status < 500")))
    #expect(!withBytes(record) { other.accepts($0) })
    #expect(!withBytes("no json") { filter.accepts($0) })
  }
}
