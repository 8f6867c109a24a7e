import CLinux
import Glibc
import Vocabulary

/// The supervisor becomes another program in the same process: its number, its children and its descriptors stay, and
/// what it knows goes through anonymous memory.
extension SupervisorDriver {
  /// Names the descriptor of that memory to the next program.
  static let stateVariable = "OUTRIDER_SUPERVISOR_STATE"

  /// Becomes the program that the worker is of; on any error this one goes on. Waits until no frame is half way.
  func replaceThisProgram() {
    guard machine.isQuiet else {
      isToBeReplaced = false
      machine.supervisorIsOlder = true
      return
    }
    guard channel?.isIdle == true, pending.isEmpty, candidate == nil, former == nil else { return }
    isToBeReplaced = false
    guard case .descriptor(let program) = binaries.present, let passed = KeptMemory() else { return }
    // The program that runs now, should it be needed again.
    if case .command? = binaries.former {
      let own = open("/proc/self/exe", O_RDONLY | O_CLOEXEC)
      binaries.former = own >= 0 ? .descriptor(own) : nil
    }
    // With the program itself: a script is read by its interpreter after the change.
    let state = SupervisorState(self, program)
    passed.write(state.bytes)
    guard passed.read() == state.bytes else {
      close(passed.descriptor)
      return message("upgrade: the supervisor goes on as the program it is: there is no memory for what it knows")
    }
    let passedOn = state.descriptors + [passed.descriptor]
    for descriptor in passedOn { _ = fcntl(descriptor, F_SETFD, 0) }
    setenv(Self.stateVariable, "\(passed.descriptor)", 1)
    var words = CommandLine.arguments.map { strdup($0) } + [nil]
    execv("/proc/self/fd/\(program)", &words)
    let text = String(cString: strerror(errno))
    for word in words { free(word) }
    unsetenv(Self.stateVariable)
    for descriptor in passedOn { _ = fcntl(descriptor, F_SETFD, FD_CLOEXEC) }
    close(passed.descriptor)
    message("upgrade: the supervisor goes on as the program it is: \(text)")
  }

  /// Takes up what the program before left, nil when there is none; false when it is not understood.
  func resume() -> Bool? {
    guard let text = getenv(Self.stateVariable).map({ String(cString: $0) }) else { return nil }
    unsetenv(Self.stateVariable)
    do throws(FrameError) {
      guard let number = CInt(text), let passed = KeptMemory(descriptor: number), let bytes = passed.read() else {
        throw FrameError("it is not whole")
      }
      close(number)
      try SupervisorState.apply(bytes, to: self)
    } catch {
      message("upgrade: the supervisor's state cannot be taken over (\(error)): start the whole anew")
      return false
    }
    return true
  }
}

/// What one supervisor leaves to the next, in the form of a frame's payload.
struct SupervisorState {
  private(set) var bytes: [UInt8] = []
  /// All that `bytes` name.
  private(set) var descriptors: [CInt] = []

  init(_ driver: SupervisorDriver, _ program: CInt) {
    var writer = FrameWriter()
    writer.write(FrameLimits.version)
    put(program, &writer)
    writer.write(driver.machine)
    writer.write(driver.workerPID ?? 0)
    put(driver.channel?.descriptor, &writer)
    put(driver.memory?.descriptor, &writer)
    if case .descriptor(let former)? = driver.binaries.former { put(former, &writer) } else { put(nil, &writer) }
    let listeners = driver.listeners.passedOn
    writer.write(UInt32(listeners.count))
    for listener in listeners {
      writer.write(listener.address)
      put(listener.descriptor, &writer)
      writer.write(listener.isListening)
      writer.write(listener.isOfUnit)
    }
    let unclaimed = driver.listeners.handedOver.unclaimed
    writer.write(UInt32(unclaimed.count))
    for (_, socket) in unclaimed {
      put(socket.descriptor, &writer)
      writer.write(socket.isStored)
    }
    writer.write(driver.app.pid ?? 0)
    put(driver.app.readyDescriptor, &writer)
    writer.write(UInt32(driver.app.outputs.count))
    for output in driver.app.outputs {
      writer.write(output.pid)
      put(output.standardOutput, &writer)
      put(output.standardError, &writer)
    }
    writer.write(driver.hasSpokenOfSockets)
    bytes = writer.bytes
  }

  private mutating func put(_ descriptor: CInt?, _ writer: inout FrameWriter) {
    writer.write(descriptor ?? -1)
    if let descriptor { descriptors.append(descriptor) }
  }

