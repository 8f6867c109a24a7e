import Glibc
import LogShipper
import Logs
import Synchronization
import Telemetry
import Testing
import Vocabulary

@Suite(.serialized) struct AppSourceTests {
  @Test func linesOfBothStreamsReachTheStore() async throws {
    let scratch = Scratch()
    let metrics = MetricRegistry()
    let events = EventStream()
    let pipeline = try makePipeline(scratch, metrics: metrics, events: events)
    try pipeline.start()
    pipeline.setRedactions([(name: "db", value: Array("hunter2hunter2".utf8))])
    let (out, err) = (AppPipe(), AppPipe())
    pipeline.attachApp(stdout: out.reader, stderr: err.reader)
    events.publish(.access, "{\"status\":200,\"path\":\"/a\"}")
    out.write("one\n{\"level\":\"warn\",\"n\":1}\npassword hunter2hunter2\nno end")
    err.write("ERROR bad\n")
    out.end()
    err.end()
    #expect(await pipeline.awaitAppEnd(timeout: .seconds(20)))
    #expect(await pipeline.stop(timeout: .seconds(20)) == 0)
    let records = try stored(scratch)
    #expect(records.count == 6)
    #expect(try messages(scratch).sorted() == ["ERROR bad", "no end", "one", "password ***"])
    #expect(try stored(scratch, StoreQuery(level: .error)).count == 1)
    #expect(records.contains { member($0, "source") == "access" && $0.contains("\"path\":\"/a\"") })
    #expect(records.contains { member($0, "stream") == "stderr" })
    #expect(try stored(scratch, StoreQuery(limit: 2)) == Array(records.suffix(2)))
    #expect(metrics.prometheusText().contains("outrider_log_records_total{source=\"app\"} 5"))
    #expect(pipeline.status().first?.sent == 6)
  }

  @Test func nothingIsLostWhenTheProcessDiesBetweenReadingAndTakingOut() async throws {
    let scratch = Scratch()
    let app = AppPipe()
    let broken = Atomic<Bool>(true)
    // The spool refuses everything, as if the process were killed before it could append.
    let first = try makePipeline(
      scratch,
      spoolWrite: { fd, bytes, count, offset in
        if broken.load(ordering: .relaxed) {
          errno = ENOSPC
          return -1
        }
        return pwrite(fd, bytes, count, off_t(offset))
      })
    try first.start()
    first.attachApp(stdout: dup(app.reader), stderr: -1)
    app.write("a\nb\nhalf")
    _ = await first.stop(timeout: .milliseconds(200))
    #expect(try messages(scratch) == [])
    // The next process gets the same pipe.
    let second = try makePipeline(scratch)
    try second.start()
    second.attachApp(stdout: app.reader, stderr: -1)
    app.write(" done\n")
    app.end()
    #expect(await second.awaitAppEnd(timeout: .seconds(20)))
    #expect(await second.stop(timeout: .seconds(20)) == 0)
    #expect(try messages(scratch) == ["a", "b", "half done"])
  }

  @Test func aLineThatIsCutByARestartComesWhole() async throws {
    let scratch = Scratch()
    let app = AppPipe()
    let long = String(repeating: "x", count: 150_000)
    let first = try makePipeline(scratch)
    try first.start()
    first.attachApp(stdout: dup(app.reader), stderr: -1)
    app.write("begin\n" + long)
    #expect(await eventually { (try? messages(scratch)) == ["begin"] })
    _ = await first.stop(timeout: .seconds(5))
    let second = try makePipeline(scratch)
    try second.start()
    second.attachApp(stdout: app.reader, stderr: -1)
    app.write("end\nlast\n")
    app.end()
    #expect(await second.awaitAppEnd(timeout: .seconds(20)))
    #expect(await second.stop(timeout: .seconds(20)) == 0)
    #expect(try messages(scratch) == ["begin", long + "end", "last"])
  }

