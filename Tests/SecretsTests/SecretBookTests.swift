import Synchronization
import Testing
import Vocabulary

@testable import Secrets

struct SecretBookTests {
  private func template(_ name: String, _ field: String, _ filters: String...) -> SecretTemplate {
    SecretTemplate(parts: [
      .literal("<"), .secret(SecretReference(name: name, field: field, filters: filters)), .literal(">"),
    ])
  }

  private func text(_ book: SecretBook, _ template: SecretTemplate) -> String? {
    book.resolve(template).map { String(decoding: $0, as: UTF8.self) }
  }

  @Test func filtersApplyInTheirOrder() {
    let book = SecretBook()
    book.publish("db", ["a": SecretBytes(" aGk= "), "b": SecretBytes("a\"/é ")])
    #expect(text(book, template("db", "a", "base64d")) == "<hi>")
    #expect(text(book, template("db", "a", "base64d", "upper", "json")) == "<\"HI\">")
    #expect(text(book, template("db", "b", "json")) == "<\"a\\\"/é \">")
    #expect(text(book, template("db", "b", "trim", "urlencode")) == "<a%22%2F%C3%A9>")
    #expect(text(book, template("db", "none", "default:x", "upper")) == "<X>")
    #expect(text(book, template("db", "b", "base64d")) == nil)
    #expect(text(book, template("db", "b", "nope")) == nil)
  }

  @Test func whatIsMissingIsNamed() {
    let book = SecretBook()
    #expect(book.reason(template("db", "a"))?.contains("`db` is not there") == true)
    book.publish("db", ["a": SecretBytes("hunter2")])
    let reason = book.reason(template("db", "pass")) ?? ""
    #expect(reason.contains("no field `pass`") && reason.contains("`a`") && !reason.contains("hunter2"))
    #expect(book.reason(template("db", "a")) == nil)
  }

  @Test func followersHearOfChangesOnly() {
    let book = SecretBook()
    let heard = Mutex<[[String]]>([])
    book.follow { names in heard.withLock { $0.append(names) } }
    #expect(book.publish("a", ["x": SecretBytes("1")]))
    #expect(!book.publish("a", ["x": SecretBytes("1")], version: "2"))
    #expect(book.version("a") == "2")
    book.publish([("a", ["x": SecretBytes("2")], nil, nil), ("b", ["y": SecretBytes("1")], nil, nil)])
    #expect(heard.withLock { $0 } == [["a"], ["a", "b"]])
  }

  @Test func redactionsHoldCurrentValuesOnly() {
    let book = SecretBook()
    for value in ["one", "two", "three"] { book.publish("a", ["x": SecretBytes(value), "empty": SecretBytes("")]) }
    let values = book.redactions().map { String(decoding: $0.value, as: UTF8.self) }
    #expect(Set(values) == ["three"])
    book.forget()
    #expect(book.redactions().isEmpty)
  }
}
