import Glibc
import LogShipper
import Logs
import Testing
import Vocabulary

@Suite struct SpoolTests {
  func make(_ scratch: Scratch, _ adjust: (inout SpoolConfiguration) -> Void = { _ in }) throws -> Spool {
    var configuration = SpoolConfiguration()
    adjust(&configuration)
    return try Spool(
      path: scratch.path + "/spool", checkpoints: scratch.path + "/checkpoints", configuration: configuration)
  }

  func batch(_ text: String) -> SpoolBatchBuilder {
    let builder = SpoolBatchBuilder(source: "s")
    _ = builder.add(delta: 0) { arena in
      arena.append(text: text + "\n")
      return RecordMark(stream: .none, kind: .text, level: .unknown, time: 0, body: 0, truncated: false)
    }
    return builder
  }

  func add(_ spool: Spool, _ text: String) -> Spool.Appended {
    spool.append(batch(text), identity: 1, start: 0, end: 1, time: 0)
  }

  func segments(_ scratch: Scratch) -> [String] {
    guard let directory = opendir(scratch.path + "/spool") else { return [] }
    defer { closedir(directory) }
    var names: [String] = []
    while let entry = readdir(directory) {
      let name = withUnsafeBytes(of: &entry.pointee.d_name) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
      if name.hasSuffix(".spool") { names.append(name) }
    }
    return names.sorted()
  }

  @Test func aTornTailIsCutAndTheRestStands() throws {
    let scratch = Scratch()
    do {
      let spool = try make(scratch)
      #expect(add(spool, "one") == .stored && add(spool, "two") == .stored)
    }
    let file = scratch.path + "/spool/" + segments(scratch)[0]
    var info = stat()
    stat(file, &info)
    truncate(file, info.st_size - 3)
    let spool = try make(scratch)
    _ = spool.register(sink: "a")
    #expect(spool.lag(sink: "a") == 1)
    #expect(add(spool, "three") == .stored)
    #expect(spool.lag(sink: "a") == 2)
  }

  @Test func blockWaitsAndDropsCount() throws {
    let big = String(repeating: "x", count: 30_000)
    for mode in SpoolConfiguration.WhenFull.allCases {
      let scratch = Scratch()
      let spool = try make(scratch) {
        $0.limit = 256 << 10
        $0.whenFull = mode
      }
      _ = spool.register(sink: "a")
      let results = (0..<20).map { _ in add(spool, big) }
      #expect(spool.bytes <= 256 << 10)
      switch mode {
      case .block: #expect(results.last == .full && spool.lost == 0)
      case .dropNewest: #expect(results.last == .dropped && spool.lost == 0)
      case .dropOldest: #expect(results.last == .stored && spool.lost > 0)
      }
      // What it refuses leaves nothing behind.
      let files = segments(scratch).count
      for _ in 0..<20 { _ = add(spool, big) }
      #expect(segments(scratch).count == files && spool.bytes <= 256 << 10)
    }
  }

  @Test func segmentsGoWhenEverySinkHasPassed() throws {
    let scratch = Scratch()
    let spool = try make(scratch) { $0.limit = 256 << 10 }
    _ = spool.register(sink: "a")
    _ = spool.register(sink: "b")
    for _ in 0..<8 { #expect(add(spool, String(repeating: "x", count: 30_000)) == .stored) }
    #expect(segments(scratch).count > 2)
    let end = SpoolPosition(segment: 1 << 20, offset: 16, sequence: 8)
    #expect(spool.commit(sink: "a", end))
    #expect(segments(scratch).count > 2)
    #expect(spool.commit(sink: "b", end))
    #expect(segments(scratch).count == 1)
    #expect(spool.lag(sink: "a") == 0)
  }
}
