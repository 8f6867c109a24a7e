import ArgumentParser
import Glibc
import LogShipper
import Logs
import Vocabulary

struct DeadLetterCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "dead-letter", abstract: "Records that sinks refused: list them, read them, send them again.",
    subcommands: [List.self, Show.self, Replay.self])

  struct List: ParsableCommand {
    static let configuration = CommandConfiguration(
      commandName: "ls", abstract: "The dead-letter files of the state directory: records, size, the newest reason.")
    @OptionGroup var options: CommonOptions

    func run() throws {
      let directory = try options.stateDirectory() + "/dead-letter"
      for name in LetterFile.names(in: directory) {
        var count = 0
        var last: DeadLetter?
        let path = "\(directory)/\(name).ndjson"
        try LetterFile.read(path) { _, letter in
          count += 1
          last = letter
        }
        let size = LetterFile.size(path)
        if options.output == .json {
          print(
            "{\"sink\":\(JSONNode.quote(name)),\"records\":\(count),\"bytes\":\(size),\"last_time\":"
              + "\(JSONNode.quote(last?.time ?? "")),\"last_reason\":\(JSONNode.quote(last?.reason ?? ""))}")
        } else {
          print("\(name): \(count) records, \(size) bytes" + (last.map { ", last \($0.time): \($0.reason)" } ?? ""))
        }
      }
    }
  }

  struct Show: ParsableCommand {
    static let configuration = CommandConfiguration(
      commandName: "show", abstract: "The records of a sink's dead-letter file, each with its reason.")
    @OptionGroup var options: CommonOptions
    @Argument(help: "The sink's name, or the path of a dead-letter file.") var sink: String

    func run() throws {
      let path = try LetterFile.path(sink, options)
      let asJSON = options.output == .json
      try LetterFile.read(path) { line, letter in
        if asJSON {
          print(line.text)
        } else {
          print("\(letter.time) \(letter.reason)")
          print("  " + RecordView.pretty(line.part(letter.record), colour: false))
        }
      }
    }
  }

  struct Replay: ParsableCommand {
    static let configuration = CommandConfiguration(
      commandName: "replay", abstract: "Have the sink send its dead letters again.",
      discussion: """
        The file moves to NAME.ndjson.replay, which the running sink takes within a second once nothing else waits, or
        the next run. What is refused again comes back to NAME.ndjson. A sink that is killed meanwhile begins anew.
        """)
    @OptionGroup var options: CommonOptions
    @Argument(help: "The sink's name, or the path of a dead-letter file.") var sink: String

    func run() throws {
      let path = try LetterFile.path(sink, options)
      // A hard link fails when the other one exists, so that letters on their way are never written over.
      guard link(path, path + ".replay") == 0, unlink(path) == 0 else {
        let code = errno
        let reason =
          code == EEXIST ? "the letters of the last replay are still on their way" : String(cString: strerror(code))
        throw Failure("cannot move '\(path)': \(reason)")
      }
      print("\(sink): will be sent again; `outrider status` shows the sink")
    }
  }

  struct Failure: Error, CustomStringConvertible {
    var description: String
    init(_ description: String) { self.description = description }
  }
}

private enum LetterFile {
  static func names(in directory: String) -> [String] {
    guard let handle = opendir(directory) else { return [] }
    defer { closedir(handle) }
    var names: [String] = []
    while let entry = readdir(handle) {
      let name = withUnsafeBytes(of: &entry.pointee.d_name) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
      if name.hasSuffix(".ndjson") { names.append(String(name.dropLast(7))) }
    }
    return names.sorted()
  }

  static func path(_ sink: String, _ options: CommonOptions) throws -> String {
    if sink.contains("/") { return sink }
    let path = try "\(options.stateDirectory())/dead-letter/\(sink).ndjson"
    guard access(path, F_OK) == 0 else {
      throw DeadLetterCommand.Failure(
        "there are no dead letters of '\(sink)' ('\(path)'); `outrider logs dead-letter ls` has those there are; name the file itself when the sink has `dead_letter`"
      )
    }
    return path
  }

  static func size(_ path: String) -> Int {
    var status = stat()
    return stat(path, &status) == 0 ? Int(status.st_size) : 0
  }

  /// Calls `visit` for each letter; other lines are passed over.
  static func read(_ path: String, _ visit: (UnsafeRawBufferPointer, DeadLetter) -> Void) throws {
    let fd = open(path, O_RDONLY | O_CLOEXEC)
    guard fd >= 0 else { throw DeadLetterCommand.Failure("cannot read '\(path)': \(String(cString: strerror(errno)))") }
    defer { close(fd) }
    let arena = ByteArena(capacity: 128 << 10)
    while true {
      let n = Glibc.read(fd, arena.reserve(64 << 10), 64 << 10)
      if n <= 0 { return }
      arena.advance(n)
      var start = 0
      while let end = arena.bytes.firstOffset(of: 0x0A, from: start) {
        let line = arena.bytes.part(start..<end)
        if let letter = DeadLetter(line) { visit(line, letter) }
        start = end + 1
      }
      arena.removeFirst(start)
    }
  }
}
