import Glibc
import LogShipper
import Logs
import Testing
import Vocabulary

@Suite(.serialized) struct FilesSourceTests {
  func follow(_ scratch: Scratch, beginning: Bool = true) throws -> LogPipeline {
    let pipeline = try makePipeline(
      scratch,
      adjust: { configuration in
        var input = LogSourceConfiguration.FilesInput(globs: [scratch.path + "/*.log"])
        input.fromBeginning = beginning
        input.rotateWait = .milliseconds(200)
        configuration.sources = [LogSourceConfiguration(name: "f", input: .files(input))]
      })
    try pipeline.start()
    return pipeline
  }

  func arrived(_ scratch: Scratch, _ expected: [String]) async -> Bool {
    await eventually { (try? messages(scratch).sorted()) == expected.sorted() }
  }

  @Test func rotationTruncationAndNewFiles() async throws {
    let scratch = Scratch()
    let log = scratch.path + "/a.log"
    append(log, "1\n")
    let pipeline = try follow(scratch)
    #expect(await arrived(scratch, ["1"]))
    append(log, "2\n")
    rename(log, scratch.path + "/a.log.1")
    append(scratch.path + "/a.log.1", "3\n")
    append(log, "4\n")
    #expect(await arrived(scratch, ["1", "2", "3", "4"]))
    truncate(log, 0)
    append(log, "5\n")
    append(scratch.path + "/b.log", "6\n")
    #expect(await arrived(scratch, ["1", "2", "3", "4", "5", "6"]))
    #expect(await pipeline.stop(timeout: .seconds(20)) == 0)
  }

  @Test func renamedWhileAwayIsReadOnceAndWhole() async throws {
    let scratch = Scratch()
    let log = scratch.path + "/a.log"
    append(log, "1\n2\n")
    let first = try follow(scratch)
    #expect(await arrived(scratch, ["1", "2"]))
    #expect(await first.stop(timeout: .seconds(20)) == 0)
    append(log, "3\n")
    rename(log, scratch.path + "/a.log.1")
    append(log, "4\n")
    rename(scratch.path + "/a.log.1", scratch.path + "/a.log.2")
    rename(log, scratch.path + "/a.log.1")
    append(log, "5\n")
    let second = try follow(scratch)
    // The file that came and went while nobody looked matches no glob and is not known.
    #expect(await arrived(scratch, ["1", "2", "3", "5"]))
    #expect(await second.stop(timeout: .seconds(20)) == 0)
  }

  @Test func startsAtTheEndUnlessTold() async throws {
    let scratch = Scratch()
    append(scratch.path + "/a.log", "old\n")
    let pipeline = try follow(scratch, beginning: false)
    #expect(await eventually { access(scratch.path + "/checkpoints/files.f", R_OK) == 0 })
    append(scratch.path + "/a.log", "new\n")
    append(scratch.path + "/later.log", "first\n")
    #expect(await arrived(scratch, ["new", "first"]))
    #expect(await pipeline.stop(timeout: .seconds(20)) == 0)
  }
}
