import Testing

@testable import Vocabulary

@Suite struct ErasingTests {
  @Test func everyHolderSeesZeros() {
    let bytes = Array("a-secret-value".utf8)
    let other = bytes
    bytes.erase()
    #expect(other.allSatisfy { $0 == 0 } && other.count == 14)
    [UInt8]().erase()
  }

  @Test func aTextThatGrowsKeepsItsContent() {
    var text = ErasingText()
    for byte in UInt8(0)..<200 { text.append(byte) }
    text.append([1, 2, 3])
    #expect(text.bytes == Array(0..<200) + [1, 2, 3])
  }

  @Test func hiddenTextsReadAsTheyAre() throws {
    let text = #"{"a":"x\u00e9\n\"","b":["y",1,true,null],"c":{"d":""}}"#
    let hidden = try JSONParser.parse(Array(text.utf8), hides: true)
    let plain = try JSONParser.parse(Array(text.utf8))
    #expect(hidden == plain && hidden["a"]?.string == "xé\n\"" && hidden["c"]?["d"]?.text == "")
    guard case .hidden = hidden["a"] else {
      Issue.record("not hidden")
      return
    }
    #expect(throws: JSONError.self) { try JSONParser.parse([0x22, 0xC3, 0x22], hides: true) }
    #expect(throws: JSONError.self) { try JSONParser.parse(Array("\"a".utf8), hides: true) }
  }

  @Test func quotingOctetsIsQuotingText() {
    for text in ["", "a\"\\\n\r\t\u{1}\u{1F}é", "<&>"] {
      #expect(JSONNode.quote(Array(text.utf8)) == Array(JSONNode.quote(text).utf8))
    }
    #expect(JSONNode.quote(Array("<&>".utf8), isHTMLSafe: true) == Array(#""\u003c\u0026\u003e""#.utf8))
  }
}
