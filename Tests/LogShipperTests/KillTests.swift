import Glibc
import Testing

/// A real process that is killed in the worst moment: the spool has the lines, the app's pipe still has them too.
@Suite(.serialized) struct KillTests {
  /// Runs log-host with the pipe's read end as its descriptor 0; its exit code, or the negative signal that ended it.
  static func run(_ scratch: Scratch, pipe: CInt, appends: Int) throws -> Int32 {
    var own = [CChar](repeating: 0, count: 4096)
    let length = readlink("/proc/self/exe", &own, own.count - 1)
    let tests = String(decoding: own[..<max(length, 0)].map { UInt8(bitPattern: $0) }, as: UTF8.self)
    let path = tests.split(separator: "/").dropLast().reduce("") { $0 + "/" + $1 } + "/log-host"
    var actions = posix_spawn_file_actions_t()
    posix_spawn_file_actions_init(&actions)
    defer { posix_spawn_file_actions_destroy(&actions) }
    posix_spawn_file_actions_adddup2(&actions, pipe, 0)
    posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0)
    let arguments = [path, scratch.path, String(appends)]
    var words: [UnsafeMutablePointer<CChar>?] = arguments.map { strdup($0) } + [nil]
    defer { for word in words { free(word) } }
    var pid: pid_t = 0
    try #require(posix_spawn(&pid, path, &actions, nil, &words, environ) == 0)
    var status: Int32 = 0
    while waitpid(pid, &status, 0) < 0, errno == EINTR {}
    return status & 0x7F == 0 ? status >> 8 & 0xFF : -(status & 0x7F)
  }

  @Test func aKillBetweenSpoolAndPipeLosesNothing() throws {
    let scratch = Scratch()
    let app = AppPipe()
    app.write("1\n2\n")
    #expect(try Self.run(scratch, pipe: app.reader, appends: 1) == -SIGKILL)
    app.write("3\n4\nha")
    #expect(try Self.run(scratch, pipe: app.reader, appends: 1) == -SIGKILL)
    app.write("lf\n5\n")
    app.end()
    #expect(try Self.run(scratch, pipe: app.reader, appends: 0) == 0)
    close(app.reader)
    let found = try messages(scratch)
    // What was appended and not taken out comes once more, and so does what the store had written and not acknowledged
    // when the process was killed; nothing is missing, and no line is torn.
    let lines = ["1", "2", "3", "4", "half", "5"]
    #expect(found.suffix(6) == lines[...])
    #expect(found.allSatisfy(lines.contains))
    #expect(found.count >= 12 && found.count <= 20)
  }
}
