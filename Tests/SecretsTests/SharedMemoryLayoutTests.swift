import Testing

@testable import Secrets

struct SharedMemoryLayoutTests {
  private func octets(_ records: [SharedMemoryLayout.Record], room: Int = 512) -> [UInt8] {
    let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: room, alignment: 8)
    defer { memory.deallocate() }
    memory.initializeMemory(as: UInt8.self, repeating: 0xEE)
    let used = SharedMemoryLayout.write(records, into: memory)
    #expect(memory[used...].allSatisfy { $0 == 0xEE }, "nothing is written behind what was used")
    return Array(memory[..<used])
  }

  /// The document's layout, octet by octet.
  @Test(arguments: [
    (
      "db.password", "hunter2", UInt64(0x0102_0304_0506), UInt64(7),
      // length 56, name 11, kind 0, value 7, zero, expiry, version, name, value, padding
      "38000000 0b00 0000 07000000 00000000 0605040302010000 0700000000000000"
        + "64622e70617373776f7264 68756e74657232 000000000000"
    ),
    (
      "a.b", "", UInt64(0), UInt64(0),
      "28000000 0300 0000 00000000 00000000 0000000000000000 0000000000000000" + "612e62 0000000000"
    ),
    (
      "a.bcde", "é", UInt64(0), UInt64.max,
      "28000000 0600 0000 02000000 00000000 0000000000000000 ffffffffffffffff" + "612e62636465 c3a9"
    ),
  ])
  func aRecord(name: String, value: String, expires: UInt64, version: UInt64, hexadecimal: String) {
    let record = SharedMemoryLayout.Record(
      name: name, value: SecretBytes(value), expires: expires, version: version)
    let expected = Array(hexadecimal.filter { $0 != " " })
    let shown = octets([record]).flatMap { byte in
      Array((byte < 16 ? "0" : "") + String(byte, radix: 16))
    }
    #expect(shown == expected)
    #expect(SharedMemoryLayout.length(of: [record]) * 2 == expected.count)
  }

  @Test func recordsFollowEachOther() {
    let records = ["a.x", "b.y"].map { SharedMemoryLayout.Record(name: $0, value: SecretBytes("12345")) }
    #expect(octets(records) == octets([records[0]]) + octets([records[1]]))
    #expect(octets([]).isEmpty)
  }

  @Test func checksumIsTheOneOfZlib() {
    #expect(Array("123456789".utf8).withUnsafeBytes { CRC32.checksum($0) } == 0xCBF4_3926)
    #expect([UInt8]().withUnsafeBytes { CRC32.checksum($0) } == 0)
  }

  @Test func segmentsHaveRoomToGrow() {
    #expect(SharedMemoryLayout.segmentLength(for: []) == 1 << 20)
    let big = SharedMemoryLayout.Record(name: "a.b", value: SecretBytes([UInt8](repeating: 1, count: 1 << 20)))
    let length = SharedMemoryLayout.segmentLength(for: [big])
    #expect(length >= 4 << 20 && length % 4096 == 0)
  }

  @Test(arguments: [
    ("", true), ("plain", true), ("é€😀", true), ("\u{0}", true),
  ])
  func textIsUTF8(text: String, isText: Bool) { #expect(SecretBytes(text).isText == isText) }

  @Test(
    arguments: [
      [0x80], [0xC0, 0xAF], [0xC3], [0xED, 0xA0, 0x80], [0xF4, 0x90, 0x80, 0x80], [0xE2, 0x82], [0xFF],
      [0xF0, 0x80, 0x80, 0x80],
    ] as [[UInt8]])
  func otherOctetsAreNoText(octets: [UInt8]) { #expect(!SecretBytes(octets).isText) }
}
