import CLinux
import Glibc

/// The app's process and the read ends of its output, which outlive the workers.
struct AppProcess {
  struct Output {
    let pid: Int32
    let standardOutput: CInt
    let standardError: CInt

    /// No writer is left and all is read.
    var isFinished: Bool {
      outrider_pipe_is_finished(standardOutput) == 1 && outrider_pipe_is_finished(standardError) == 1
    }
  }
  /// What is unread of earlier processes is kept for so many of them.
  static let retiredOutputs = 16
  static let pipeSize: CInt = 1 << 20

  private(set) var pid: Int32?
  /// Oldest first, the running process last.
  private(set) var outputs: [Output] = []
  /// The read end of `OUTRIDER_READY_FD`.
  private(set) var readyDescriptor: CInt?
  /// What the next start passes on as `OUTRIDER_SECRETS_FD`.
  private var inherited: CInt?

  /// Descriptors that came with the next start; they become ours. More than one is not known.
  mutating func give(_ descriptors: [CInt]) {
    if let inherited { close(inherited) }
    inherited = descriptors.first
    for descriptor in descriptors.dropFirst() { close(descriptor) }
  }

  /// With `onTerminal` it has the run's own descriptors and the terminal; its pipes are there, and at their end at once.
  mutating func start(_ spec: AppSpec, onTerminal: Bool = false) throws(Spawn.Failure) -> Int32 {
    var pipes: [(read: CInt, write: CInt)] = []
    defer { for pipe in pipes { close(pipe.write) } }
    var environment = spec.environment
    do throws(Spawn.Failure) {
      for _ in 0..<(spec.readyDescriptor ? 3 : 2) { pipes.append(try Self.pipe()) }
      if spec.readyDescriptor { environment.append("OUTRIDER_READY_FD=3") }
      var descriptors = [-1] + pipes.map(\.write)
      if onTerminal { descriptors.replaceSubrange(1...2, with: [-1, -1]) }
      if let inherited, outrider_is_memory(inherited) == 1 {
        descriptors.append(inherited)
        environment.append("OUTRIDER_SECRETS_FD=\(descriptors.count - 1)")
      }
      let child = try Spawn.start(
        file: spec.arguments[0], arguments: spec.arguments, environment: environment,
        directory: spec.workingDirectory, user: spec.user, group: spec.group, descriptors: descriptors,
        takesTerminal: onTerminal)
      give([])
      pid = child
      outputs.append(Output(pid: child, standardOutput: pipes[0].read, standardError: pipes[1].read))
      forgetReadyDescriptor()
      if spec.readyDescriptor { readyDescriptor = pipes[2].read }
      retire()
      return child
    } catch {
      for pipe in pipes { close(pipe.read) }
      throw error
    }
  }

  mutating func isGone() { pid = nil }

  /// What another program in this process had started.
  mutating func adopt(pid: Int32?, outputs: [Output], readyDescriptor: CInt?) {
    (self.pid, self.outputs, self.readyDescriptor) = (pid, outputs, readyDescriptor)
  }

  /// Whether it has a handler for the signal: one that would only die of it is not told.
  static func handles(_ signal: Int32, pid: Int32) -> Bool {
    let file = open("/proc/\(pid)/status", O_RDONLY | O_CLOEXEC)
    guard file >= 0 else { return false }
    defer { close(file) }
    var bytes = [UInt8](repeating: 0, count: 4096)
    let text = String(decoding: bytes[..<max(read(file, &bytes, bytes.count), 0)], as: UTF8.self)
    let line = text.split(separator: "\n").first { $0.hasPrefix("SigCgt:") }
    guard let mask = line?.split(separator: "\t").last.flatMap({ UInt64($0, radix: 16) }) else { return false }
    return mask >> UInt64(signal - 1) & 1 == 1
  }

  mutating func forgetReadyDescriptor() {
    if let readyDescriptor { close(readyDescriptor) }
    readyDescriptor = nil
  }

  /// True when the app has said that it is ready; nil when it will not say any more.
  func readReadiness() -> Bool? {
    guard let readyDescriptor else { return nil }
    var buffer = [UInt8](repeating: 0, count: 256)
    let count = read(readyDescriptor, &buffer, buffer.count)
    if count < 0, errno == EAGAIN { return false }
    guard count > 0 else { return nil }
    return buffer[..<count].contains(UInt8(ascii: "\n"))
  }

  /// Closes the outputs of earlier processes that are read to their end, and the oldest of too many.
  mutating func retire() {
    outputs.removeAll { output in
      guard output.pid != pid, output.isFinished else { return false }
      Self.closeOutput(output)
      return true
    }
    while outputs.count > Self.retiredOutputs + 1 { Self.closeOutput(outputs.removeFirst()) }
  }

  private static func closeOutput(_ output: Output) {
    close(output.standardOutput)
    close(output.standardError)
  }

  /// A pipe whose read end does not block.
  private static func pipe() throws(Spawn.Failure) -> (read: CInt, write: CInt) {
    var ends: [CInt] = [-1, -1]
    guard outrider_app_pipe(&ends, pipeSize) == 0 else {
      throw Spawn.Failure(stage: Int32(OUTRIDER_SPAWN_DESCRIPTORS.rawValue), error: errno)
    }
    return (ends[0], ends[1])
  }
}
