import Logs
import Testing

@Suite struct JournalReaderTests {
  private func read(_ bytes: [UInt8], limit: Int = 1 << 20, step: Int = Int.max) -> (
    objects: [String], entries: [JournalReader.Entry], isBroken: Bool
  ) {
    let reader = JournalReader(limit: limit)
    let arena = ByteArena()
    var entries: [JournalReader.Entry] = []
    bytes.withUnsafeBytes { bytes in
      var at = 0
      while at < bytes.count {
        let end = at + min(step, bytes.count - at)
        reader.feed(bytes.part(at..<end), into: arena, entries: &entries)
        at = end
      }
    }
    return (entries.map { arena.bytes.part($0.object).text }, entries, reader.isBroken)
  }

  private func binary(_ name: String, _ value: [UInt8]) -> [UInt8] {
    Array("\(name)\n".utf8) + (0..<8).map { UInt8(truncatingIfNeeded: value.count >> (8 * $0)) } + value + [0x0A]
  }

  @Test(arguments: [1, 2, 3, 7, 1000])
  func anEntryBecomesARecord(step: Int) {
    let bytes =
      Array(
        "__CURSOR=s=1;i=2\n__REALTIME_TIMESTAMP=1700000000000001\n_SOURCE_REALTIME_TIMESTAMP=1700000000000000\n".utf8)
      + Array(
        "PRIORITY=3\n_HOSTNAME=h\n_SYSTEMD_UNIT=a.service\n_COMM=b\nSYSLOG_IDENTIFIER=c\n_PID=7\nCODE=x=\"y\"\nCODE=again\n"
          .utf8)
      + binary("MESSAGE", Array("two\nlines".utf8)) + binary("EMPTY", []) + [0x0A, 0x0A]
      + Array("__CURSOR=next\nMESSAGE=\n\n__CURSOR=unfinished\n".utf8)
    let (objects, entries, isBroken) = read(bytes, step: step)
    #expect(!isBroken)
    #expect(
      objects == [
        #"{"message":"two\nlines","host":"h","unit":"a.service","app":"c","pid":"7","severity":"err","#
          + #""journal":{"_COMM":"b","CODE":"x=\"y\"","EMPTY":""}}"#,
        #"{"message":""}"#,
      ])
    #expect(entries.map(\.cursor) == ["s=1;i=2", "next"])
    #expect(entries.map(\.time) == [1_700_000_000_000_000_000, nil])
  }

  @Test(arguments: [1, 5, 1000])
  func whatIsTooLongIsCutAndTheNextEntryIsWhole(step: Int) {
    let long = [UInt8](repeating: 0x61, count: 5000)
    let bytes =
      binary("BIG", long) + Array("LINE=".utf8) + long + Array("\nMESSAGE=late\n\nMESSAGE=next\n\n".utf8)
    let (objects, _, isBroken) = read(bytes, limit: 100, step: step)
    #expect(!isBroken && objects.count == 2)
    #expect(objects[0].utf8.count < 500 && objects[0].contains("\"truncated\":true"))
    #expect(objects[1] == #"{"message":"next"}"#)
    let many = (0..<3000).flatMap { Array("F\($0)=x\n".utf8) } + Array("\nMESSAGE=next\n\n".utf8)
    let found = read(many, step: step)
    #expect(found.objects.count == 2 && found.objects[1] == #"{"message":"next"}"#)
  }

  @Test(arguments: ["no name=x\n", "=x\n", "lower=x\n", "A\n\u{1}\0\0\0\0\0\0\0xyz"])
  func whatIsNoExportIsTold(text: String) { #expect(read(Array(text.utf8)).isBroken) }
}
