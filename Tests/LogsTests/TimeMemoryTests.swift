import Logs
import Testing

@Suite struct TimeMemoryTests {
  /// Records of one encoder, one behind the other: what is remembered of the last time must not show in the next.
  @Test func timesBehindEachOther() {
    let encoder = RecordEncoder(source: "app")
    let times = [
      "2026-01-31T11:59:59.999Z", "2026-01-31T11:59:59.5Z", "2026-01-31T11:59:59.123456789Z", "2026-01-31T11:59:59Z",
      "2026-01-31T11:59:58.001Z", "2026-01-31T11:59:58.001+01:00", "1969-12-31T23:59:59.25Z",
      "1969-12-31T23:59:59.75Z", "2026-02-28T23:59:60.5Z", "2026-02-28T23:59:60.25Z",
    ]
    for text in times + times.reversed() {
      let time = withBytes(text) { LogTime.parse($0) }
      let line = "t=\(text) a=1"
      let (_, mark) = encode(encoder, Array(line.utf8))!
      #expect(mark.time == noon, "`t` is no time")
      for line in ["time=\(text) a=1", "{\"time\":\"\(text)\"}"] {
        let (record, mark) = encode(encoder, Array(line.utf8))!
        #expect(mark.time == time)
        #expect(record.hasPrefix("{\"@timestamp\":\"\(LogTime.format(time ?? 0))\""), "\(record)")
      }
    }
    for text in ["2026-01-31T11:59:59.Z", "2026-01-31T11:59:59.12x4Z", "2026-01-31T11:59:59.1234567890Z "] {
      let (_, mark) = encode(encoder, Array("{\"time\":\"\(text)\"}".utf8))!
      #expect(mark.time == (withBytes(text) { LogTime.parse($0) } ?? noon), "\(text)")
    }
  }

  @Test func checksumsOfOlderSegmentsHold() {
    let builder = SpoolBatchBuilder(source: "s")
    builder.finish(sequence: 1, identity: 2, start: 3, end: 4, time: 5)
    var batch = Array(builder.arena.bytes)
    #expect(withBytes("123456789") { Checksum.crc32c($0) } == 0xE306_9283)
    batch[3] = 0x31
    #expect(!batch.withUnsafeBytes { SpoolBatchHead.isIntact($0) })
    let sum = batch.withUnsafeBytes { Checksum.crc32($0.part(12..<$0.count)) }
    for index in 0..<4 { batch[8 + index] = UInt8(truncatingIfNeeded: sum >> UInt32(8 * index)) }
    #expect(batch.withUnsafeBytes { SpoolBatchHead.isIntact($0) })
    let hurt = [1, 2, 3] + batch + batch
    #expect(hurt.withUnsafeBytes { SpoolBatchHead.nextIntact($0, from: 0) } == 3)
    #expect(hurt.withUnsafeBytes { SpoolBatchHead.nextIntact($0, from: 4) } == 3 + batch.count)
  }
}
