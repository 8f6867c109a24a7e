import CLinux
import Glibc
import Vocabulary

/// Carries out what the lifecycle machine decides: one thread, one loop.
final class SupervisorDriver {
  let workerCommand: [String]
  /// Of this program.
  private let version: String
  let message: (String) -> Void
  let poll: EventPoll
  private let signals: CInt
  var memory = KeptMemory()
  var machine: LifecycleMachine
  var pending: [LifecycleMachine.Event] = []
  var workerPID: Int32?
  var channel: WorkerChannel?
  /// The worker that is to take over, and the one that drains after an upgrade.
  var candidate: UpgradeSeat?
  var former: UpgradeSeat?
  var binaries: WorkerBinaries
  var app = AppProcess()
  var listeners = ListenerTable()
  var manager = ServiceManager()
  private var terminal: Terminal
  private var exitCode: Int32?
  var hasSpokenOfSockets = false
  /// What the present worker was told last.
  private var toldFacts: RunFacts?
  /// This process is to become another program as soon as no frame is half way.
  var isToBeReplaced = false
  /// SI_KERNEL: no process sent the signal. A SIGHUP of this kind says that the terminal is gone.
  private static let sentByKernel: Int32 = 0x80

  /// nil when the system has no descriptors to give.
  init?(
    workerCommand: [String], terminal: Terminal.Wish, version: String, seed: UInt64,
    message: @escaping (String) -> Void
  ) {
    let signals = outrider_signal_descriptor()
    guard signals >= 0, let poll = EventPoll() else { return nil }
    self.workerCommand = workerCommand
    self.version = version
    binaries = WorkerBinaries(present: .command(workerCommand[0]))
    self.message = message
    self.signals = signals
    self.poll = poll
    self.terminal = Terminal(terminal)
    machine = LifecycleMachine(seed: seed)
    listeners.handedOver = HandedOverSockets(manager.handedOver)
    poll.add(signals)
  }

  /// The one funnel: events to the machine, its actions to the world, until it gives the exit code.
  func run() -> Int32 {
    // A program that goes on for another finds the children, and among them those that ended meanwhile.
    if workerPID == nil { pending.append(.start) } else { reap() }
    while true {
      while !pending.isEmpty {
        for action in machine.handle(pending.removeFirst(), at: Self.now) { perform(action) }
        if let exitCode {
          listeners.unbind(listeners.bound)
          return exitCode
        }
      }
      tellFacts()
      if isToBeReplaced { replaceThisProgram() }
      app.retire()
      let beat = manager.keepAlive(at: Self.now)
      for descriptor in poll.wait(timeout: timeout(before: beat)) { take(descriptor) }
      if let deadline = machine.nextDeadline, deadline <= Self.now { pending.append(.tick) }
    }
  }

  private func tellFacts() {
    guard machine.worker.isConnected else {
      toldFacts = nil
      return
    }
    let facts = RunFacts(version: version, generation: UInt32(machine.workerSpawns), upgrades: machine.upgrades)
    guard facts != toldFacts else { return }
    toldFacts = facts
    send(.run(facts), [])
  }

  static var now: Duration {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return .seconds(time.tv_sec) + .nanoseconds(time.tv_nsec)
  }

  private func timeout(before beat: Duration?) -> Int32 {
    guard let deadline = [machine.nextDeadline, beat].compactMap({ $0 }).min() else { return -1 }
    return Int32(clamping: max((deadline - Self.now).inMilliseconds + 1, 0))
  }

  // MARK: What happens

  private func take(_ descriptor: CInt) {
    if descriptor == signals {
      takeSignals()
    } else if descriptor == channel?.descriptor {
      takeChannel()
    } else if descriptor == candidate?.channel?.descriptor {
      takeCandidate()
    } else if descriptor == former?.channel?.descriptor {
      takeFormer()
    } else if descriptor == app.readyDescriptor {
      let ready = app.readReadiness()
      if ready == true { pending.append(.appReadyByDescriptor) }
      if ready != false {
        poll.remove(descriptor)
        app.forgetReadyDescriptor()
      }
    }
  }

