import Glibc
import LogShipper
import Logs
import Testing
import Vocabulary

@Suite(.serialized) struct ElasticsearchSinkTests {
  func pipeline(_ scratch: Scratch, _ urls: [String], _ adjust: (inout LogSinkConfiguration) -> Void = { _ in }) throws
    -> LogPipeline
  {
    let pipeline = try makePipeline(
      scratch,
      adjust: { configuration in
        let output = LogSinkConfiguration.ElasticsearchOutput(urls: urls, index: "shop-%Y.%m.%d")
        var sink = LogSinkConfiguration(name: "es", output: .elasticsearch(output))
        sink.retryInitial = .milliseconds(5)
        sink.retryMax = .milliseconds(20)
        sink.batchAge = .milliseconds(20)
        adjust(&sink)
        configuration.sinks.append(sink)
      })
    try pipeline.start()
    return pipeline
  }

  /// Runs 3000 lines through a server that shows a fault, and returns what it holds.
  func run(_ fault: BulkServer.Fault, times: Int, _ extra: [String] = []) async throws -> (
    BulkServer, Scratch, LogSinkStatus?, [String]
  ) {
    let scratch = Scratch()
    let server = BulkServer()
    defer { server.stop() }
    server.show(fault, times: times)
    let pipeline = try pipeline(scratch, [server.url])
    let app = AppPipe()
    pipeline.attachApp(stdout: app.reader, stderr: -1)
    let lines = (0..<3000).map { "line \($0)" } + extra
    app.write(lines.joined(separator: "\n") + "\n")
    app.end()
    #expect(await pipeline.awaitAppEnd(timeout: .seconds(20)))
    #expect(await pipeline.stop(timeout: .seconds(30)) == 0)
    #expect(server.problems == [])
    return (server, scratch, pipeline.status().first { $0.name == "es" }, lines)
  }

  func messages(_ server: BulkServer) -> [String] { server.documents.compactMap { member($0, "message") }.sorted() }

  @Test func everyLineArrivesOnce() async throws {
    let (server, _, status, lines) = try await run(.none, times: 0)
    #expect(messages(server) == lines.sorted())
    #expect(status?.sent == 3000 && status?.retried == 0 && server.duplicates == 0)
  }

  @Test func aBusyClusterIsTriedAgain() async throws {
    let (server, _, status, lines) = try await run(.tooMany, times: 3)
    #expect(messages(server) == lines.sorted())
    #expect(status?.sent == 3000 && (status?.retried ?? 0) >= 3 && status?.lastError == nil)
  }

  @Test func onlyRefusedItemsAreSentAgain() async throws {
    let (server, _, status, lines) = try await run(.everyThird, times: 2)
    #expect(messages(server) == lines.sorted())
    #expect(server.duplicates == 0)
    #expect(status?.sent == 3000 && (status?.retried ?? 0) > 0)
  }

  @Test func aBatchTooLargeIsSplit() async throws {
    let (server, _, status, lines) = try await run(.tooLarge(20_000), times: .max)
    #expect(messages(server) == lines.sorted())
    #expect(server.duplicates == 0 && status?.deadLetters == 0)
  }

  @Test func whatCanNeverBeStoredGoesToTheDeadLetterFile() async throws {
    let (server, scratch, status, lines) = try await run(.mapping, times: .max, ["poison 1", "poison 2"])
    #expect(messages(server) == lines.filter { !$0.hasPrefix("poison") }.sorted())
    #expect(status?.deadLetters == 2 && status?.retried == 0)
    let fd = open(scratch.path + "/dead-letter/es.ndjson", O_RDONLY)
    defer { close(fd) }
    var buffer = [UInt8](repeating: 0, count: 65536)
    let count = read(fd, &buffer, 65536)
    let text = String(decoding: buffer.prefix(max(0, count)), as: UTF8.self)
    let letters = text.split(separator: "\n").map(String.init)
    #expect(letters.count == 2)
    #expect(letters.allSatisfy { member($0, "reason") == "400 mapper_parsing_exception: no" })
    #expect(text.contains("poison 1") && text.contains("poison 2"))
  }

  @Test func storedButUnansweredIsNotStoredTwice() async throws {
    let (server, _, _, lines) = try await run(.storeThenReset, times: 1)
    #expect(messages(server) == lines.sorted())
    #expect(server.duplicates > 0)
  }

  @Test func recordsOfOtherSourcesDoNotHoldTheSpool() async throws {
    let scratch = Scratch()
    let server = BulkServer()
    defer { server.stop() }
    let pipeline = try pipeline(scratch, [server.url]) { $0.from = ["access"] }
    let app = AppPipe()
    pipeline.attachApp(stdout: app.reader, stderr: -1)
    app.write("a\n")
    app.end()
    #expect(await pipeline.awaitAppEnd(timeout: .seconds(20)))
    #expect(await eventually { pipeline.status().allSatisfy { $0.lag == 0 } })
    #expect(await pipeline.stop(timeout: .seconds(20)) == 0)
    #expect(server.requests == 0)
  }

  @Test func aDeadClusterHoldsUpNothingAndTheSpoolKeepsAll() async throws {
    let scratch = Scratch()
    let dead = BulkServer()
    dead.stop()
    let first = try pipeline(scratch, [dead.url])
    let app = AppPipe()
    first.attachApp(stdout: app.reader, stderr: -1)
    app.write("a\nb\n")
    app.end()
    #expect(await first.awaitAppEnd(timeout: .seconds(20)))
    #expect(await eventually { (try? LogShipperTests.messages(scratch)) == ["a", "b"] })
    #expect(await first.stop(timeout: .milliseconds(300)) == 2)
    #expect(first.status().first { $0.name == "es" }?.lastError != nil)
    // The next one delivers, past the address that is still dead.
    let server = BulkServer()
    defer { server.stop() }
    let second = try pipeline(scratch, [dead.url, server.url])
    #expect(await eventually { server.documents.count == 2 })
    #expect(await second.stop(timeout: .seconds(20)) == 0)
    #expect(messages(server) == ["a", "b"])
  }
}
