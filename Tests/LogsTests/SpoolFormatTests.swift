import Logs
import RegularExpressions
import Testing

@Suite struct SpoolFormatTests {
  func batch() -> [UInt8] {
    let builder = SpoolBatchBuilder(source: "app")
    let encoder = RecordEncoder(source: "app")
    for (delta, line) in ["one", "{\"two\":2}"].enumerated() {
      withBytes(line) { bytes in
        _ = builder.add(delta: delta * 10) {
          encoder.encode(bytes, stream: .stderr, arrival: noon, redactor: nil, into: $0)
        }
      }
    }
    #expect(!builder.add(delta: 0) { _ in nil })
    builder.finish(sequence: 5, identity: 9, start: 100, end: 120, time: noon)
    return Array(builder.arena.bytes)
  }

  @Test func roundTrip() throws {
    try batch().withUnsafeBytes { bytes in
      var view = try #require(SpoolBatchView(bytes))
      #expect(view.head.count == 2 && view.head.sequence == 5 && view.head.end == 120)
      #expect(view.source.text == "app")
      let one = view.next()
      let two = view.next()
      let first = try #require(one)
      #expect(first.mark.stream == .stderr && first.mark.kind == .text && first.offset == 100)
      let second = try #require(two)
      #expect(second.mark.kind == .json && second.offset == 110)
      #expect(second.bytes.text.hasSuffix(",\"two\":2}\n"))
      let three = view.next()
      #expect(three == nil)
    }
  }

  @Test func everyFlippedBitIsSeen() {
    let good = batch()
    #expect(good.withUnsafeBytes { SpoolBatchHead.isIntact($0) })
    for position in good.indices {
      var bad = good
      bad[position] ^= 0x10
      #expect(!bad.withUnsafeBytes { SpoolBatchHead.isIntact($0) }, "byte \(position)")
    }
    for length in 0..<good.count { #expect(!good.prefix(length).withUnsafeBytes { SpoolBatchHead.isIntact($0) }) }
  }

  @Test func checkpoints() {
    let file = FileCheckpoint(
      device: 1, inode: 2, identity: 3, headHash: withBytes("abc") { Checksum.fnv64($0) }, headLength: 3, offset: 5,
      path: "/var/log/a b.log")
    #expect(FileCheckpoint.decode(FileCheckpoint.encode([file])) == [file])
    #expect(FileCheckpoint.decode("garbage") == nil)
    #expect(FileCheckpoint.decode("v1\n1 2 3\n") == [])
    #expect(withBytes("abc") { file.continuity(size: 5, head: $0) } == .same)
    #expect(withBytes("abc") { file.continuity(size: 4, head: $0) } == .replaced)
    #expect(withBytes("abd") { file.continuity(size: 9, head: $0) } == .replaced)
    let position = SpoolPosition(segment: 3, offset: 16, sequence: 77)
    #expect(SpoolPosition(text: position.text) == position)
    #expect(SpoolPosition(text: "v1 1 -3 4") == nil)
  }

  @Test func filters() throws {
    let line = encode("{\"level\":\"warn\",\"message\":\"say \\\"hi\\\"\",\"request_id\":\"r-1\"}")!.dropLast()
    func accepts(_ query: StoreQuery) throws -> Bool {
      let filter = try StoreFilter(query)
      return withBytes(String(line)) { filter.accepts($0) }
    }
    #expect(try accepts(StoreQuery(since: noon, until: noon + 1_000_000)))
    #expect(try !accepts(StoreQuery(since: noon + 1_000_000)))
    #expect(try !accepts(StoreQuery(until: noon)))
    #expect(try accepts(StoreQuery(level: .warn)) && !accepts(StoreQuery(level: .error)))
    #expect(try accepts(StoreQuery(grep: "say \"h[i]\"")) && !accepts(StoreQuery(grep: "nope")))
    #expect(try accepts(StoreQuery(source: "app")) && !accepts(StoreQuery(source: "ap")))
    #expect(try accepts(StoreQuery(requestID: "r-1")) && !accepts(StoreQuery(requestID: "r-2")))
    #expect(throws: RegularExpression.Invalid.self) { try StoreFilter(StoreQuery(grep: "(")) }
  }
}
