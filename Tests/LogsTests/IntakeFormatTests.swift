import Logs
import Testing

@Suite struct IntakeFormatTests {
  /// The frames of a text, a `+` before those that go on; `!` when the reader gives up.
  func frames(_ text: String, limit: Int = 10, final: Bool = true) -> [String] {
    var reader = FrameReader()
    var at = 0
    var found: [String] = []
    return withBytes(text) { bytes in
      while true {
        switch reader.next(bytes, from: at, limit: limit, final: final) {
        case .frame(let text, let end, let isPart):
          found.append((isPart ? "+" : "") + bytes.part(text).text)
          at = end
        case .more: return found
        case .broken: return found + ["!"]
        }
      }
    }
  }

  @Test(arguments: [
    ("<1>a\n<2>b\n", ["<1>a", "<2>b"]), ("4 <1>a4 <2>b<3>c\n", ["<1>a", "<2>b", "<3>c"]), ("5 <1>\na", ["<1>\na"]),
    ("<1>rest", ["<1>rest"]),
    ("<1>4567890123\n", ["+<1>4567890", "123"]), ("0 x", ["!"]), ("01 x", ["!"]), ("12x", ["!"]),
    ("1234567890 x", ["!"]),
    ("9 <1>a", ["+<1>a"]),
  ]) func framesOfSyslog(_ text: String, _ expected: [String]) {
    #expect(frames(text) == expected)
  }

  @Test func aCountedMessageAboveTheLimitComesInParts() {
    #expect(frames("12 <1>345678901<2>b\n") == ["+<1>3456789", "01", "<2>b"])
    #expect(frames("12 <1>34", final: false) == [])
  }

  func json(_ bytes: [UInt8]) -> String? {
    let arena = ByteArena()
    return bytes.withUnsafeBytes { bytes in
      var reader = MessagePack(bytes)
      do throws(MessagePack.Problem) { try reader.writeJSON(into: arena) } catch { return nil }
      return reader.isAtEnd ? arena.bytes.text : nil
    }
  }

  /// One of each form of the specification.
  @Test(
    arguments: [
      ([0x7F], "127"), ([0xE0], "-32"), ([0xC0], "null"), ([0xC2], "false"), ([0xC3], "true"), ([0xCC, 0xFF], "255"),
      ([0xCD, 1, 0], "256"), ([0xCE, 1, 0, 0, 0], "16777216"),
      ([0xCF] + Array(repeating: 0xFF, count: 8), "18446744073709551615"),
      ([0xD0, 0x80], "-128"), ([0xD1, 0x80, 0], "-32768"), ([0xD2, 0xFF, 0xFF, 0xFF, 0xFE], "-2"),
      ([0xD3] + Array(repeating: 0xFF, count: 8), "-1"), ([0xCA, 0x3F, 0, 0, 0], "0.5"),
      ([0xCB, 0x3F, 0xE0, 0, 0, 0, 0, 0, 0], "0.5"), ([0xCA, 0x7F, 0x80, 0, 0], "null"),
      ([0xA2, 0x22, 0x0A], "\"\\\"\\n\""),
      ([0xD9, 1, 0x61], "\"a\""), ([0xC4, 1, 0x61], "\"a\""), ([0xDA, 0, 1, 0x61], "\"a\""), ([0x92, 1, 2], "[1,2]"),
      ([0xDC, 0, 1, 5], "[5]"), ([0x81, 0xA1, 0x61, 1], "{\"a\":1}"), ([0xDE, 0, 1, 7, 1], "{\"7\":1}"),
      ([0xD4, 1, 0], "null"), ([0xC7, 2, 1, 0, 0], "null"),
    ] as [([UInt8], String)]) func messagePack(_ bytes: [UInt8], _ text: String)
  { #expect(json(bytes) == text) }

  @Test(
    arguments: [
      [], [0xC1], [0xA2, 0x61], [0x92, 1], [0x81, 0xA1, 0x61], [0xDB, 0xFF, 0xFF, 0xFF, 0xFF], [0xCD, 1],
      [0x81, 0x90, 1],
      Array(repeating: 0x91, count: 100) + [1],
    ] as [[UInt8]]) func noMessagePack(_ bytes: [UInt8])
  { #expect(json(bytes) == nil) }

  /// Lengths of four billions cost nothing until the octets are there.
  @Test func aBombOfLengths() {
    let bomb: [UInt8] = [0xDD, 0xFF, 0xFF, 0xFF, 0xFF, 0xDD, 0xFF, 0xFF, 0xFF, 0xFF, 1]
    bomb.withUnsafeBytes { bytes in
      var reader = MessagePack(bytes)
      #expect(throws: MessagePack.Problem.incomplete) { try reader.skip() }
    }
  }

  @Test func acknowledgements() {
    #expect(ForwardMessage.acknowledgement([0x61]) == [0x81, 0xA3, 0x61, 0x63, 0x6B, 0xA1, 0x61])
    #expect(ForwardMessage.acknowledgement(Array(repeating: 0x61, count: 40)).prefix(7).suffix(2) == [0xD9, 40])
  }
}
