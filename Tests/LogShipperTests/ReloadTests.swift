import Glibc
import LogShipper
import Logs
import Telemetry
import Testing
import Vocabulary

/// A configuration that changes while the app writes: no record is lost, none of a local sink is doubled.
@Suite(.serialized) struct LogReloadTests {
  static func sink(_ server: BulkServer, _ adjust: (inout LogSinkConfiguration) -> Void = { _ in })
    -> LogSinkConfiguration
  {
    let output = LogSinkConfiguration.ElasticsearchOutput(urls: [server.url], index: "shop-x")
    var sink = LogSinkConfiguration(name: "es", output: .elasticsearch(output))
    sink.retryInitial = .milliseconds(5)
    sink.retryMax = .milliseconds(20)
    sink.batchAge = .milliseconds(5)
    adjust(&sink)
    return sink
  }

  static func received(_ server: BulkServer) -> Set<String> {
    Set(server.documents.compactMap { member($0, "message") })
  }

  @Test func sinksAndTransformsChangeUnderOutput() async throws {
    let scratch = Scratch()
    let (first, second) = (BulkServer(), BulkServer())
    defer {
      first.stop()
      second.stop()
    }
    var configuration = LogsConfiguration()
    configuration.sinks = [
      LogSinkConfiguration(name: "store", output: .store(path: nil, keep: 1 << 30)), Self.sink(first),
    ]
    let start = configuration
    let pipeline = try makePipeline(scratch, adjust: { $0 = start })
    try pipeline.start()
    let app = AppPipe()
    pipeline.attachApp(stdout: app.reader, stderr: -1)
    let total = 60_000
    let writer = Task.detached {
      for number in 0..<total { app.write("line \(number)\n") }
      app.end()
    }
    // Another address for the same sink, a field on every record, a sink more, a sink less: round and round.
    var rounds = 0
    while (try stored(scratch, StoreQuery(limit: 1))).first.map({ !$0.contains("line \(total - 1)\"") }) ?? true {
      rounds += 1
      configuration.sinks[1] = Self.sink(rounds % 2 == 0 ? first : second) { $0.gzip = rounds % 3 != 0 }
      configuration.transforms = [.add(["round": "\(rounds)"])]
      configuration.sinks = Array(configuration.sinks.prefix(2))
      if rounds % 2 == 1 {
        configuration.sinks.append(LogSinkConfiguration(name: "file", output: .file(path: scratch.path + "/file")))
      }
      await pipeline.apply(try pipeline.prepare(configuration))
    }
    await writer.value
    #expect(rounds > 1)
    #expect(await pipeline.awaitAppEnd(timeout: .seconds(20)))
    #expect(await pipeline.stop(timeout: .seconds(30)) == 0)
    let wanted = (0..<total).map { "line \($0)" }
    let isWhole = try messages(scratch) == wanted
    #expect(isWhole, "every line once, in order")
    let missing = Set(wanted).subtracting(Self.received(first)).subtracting(Self.received(second)).count
    #expect(missing == 0 && first.problems == [] && second.problems == [])
    #expect(try stored(scratch).contains { $0.contains("\"round\":\"1\"") })
    #expect(pipeline.status().first { $0.name == "store" }?.sent == UInt64(total), "its count goes on")
  }

  @Test func aSinkThatIsTakenAwaySendsWhatItHasAndFreesTheSpool() async throws {
    let scratch = Scratch()
    let server = BulkServer()
    defer { server.stop() }
    server.show(.unavailable, times: 3)
    var configuration = LogsConfiguration()
    configuration.sinks = [
      LogSinkConfiguration(name: "store", output: .store(path: nil, keep: 1 << 30)), Self.sink(server),
    ]
    configuration.spool.limit = 256 << 10
    let start = configuration
    let metrics = MetricRegistry()
    let pipeline = try makePipeline(scratch, metrics: metrics, adjust: { $0 = start })
    try pipeline.start()
    let app = AppPipe()
    pipeline.attachApp(stdout: app.reader, stderr: -1)
    app.write("one\ntwo\n")
    #expect(await eventually { (try? messages(scratch)) == ["one", "two"] })
    configuration.sinks.removeLast()
    await pipeline.apply(try pipeline.prepare(configuration))
    #expect(Self.received(server) == ["one", "two"], "it had time to send")
    #expect(pipeline.status().map(\.name) == ["store"])
    // Far above the spool's limit: nothing waits for a sink that is gone.
    let line = String(repeating: "x", count: 1000)
    for number in 0..<1000 { app.write("\(number) \(line)\n") }
    app.end()
    #expect(await pipeline.awaitAppEnd(timeout: .seconds(20)))
    #expect(await pipeline.stop(timeout: .seconds(20)) == 0)
    #expect(try messages(scratch).count == 1002)
    #expect(metrics.prometheusText().contains("outrider_log_lag_records{sink=\"es\"} 0"))
  }

