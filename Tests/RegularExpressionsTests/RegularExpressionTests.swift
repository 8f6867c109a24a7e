import Testing

@testable import RegularExpressions

@Suite struct RegularExpressionTests {
  let workspace = MatchWorkspace(steps: 50_000, longest: 100)

  func outcome(_ expression: RegularExpression, _ text: String, from start: Int = 0) -> RegularExpression.Outcome {
    Array(text.utf8).withUnsafeBytes { expression.match($0, from: start, workspace) }
  }

  @Test func matchesSomewhereOrAsAWhole() throws {
    let somewhere = try RegularExpression("b+")
    let whole = try RegularExpression("b+", .whole)
    #expect(outcome(somewhere, "abbc") == .matched)
    #expect(workspace.group(0) == 1..<3)
    #expect(outcome(somewhere, "abbcb", from: 3) == .matched)
    #expect(workspace.group(0) == 4..<5)
    #expect(outcome(somewhere, "ac") == .missed)
    #expect(outcome(whole, "abbc") == .missed)
    #expect(outcome(whole, "bbb") == .matched)
    // An alternative that ends early does not hide the one that goes on.
    #expect(outcome(try RegularExpression("/a|/ab", .whole), "/ab") == .matched)
    #expect(outcome(try RegularExpression("", .whole), "") == .matched)
    #expect(somewhere != whole)
    #expect(try somewhere == RegularExpression("b+"))
  }

  @Test func tellsItsGroups() throws {
    let expression = try RegularExpression("/(a)?/(\\d+)")
    #expect(expression.groups == 2)
    #expect(outcome(expression, "x//17") == .matched)
    #expect(workspace.group(1) == nil)
    #expect(workspace.group(2) == 3..<5)
    #expect(workspace.group(10) == nil)
  }

  @Test func isBounded() throws {
    let costly = try RegularExpression("(a+)+\\d", .whole)
    #expect(outcome(costly, String(repeating: "a", count: 60)) == .exceeded)
    #expect(outcome(costly, "aaa1") == .matched)
    #expect(outcome(costly, String(repeating: "a", count: 101)) == .exceeded)
  }

  @Test func octetsThatAreNoTextMatchNothing() throws {
    let expression = try RegularExpression(".")
    #expect([0xFF as UInt8].withUnsafeBytes { expression.match($0, workspace) } == .missed)
    #expect([0xFF, 0x61 as UInt8].withUnsafeBytes { expression.match($0, workspace) } == .matched)
  }

  @Test func saysWhatIsWrong() {
    #expect {
      try RegularExpression("/a(b")
    } throws: {
      let invalid = $0 as? RegularExpression.Invalid
      return invalid?.offset == 4 && invalid?.reason == "missing closing parenthesis"
    }
    #expect(throws: RegularExpression.Invalid.self) { try RegularExpression("\\C") }
  }
}