  private func takeSignals() {
    var info = signalfd_siginfo()
    while read(signals, &info, MemoryLayout<signalfd_siginfo>.size) == MemoryLayout<signalfd_siginfo>.size {
      let number = Int32(info.ssi_signo)
      if number == SIGCHLD {
        reap()
      } else if number == SIGHUP, info.ssi_code == Self.sentByKernel {
        pending.append(.hangup)
      } else {
        pending.append(.signal(number))
      }
    }
  }

  /// Every child that has ended: the worker, the app, and orphans that became ours.
  private func reap() {
    var status: CInt = 0
    while true {
      let pid = waitpid(-1, &status, WNOHANG | WUNTRACED)
      guard pid > 0 else { return }
      let stop = outrider_stop_of_status(status)
      if stop != 0 {
        if pid == app.pid, let text = terminal.appStopped(by: stop, pid: pid) { message(text) }
        continue
      }
      let code = outrider_exit_of_status(status)
      let exit: ProcessExit = code < 0 ? .signal(-code) : .code(code)
      if pid == workerPID {
        takeChannel()  // Its last words come before its end.
        workerPID = nil
        closeChannel()
        pending.append(.workerExited(exit))
      } else if pid == candidate?.pid {
        takeCandidate()
        // It said that it serves, and does so no more.
        pending.removeAll { if case .candidate(.serving) = $0 { true } else { false } }
        endCandidate()
        pending.append(.candidateExited(exit))
      } else if pid == former?.pid {
        endFormer()
        pending.append(.formerExited(exit))
      } else if pid == app.pid {
        app.isGone()
        terminal.takeBack()
        pending.append(.appExited(exit, groupRemains: kill(-pid, 0) == 0))
      }
    }
  }

  private func takeChannel() {
    do throws(FrameError) {
      guard let (frames, ended) = try channel?.read() else { return }
      for (frame, descriptors) in frames { take(frame, descriptors) }
      if ended {
        pending.append(.channelEnded)
        return closeChannel()
      }
      channel?.write()
      if let channel { poll.watch(channel.descriptor, writing: channel.wantsToWrite) }
    } catch {
      message("the worker sent something malformed (\(error)): it is replaced")
      closeChannel()
      if let workerPID { kill(workerPID, SIGKILL) }
    }
  }

  /// Only a start of the app comes with a descriptor: the memory of secrets that the app inherits.
  private func take(_ frame: WorkerFrame, _ descriptors: [CInt]) {
    if case .startApp = frame {
      app.give(descriptors)
    } else {
      for descriptor in descriptors { close(descriptor) }
    }
    if !takeSockets(frame, send) { pending.append(.worker(frame)) }
  }

  /// What concerns sockets is answered here; false for other frames.
  func takeSockets(_ frame: WorkerFrame, _ send: (SupervisorFrame, [CInt]) -> Void) -> Bool {
    switch frame {
    case .bind(let id, let addresses):
      do throws(ListenerTable.Failure) {
        let descriptors = try listeners.bind(id: id, addresses)
        for (address, descriptor) in zip(addresses, descriptors) { manager.store(descriptor, for: address) }
        send(.bound(id: id, addresses: addresses), descriptors)
      } catch {
        send(.bindFailed(id: id, address: error.address, reason: error.reason), [])
      }
    case .listen(let id):
      if let failure = listeners.listen(id: id) {
        message("cannot listen on \(failure.address): \(failure.reason)")
        send(.bindFailed(id: id, address: failure.address, reason: failure.reason), [])
      }
    case .unbind(let addresses):
      for address in addresses { manager.forget(address) }
      listeners.unbind(addresses)
    default: return false
    }
    return true
  }

  // MARK: What is to be done

