import Resilience
import Testing

@testable import Vocabulary

@Suite struct SecretTemplateTests {
  private func problem(_ text: String) -> SecretTemplate.Problem? {
    do {
      _ = try SecretTemplate.parse(text)
      return nil
    } catch { return error }
  }

  @Test func readsReferencesBetweenText() throws {
    let template = try SecretTemplate.parse("Bearer ${secrets.api.token|trim|upper}!")
    #expect(
      template.parts == [
        .literal("Bearer "), .secret(SecretReference(name: "api", field: "token", filters: ["trim", "upper"])),
        .literal("!"),
      ])
    #expect(template.literal == nil)
    #expect(template.description == "Bearer ${secrets.api.token|trim|upper}!")
  }

  @Test func fieldsMayHoldDots() throws {
    #expect(
      try SecretTemplate.parse("${secrets.web.tls.crt}").references == [SecretReference(name: "web", field: "tls.crt")])
  }

  @Test func plainTextIsOneLiteral() throws {
    for text in ["", "a", "$", "$x", "a$", "100%", "{{ x }}", "}", "ключ"] {
      #expect(try SecretTemplate.parse(text).literal == text)
    }
  }

  @Test func variables() throws {
    let lookup: (String) -> SecretTemplate.Variable = { ["A": "1", "EMPTY": ""][$0].map { .value($0) } ?? .unset }
    #expect(try SecretTemplate.parse("x${A}y", variable: lookup).literal == "x1y")
    #expect(try SecretTemplate.parse("${B:-d e}", variable: lookup).literal == "d e")
    #expect(try SecretTemplate.parse("${EMPTY:-d}", variable: lookup).literal == "d")
    #expect(try SecretTemplate.parse("${EMPTY}", variable: lookup).literal == "")
    #expect(try SecretTemplate.parse("$${A}", variable: lookup).literal == "${A}")
    #expect(try SecretTemplate.parse("${x}", variable: { _ in .verbatim }).literal == "${x}")
  }

  @Test func variablesCannotNameSecrets() throws {
    let template = try SecretTemplate.parse("${A}") { _ in .value("${secrets.db.password}") }
    #expect(template.references.isEmpty)
    #expect(template.literal == "${secrets.db.password}")
  }

  @Test func problemsNameThePlaceAndTheWayOut() {
    #expect(problem("ab${A")?.offset == 2)
    #expect(problem("ab${A")?.message == "`${` is never closed")
    #expect(problem("${A}")?.wayOut == "set it, or give a default: `${A:-default}`")
    #expect(problem("${secrets.db}")?.message == "`${secrets.db}` does not name a secret's field")
    #expect(problem("${secrets.db.x|rot13}")?.wayOut == "filters are base64d, json, urlencode, trim, upper")
    for text in [
      "${}", "${1A}", "${A-b}", "${secrets.}", "${secrets..a}", "${secrets.a b.c}", "${secrets.a.b|}", "${ A }",
    ] {
      #expect(problem(text) != nil, "\(text)")
    }
  }

  @Test func neverCrashes() {
    var random = SeededRandom(seed: 7)
    let pieces = ["$", "{", "}", "${", "secrets.", "a", ".", "|", "trim", ":-", "A", "é", " ", "$$"]
    for _ in 0..<20_000 {
      let text = (0..<Int.random(in: 0...12, using: &random)).map { _ in pieces.randomElement(using: &random) ?? "" }
        .joined()
      _ = try? SecretTemplate.parse(text)
    }
  }
}