  /// Throws when it is not what this version writes.
  static func apply(_ bytes: [UInt8], to driver: SupervisorDriver) throws(FrameError) {
    var reader = FrameReader(bytes[...])
    guard try reader.uint32() == FrameLimits.version else { throw FrameError("it is of another version") }
    if let program = try reader.descriptor() { close(program) }
    var machine = driver.machine
    try reader.machine(&machine)
    let worker = try reader.int32()
    let channel = try reader.descriptor()
    let memory = try reader.descriptor()
    let former = try reader.descriptor()
    var listeners: [ListenerTable.PassedOn] = []
    for _ in 0..<(try reader.uint32()) {
      let address = try reader.address()
      guard let descriptor = try reader.descriptor() else { throw FrameError("a listener has no socket") }
      listeners.append(
        .init(
          address: address, descriptor: descriptor, isListening: try reader.bool(), isOfUnit: try reader.bool()))
    }
    var sockets: [HandedOverSockets.Socket] = []
    for _ in 0..<(try reader.uint32()) {
      guard let descriptor = try reader.descriptor() else { throw FrameError("a unit's socket is none") }
      sockets.append(.init(descriptor: descriptor, isStored: try reader.bool()))
    }
    let app = try reader.int32()
    let ready = try reader.descriptor()
    var outputs: [AppProcess.Output] = []
    for _ in 0..<(try reader.uint32()) {
      let pid = try reader.int32()
      guard let out = try reader.descriptor(), let error = try reader.descriptor() else {
        throw FrameError("an output has no pipe")
      }
      outputs.append(.init(pid: pid, standardOutput: out, standardError: error))
    }
    let hasSpoken = try reader.bool()
    try reader.finish()
    guard worker > 0, let channel else { throw FrameError("there is no worker") }
    driver.machine = machine
    driver.workerPID = worker
    driver.channel = WorkerChannel(descriptor: channel)
    driver.poll.add(channel)
    if let memory, let kept = KeptMemory(descriptor: memory) { driver.memory = kept }
    driver.binaries.former = former.map { .descriptor($0) }
    driver.listeners.adopt(listeners, unclaimed: HandedOverSockets(sockets))
    driver.app.adopt(pid: app == 0 ? nil : app, outputs: outputs, readyDescriptor: ready)
    if let ready { driver.poll.add(ready) }
    driver.hasSpokenOfSockets = hasSpoken
  }
}

extension FrameWriter {
  /// A machine that is quiet.
  fileprivate mutating func write(_ machine: LifecycleMachine) {
    write(machine.state)
    write(machine.policy)
    write(machine.planIsKnown)
    write(machine.wasReady)
    write(machine.inboundIsOpen)
    write(UInt32(clamping: machine.workerSpawns))
    write(machine.workerSince)
    write(UInt32(clamping: machine.workerFailures))
    write(machine.appStarts)
    write(UInt32(clamping: machine.appFailures))
    write(machine.unreadyReason)
    write(machine.upgrades)
    write(machine.probationEnds ?? .zero)
    write(machine.lastExit != nil)
    if let exit = machine.lastExit { write(exit) }
    write(machine.leftovers?.pid ?? 0)
    write(machine.leftovers?.killAt ?? .zero)
    switch machine.app {
    case .running(let pid, let since):
      write(UInt8(1))
      write(pid)
      write(since)
    case .waiting(let until):
      write(UInt8(2))
      write(until)
    case .gone: write(UInt8(3))
    default: write(UInt8(0))
    }
  }
}

extension FrameReader {
  fileprivate mutating func machine(_ machine: inout LifecycleMachine) throws(FrameError) {
    machine.worker = .prepared
    machine.state = try state()
    machine.policy = try policy()
    machine.planIsKnown = try bool()
    machine.wasReady = try bool()
    machine.inboundIsOpen = try bool()
    machine.workerSpawns = Int(try uint32())
    machine.workerSince = try duration()
    machine.workerFailures = Int(try uint32())
    machine.appStarts = try uint32()
    machine.appFailures = Int(try uint32())
    machine.unreadyReason = try string()
    machine.upgrades = try upgrades()
    let probation = try duration()
    machine.probationEnds = probation == .zero ? nil : probation
    machine.lastExit = try bool() ? try processExit() : nil
    let (leftover, killAt) = (try int32(), try duration())
    machine.leftovers = leftover == 0 ? nil : (leftover, killAt)
    switch try byte() {
    case 1: machine.app = .running(pid: try int32(), since: try duration())
    case 2: machine.app = .waiting(until: try duration())
    case 3: machine.app = .gone
    default: machine.app = .never
    }
  }

  /// nil for -1; close-on-exec from here on.
  fileprivate mutating func descriptor() throws(FrameError) -> CInt? {
    let number = try int32()
    if number == -1 { return nil }
    guard number > 2, fcntl(number, F_SETFD, FD_CLOEXEC) == 0 else { throw FrameError("a descriptor is not open") }
    return number
  }
}
