import CLinux
import Glibc
import Testing

@testable import Supervisor

/// A real supervisor in a process of its own, with the fake worker of `Fixtures`.
final class SupervisedRun {
  let directory: String
  let pid: Int32
  private var exit: ProcessExit?

  /// `scenario`: the JSON members of the fake worker's scenario, without braces.
  /// `launcher`: a command that runs the supervisor as its last arguments.
  init(_ scenario: String, launcher: [String] = []) throws {
    var template = Array("/tmp/outrider-life-XXXXXX".utf8CString)
    let path = template.withUnsafeMutableBufferPointer {
      $0.baseAddress.flatMap { mkdtemp($0) }.map { String(cString: $0) }
    }
    directory = try #require(path)
    let members = ["\"log\": \"\(directory)/log\"", "\"out\": \"\(directory)/out\""] + [scenario]
    let text = "{" + members.filter { !$0.isEmpty }.joined(separator: ", ") + "}"
    try Self.write(text.replacing("DIRECTORY", with: directory), to: directory + "/scenario.json")
    try Self.write("#!/no/such/interpreter\n", to: directory + "/script")
    let errors = open(directory + "/stderr", O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0o600)
    let input = open("/dev/null", O_RDONLY | O_CLOEXEC)
    defer {
      close(errors)
      close(input)
    }
    var own = [CChar](repeating: 0, count: 4096)
    let length = readlink("/proc/self/exe", &own, own.count - 1)
    let program = String(decoding: own[..<max(length, 0)].map { UInt8(bitPattern: $0) }, as: UTF8.self)
    let host = program.split(separator: "/").dropLast().reduce("") { $0 + "/" + $1 } + "/supervisor-host"
    let worker = #filePath.split(separator: "/").dropLast().reduce("") { $0 + "/" + $1 } + "/Fixtures/fake_worker.py"
    pid = try Spawn.start(
      file: launcher.first ?? host,
      arguments: launcher + [host, "python3", worker, directory + "/scenario.json"], environment: nil,
      descriptors: [input, errors, errors])
  }

  deinit {
    if exit == nil {
      kill(pid, SIGKILL)
      waitpid(pid, nil, 0)
    }
    for name in ["log", "out", "scenario.json", "stderr", "script", "s"] { unlink(directory + "/" + name) }
    rmdir(directory)
  }

  static func write(_ text: String, to path: String) throws {
    let file = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o700)
    defer { close(file) }
    let bytes = Array(text.utf8)
    try #require(Glibc.write(file, bytes, bytes.count) == bytes.count)
  }

  static func text(_ path: String) -> String {
    let file = open(path, O_RDONLY | O_CLOEXEC)
    guard file >= 0 else { return "" }
    defer { close(file) }
    var bytes: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 1 << 16)
    while case let count = read(file, &buffer, buffer.count), count > 0 { bytes += buffer[..<count] }
    return String(decoding: bytes, as: UTF8.self)
  }

  func text(_ name: String) -> String { Self.text(directory + "/" + name) }
  var log: [String] { text("log").split(separator: "\n").map(String.init) }

  /// Polls until the condition gives something; fails the test after 30 s.
  func eventually<Value>(
    _ what: String, at location: SourceLocation = #_sourceLocation, _ condition: () -> Value?
  ) throws -> Value {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    let end = time.tv_sec + 30
    while time.tv_sec < end {
      if let value = condition() { return value }
      poll(nil, 0, 5)
      clock_gettime(CLOCK_MONOTONIC, &time)
    }
    let state = "log:\n\(text("log"))\nstderr:\n\(text("stderr"))"
    return try #require(condition(), "\(what) did not come\n\(state)", sourceLocation: location)
  }

  /// The first line of the log that begins so, without the beginning.
  func line(_ beginning: String, number: Int = 1, at location: SourceLocation = #_sourceLocation) throws -> String {
    try eventually("log line \"\(beginning)\"", at: location) {
      let lines = log.filter { $0.hasPrefix(beginning) }
      return lines.count >= number ? String(lines[number - 1].dropFirst(beginning.count)) : nil
    }
  }

  func number(_ beginning: String, number: Int = 1, at location: SourceLocation = #_sourceLocation) throws -> Int32 {
    let word = try line(beginning, number: number, at: location).split(separator: " ").first
    return try #require(word.flatMap { Int32($0) }, sourceLocation: location)
  }

  func signal(_ number: Int32) { kill(pid, number) }

  func end(at location: SourceLocation = #_sourceLocation) throws -> ProcessExit {
    var status: CInt = 0
    let found: ProcessExit = try eventually("the supervisor's end", at: location) {
      guard waitpid(pid, &status, WNOHANG) == pid else { return nil }
      let code = outrider_exit_of_status(status)
      return code < 0 ? .signal(-code) : .code(code)
    }
    exit = found
    return found
  }
}