  @Test func aHangingRequestDoesNotHoldUpTheChange() async throws {
    let scratch = Scratch()
    let server = BulkServer()
    defer { server.stop() }
    // Accepts connections and never answers.
    let silent = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    defer { close(silent) }
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
    var length = socklen_t(MemoryLayout<sockaddr_in>.size)
    withUnsafeMutablePointer(to: &address) { pointer in
      pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        _ = bind(silent, $0, length)
        _ = getsockname(silent, $0, &length)
      }
    }
    listen(silent, 8)
    let url = "http://127.0.0.1:\(Int(UInt16(bigEndian: address.sin_port)))"
    var configuration = LogsConfiguration()
    let hanging = LogSinkConfiguration.ElasticsearchOutput(urls: [url], index: "shop-x")
    configuration.sinks = [LogSinkConfiguration(name: "es", output: .elasticsearch(hanging))]
    configuration.sinks[0].batchAge = .zero
    let start = configuration
    let pipeline = try makePipeline(scratch, adjust: { $0 = start })
    try pipeline.start()
    let app = AppPipe()
    pipeline.attachApp(stdout: app.reader, stderr: -1)
    app.write("one\n")
    var state = pollfd(fd: silent, events: Int16(POLLIN), revents: 0)
    #expect(poll(&state, 1, 20_000) == 1, "the request has begun")
    configuration.sinks = [Self.sink(server)]
    let began = ContinuousClock.now
    await pipeline.apply(try pipeline.prepare(configuration))
    // The request itself would last 30 s.
    #expect(ContinuousClock.now - began < .seconds(15))
    #expect(await eventually { Self.received(server) == ["one"] })
    app.end()
    #expect(await pipeline.awaitAppEnd(timeout: .seconds(20)))
    #expect(await pipeline.stop(timeout: .seconds(20)) == 0)
  }

  @Test func filesComeGoAndComeBackAtTheirPlace() async throws {
    let scratch = Scratch()
    let path = scratch.path + "/app.log"
    append(path, "1\n")
    let pipeline = try makePipeline(scratch)
    try pipeline.start()
    var input = LogSourceConfiguration.FilesInput(globs: [path])
    input.fromBeginning = true
    var configuration = LogsConfiguration()
    configuration.sinks = [LogSinkConfiguration(name: "store", output: .store(path: nil, keep: 1 << 30))]
    configuration.sources = [LogSourceConfiguration(name: "file", input: .files(input))]
    await pipeline.apply(try pipeline.prepare(configuration))
    #expect(await eventually { (try? messages(scratch)) == ["1"] })
    // Another parser: the same file goes on.
    configuration.sources[0].parser = .json
    await pipeline.apply(try pipeline.prepare(configuration))
    append(path, "2\n")
    #expect(await eventually { (try? messages(scratch)) == ["1", "2"] })
    let with = configuration
    configuration.sources = []
    await pipeline.apply(try pipeline.prepare(configuration))
    append(path, "3\n")
    await pipeline.apply(try pipeline.prepare(with))
    #expect(await eventually { (try? messages(scratch)) == ["1", "2", "3"] })
    #expect(await pipeline.stop(timeout: .seconds(20)) == 0)
  }

  @Test func whatCannotBePreparedChangesNothing() async throws {
    let scratch = Scratch()
    let pipeline = try makePipeline(scratch)
    try pipeline.start()
    var configuration = LogsConfiguration()
    let output = LogSinkConfiguration.ElasticsearchOutput(urls: ["https://127.0.0.1:1"], index: "shop-x")
    configuration.sinks = [LogSinkConfiguration(name: "es", output: .elasticsearch(output))]
    configuration.sinks[0].tls.certificate = scratch.path + "/none.pem"
    #expect(throws: (any Error).self) { try pipeline.prepare(configuration) }
    configuration.sinks = [LogSinkConfiguration(name: "store", output: .store(path: "/proc/none", keep: 1 << 20))]
    #expect(throws: (any Error).self) { try pipeline.prepare(configuration) }
    #expect(pipeline.status().map(\.name) == ["store"])
    let app = AppPipe()
    pipeline.attachApp(stdout: app.reader, stderr: -1)
    app.write("on\n")
    app.end()
    #expect(await pipeline.awaitAppEnd(timeout: .seconds(20)))
    #expect(await pipeline.stop(timeout: .seconds(20)) == 0)
    #expect(try messages(scratch) == ["on"])
  }
}