  @Test func aLineOf100MiBUsesBoundedMemory() async throws {
    let scratch = Scratch()
    let pipeline = try makePipeline(scratch)
    try pipeline.start()
    let app = AppPipe()
    pipeline.attachApp(stdout: app.reader, stderr: -1)
    let before = peakMemory()
    let total = 100 << 20
    let writer = Task.detached {
      let piece = [UInt8](repeating: 0x61, count: 1 << 20)
      for _ in 0..<100 { app.write(piece) }
      app.write("\nafter\n")
      app.end()
    }
    #expect(await pipeline.awaitAppEnd(timeout: .seconds(120)))
    await writer.value
    #expect(await pipeline.stop(timeout: .seconds(60)) == 0)
    #expect(peakMemory() - before < 64 << 20)
    var length = 0
    var parts = 0
    var last = ""
    try StoreReader(directory: scratch.path + "/store").query(StoreQuery()) { record in
      let truncated = record.part(max(0, record.count - 40)..<record.count).text.contains("\"truncated\":true")
      if truncated { parts += 1 }
      last = member(record.text, "message") ?? ""
      length += last.utf8.count
      return true
    }
    #expect(parts >= 99)
    #expect(length == total + 5)
    #expect(last == "after")
  }

  @Test func aFullDiskHoldsTheAppUpAndLosesNothing() async throws {
    let scratch = Scratch()
    let refused = Atomic<Int>(0)
    let full = Atomic<Bool>(true)
    let pipeline = try makePipeline(
      scratch,
      spoolWrite: { fd, bytes, count, offset in
        guard full.load(ordering: .acquiring), offset > 0 else { return pwrite(fd, bytes, count, off_t(offset)) }
        refused.wrappingAdd(1, ordering: .relaxed)
        // Half goes, then the disk is full: the torn half must not be read.
        if refused.load(ordering: .relaxed) % 2 == 1 { return pwrite(fd, bytes, count / 2, off_t(offset)) }
        errno = ENOSPC
        return -1
      })
    try pipeline.start()
    let app = AppPipe()
    pipeline.attachApp(stdout: app.reader, stderr: -1)
    app.write("1\n2\n")
    #expect(await eventually { refused.load(ordering: .relaxed) >= 4 })
    #expect(try messages(scratch) == [])
    full.store(false, ordering: .releasing)
    app.write("3\n")
    app.end()
    #expect(await pipeline.awaitAppEnd(timeout: .seconds(20)))
    #expect(await pipeline.stop(timeout: .seconds(20)) == 0)
    #expect(try messages(scratch) == ["1", "2", "3"])
  }

  @Test func anAppThatNeverPausesDoesNotKeepTheWorker() async throws {
    let scratch = Scratch()
    let pipeline = try makePipeline(scratch)
    try pipeline.start()
    let app = AppPipe()
    pipeline.attachApp(stdout: dup(app.reader), stderr: -1)
    let done = Atomic<Bool>(false)
    let writer = Task.detached { () -> Int in
      var count = 0
      while !done.load(ordering: .relaxed) {
        app.write("line \(count)\n")
        count += 1
      }
      app.end()
      return count
    }
    #expect(await eventually { ((try? stored(scratch, StoreQuery(limit: 1))) ?? []).count == 1 })
    #expect(await pipeline.stop(timeout: .seconds(20)) == 0)
    let next = try makePipeline(scratch)
    try next.start()
    next.attachApp(stdout: app.reader, stderr: -1)
    done.store(true, ordering: .relaxed)
    let count = await writer.value
    #expect(await next.awaitAppEnd(timeout: .seconds(20)))
    #expect(await next.stop(timeout: .seconds(20)) == 0)
    // No kill, so not even a duplicate.
    #expect(try messages(scratch) == (0..<count).map { "line \($0)" })
  }

  @Test func aPipeThatStaysOpenGivesItsLastLineAtTheTimeout() async throws {
    let scratch = Scratch()
    let pipeline = try makePipeline(scratch)
    try pipeline.start()
    let app = AppPipe()
    defer { app.end() }
    pipeline.attachApp(stdout: app.reader, stderr: -1)
    app.write("x\ntail")
    #expect(await pipeline.awaitAppEnd(timeout: .milliseconds(50)) == false)
    #expect(await pipeline.stop(timeout: .seconds(20)) == 0)
    #expect(try messages(scratch) == ["x", "tail"])
  }
}
