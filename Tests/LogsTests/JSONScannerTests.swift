import Glibc
import Logs
import Resilience
import Testing

@Suite struct JSONScannerTests {
  static let vectors: String? = {
    let root = #filePath.split(separator: "/").dropLast(3).joined(separator: "/")
    let path = "/\(root)/../shared/vectors/json"
    return access(path, R_OK) == 0 ? path : nil
  }()

  static func contents(_ path: String) -> [UInt8] {
    let fd = open(path, O_RDONLY)
    defer { close(fd) }
    var all: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 65536)
    while true {
      let n = read(fd, &buffer, buffer.count)
      if n <= 0 { return all }
      all += buffer.prefix(n)
    }
  }

  @Test(.enabled(if: vectors != nil, "the JSONTestSuite vectors are absent")) func suite() throws {
    let folder = try #require(Self.vectors)
    let directory = try #require(opendir(folder))
    defer { closedir(directory) }
    var seen = 0
    while let entry = readdir(directory) {
      let name = withUnsafeBytes(of: &entry.pointee.d_name) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
      guard name.hasSuffix(".json"), !name.hasPrefix("i_") else { continue }
      let valid = Self.contents("\(folder)/\(name)").withUnsafeBytes { JSONScanner.isValid($0) }
      #expect(valid == name.hasPrefix("y_"), "\(name)")
      seen += 1
    }
    #expect(seen > 250)
  }

  @Test func nestingIsBounded() {
    func nested(_ depth: Int) -> Bool {
      withBytes(String(repeating: "[", count: depth) + String(repeating: "]", count: depth)) { JSONScanner.isValid($0) }
    }
    #expect(nested(JSONScanner.maximumDepth))
    #expect(!nested(JSONScanner.maximumDepth + 2))
    #expect(!nested(1_000_000))
  }

  @Test func membersComeInOrderWithDuplicates() {
    withBytes(" {\"a\": 1.50, \"b\\\"c\":[1,{}], \"a\":\"x,}\"} ") { text in
      var members: [String] = []
      let inner = JSONScanner.object(text) { members.append(text.part($0).text + "=" + text.part($1).text) }
      #expect(members == ["a=1.50", "b\\\"c=[1,{}]", "a=\"x,}\""])
      #expect(inner.map { text.part($0).text } == "\"a\": 1.50, \"b\\\"c\":[1,{}], \"a\":\"x,}\"")
    }
  }

  @Test func escapingIsUndone() {
    var random = SeededRandom(seed: 7)
    for _ in 0..<300 {
      let scalars = (0..<Int.random(in: 0...40, using: &random)).map { _ in
        Unicode.Scalar(UInt32.random(in: 0...0x2FF, using: &random))!
      }
      let text = String(String.UnicodeScalarView(scalars))
      let quoted = JSONText.quoted(text)
      quoted.withUnsafeBytes {
        #expect(JSONScanner.isValid($0))
        #expect(JSONText.string($0) == text)
      }
    }
    withBytes("\"\\ud83d\\ude00 \\ud83d\"") { #expect(JSONText.string($0) == "😀 \u{FFFD}") }
  }

  @Test func plainEndAgreesWithTheObviousLoop() {
    var random = SeededRandom(seed: 3)
    for _ in 0..<2000 {
      let bytes = (0..<Int.random(in: 0...30, using: &random)).map { _ in
        [0x22, 0x5C, 0x1F, 0x20, 0x21, 0x80, 0xFF, 0xA2, 0x61].randomElement(using: &random)! as UInt8
      }
      let plain = bytes.firstIndex { $0 == 0x22 || $0 == 0x5C || $0 < 0x20 } ?? bytes.count
      #expect(bytes.withUnsafeBytes { JSONText.plainEnd($0, from: 0) } == plain)
    }
  }

  @Test func unicodeValidityAgreesWithTheStandardLibrary() {
    var random = SeededRandom(seed: 11)
    for _ in 0..<5000 {
      let bytes = (0..<Int.random(in: 0...9, using: &random)).map { _ in
        [0x61, 0x80, 0xBF, 0xC2, 0xE0, 0xED, 0xA0, 0x9F, 0xF0, 0x90, 0xF4, 0x8F, 0xC0].randomElement(using: &random)!
          as UInt8
      }
      let valid = String(validating: bytes, as: UTF8.self) != nil
      #expect(bytes.withUnsafeBytes { UTF8Text.isValid($0) } == valid, "\(bytes)")
    }
  }
}