  private func perform(_ action: LifecycleMachine.Action) {
    switch action {
    case .spawnWorker: spawnWorker()
    case .killWorker: if let workerPID { kill(workerPID, SIGKILL) }
    case .closeChannel: closeChannel()
    case .send(let frame):
      // What only the start needed; both processes do the same, so that an idle sidecar is small.
      if case .state(.ready) = frame { outrider_release_file_pages() }
      if case .state(let state) = frame { tellManager(state) }
      send(frame, [])
      mirror(frame)
    case .sendInheritance(let state, let restarts, let workers): sendInheritance(state, restarts, workers)
    case .spawnApp(let spec): spawnApp(spec)
    case .announceApp(let pid, let restarts):
      guard let output = app.outputs.last else { return }
      send(.appStarted(pid: pid, restarts: restarts), [output.standardOutput, output.standardError])
      mirror(.appStarted(pid: pid, restarts: restarts), [output.standardOutput, output.standardError])
    case .signalGroup(let pid, let signal):
      // An app that left its own group is still found by its number.
      if kill(-pid, signal) != 0, errno == ESRCH, pid == app.pid { kill(pid, signal) }
      // One that is stopped would not hear of it.
      if signal == SIGTERM { kill(-pid, SIGCONT) }
    case .hangUpApp(let pid): if AppProcess.handles(SIGHUP, pid: pid) { kill(-pid, SIGHUP) }
    case .killLeftovers(let pid):
      if kill(-pid, SIGKILL) == 0 { message("cut: processes that the app left behind (group \(pid)) got SIGKILL") }
    case .say(let text):
      manager.tell(line: text)
      message(text)
    case .exit(let code):
      terminal.takeBack()
      exitCode = code
    default: performUpgrade(action)
    }
  }

  /// When all is up, sockets of systemd's that no listener uses are spoken of, and closed where they are ours.
  private func tellManager(_ state: LifecycleState) {
    manager.tell(state)
    guard state == .ready else { return }
    for address in listeners.handedOver.closeStored() { manager.forget(address) }
    guard !hasSpokenOfSockets else { return }
    hasSpokenOfSockets = true
    for (address, _) in listeners.handedOver.unclaimed {
      message("systemd listens on \(address) for this unit, and no listener is configured there: clients will wait")
    }
  }

  private func spawnWorker() {
    closeChannel()
    listeners.forgetRequests()
    do throws(SpawnProblem) {
      let seat = try spawn(binaries.present, workerCommand)
      (workerPID, channel) = (seat.pid, seat.channel)
    } catch {
      pending.append(.workerSpawnFailed("cannot start the worker\(error.text)"))
    }
  }

  private func spawnApp(_ spec: AppSpec) {
    do throws(Spawn.Failure) {
      if let old = app.readyDescriptor { poll.remove(old) }
      let onTerminal = terminal.isFor(spec.arguments)
      if onTerminal { message("the app has the terminal: its output is not in the logs (--terminal no takes it)") }
      let pid = try app.start(spec, onTerminal: onTerminal)
      if onTerminal { terminal.isTaken() }
      if let descriptor = app.readyDescriptor { poll.add(descriptor) }
      pending.append(.appSpawned(pid: pid))
    } catch {
      let (code, text) = Spawn.explain(error, spec: spec)
      pending.append(.appSpawnFailed(code: code, message: text))
    }
  }

  private func sendInheritance(_ state: LifecycleState, _ restarts: UInt32, _ workerRestarts: UInt32) {
    send(.inherit(inheritance(state, restarts, workerRestarts)), outputDescriptors)
  }

  func inheritance(_ state: LifecycleState, _ restarts: UInt32, _ workerRestarts: UInt32) -> Inheritance {
    Inheritance(
      appPID: app.pid, state: state, restarts: restarts, workerRestarts: workerRestarts,
      outputs: app.outputs.map(\.pid), bound: listeners.bound, listening: listeners.listening)
  }

  var outputDescriptors: [CInt] { app.outputs.flatMap { [$0.standardOutput, $0.standardError] } }

  func send(_ frame: SupervisorFrame, _ descriptors: [CInt]) {
    guard channel != nil else { return }
    if channel?.send(frame, descriptors) == false {
      message("the worker does not read its channel: it is replaced")
      if let workerPID { kill(workerPID, SIGKILL) }
      return closeChannel()
    }
    if let channel, channel.wantsToWrite { poll.watch(channel.descriptor, writing: true) }
  }

  func closeChannel() {
    guard let descriptor = channel?.descriptor else { return }
    poll.remove(descriptor)
    channel?.shut()
    channel = nil
  }
}
