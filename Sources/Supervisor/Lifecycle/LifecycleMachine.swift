import Resilience

/// Every decision of a run: what starts when, what stops in which order, who is started again and after how long.
///
/// A value without I/O: events and the time go in, actions come out. Time is a duration since any fixed moment.
struct LifecycleMachine {
  enum Event {
    case start
    /// A frame of the present worker; those about sockets are the driver's own business.
    case worker(WorkerFrame)
    case workerSpawnFailed(String)
    /// The channel has ended; the process should end at once.
    case channelEnded
    case workerExited(ProcessExit)
    case appSpawned(pid: Int32)
    /// `code` is 126 or 127, as shells use them.
    case appSpawnFailed(code: Int32, message: String)
    /// `groupRemains`: processes of the app's group are still there.
    case appExited(ProcessExit, groupRemains: Bool)
    case appReadyByDescriptor
    /// A signal to the supervisor.
    case signal(Int32)
    /// The terminal is gone.
    case hangup
    /// Of the worker that is to take over.
    case candidate(WorkerFrame)
    case candidateSpawnFailed(String)
    case candidateChannelEnded
    case candidateExited(ProcessExit)
    /// Of the worker that drains after an upgrade.
    case formerExited(ProcessExit)
    /// `nextDeadline` has passed.
    case tick
  }

  enum Action: Equatable {
    case spawnWorker
    /// SIGKILL.
    case killWorker
    /// The worker sees the end of the channel and exits.
    case closeChannel
    /// To the present worker; dropped when there is none.
    case send(SupervisorFrame)
    /// Send `inherit` with all descriptors.
    case sendInheritance(state: LifecycleState, restarts: UInt32, workerRestarts: UInt32)
    case spawnApp(AppSpec)
    /// Send `appStarted` with the descriptors of its output.
    case announceApp(pid: Int32, restarts: UInt32)
    case signalGroup(pid: Int32, signal: Int32)
    /// SIGHUP to the app's group, if the app has a handler for it.
    case hangUpApp(pid: Int32)
    /// SIGKILL to what the app left behind, with a line if there was something.
    case killLeftovers(pid: Int32)
    case say(String)
    case exit(Int32)
    /// A worker of this binary (empty = the present one) that takes over from the present one.
    case spawnCandidate(binary: String)
    case sendCandidate(SupervisorFrame)
    /// SIGKILL.
    case killCandidate
    /// `handOver` to the present worker and `inherit` to the new one, connected with each other.
    case handOver(state: LifecycleState, restarts: UInt32, workerRestarts: UInt32)
    /// The new worker is the present one, which becomes the former one. `keepsBinary`: its binary may be needed again.
    case promote(keepsBinary: Bool)
    case sendFormer(SupervisorFrame)
    /// SIGKILL.
    case killFormer
    /// Workers are of the binary before the last upgrade again.
    case useFormerBinary
    case forgetFormerBinary
    /// This process becomes the program that the worker is of.
    case replaceSupervisor
  }

  enum Worker: Equatable {
    /// There is none and none is due; next: `starting`.
    case none
    /// It died; a new one is due at this time; next: `starting`.
    case waiting(until: Duration)
    /// The process runs and has not said hello; next: `present`, `none`.
    case starting
    /// It reads its configuration, fetches secrets; next: `prepared`, `none`.
    case present
    /// Outbound works; next: `none`.
    case prepared

    var isConnected: Bool { self == .present || self == .prepared }
    var isRunning: Bool { isConnected || self == .starting }
  }

  enum App: Equatable {
    /// Not started yet; next: `requested`.
    case never
    /// The worker was asked for a fresh environment; next: `spawning`.
    case requested
    /// The driver starts it; next: `running`, `gone`, `waiting`.
    case spawning
    /// It runs; next: `gone`, `waiting`, `restarting`.
    case running(pid: Int32, since: Duration)
    /// It was asked to end so that a new one starts; SIGKILL at this time; next: `waiting`.
    case restarting(pid: Int32, killAt: Duration)
    /// The next start is due at this time; next: `requested`.
    case waiting(until: Duration)
    /// It ended for good.
    case gone

    var pid: Int32? {
      switch self {
      case .running(let pid, _), .restarting(let pid, _): pid
      default: nil
      }
    }
  }

  enum Stop: Equatable {
    /// Nobody asked for the end; next: `delaying`, `closing`, `stoppingApp`, `flushing`.
    case no
    /// Readiness fails, inbound still accepts; next: `closing`.
    case delaying(until: Duration)
    /// Open inbound requests end; next: `stoppingApp`, `flushing`.
    case closing(until: Duration)
    /// The app has its stop signal; SIGKILL at this time; next: `flushing`.
    case stoppingApp(killAt: Duration)
    /// The app has SIGKILL; next: `flushing`, at the latest at this time.
    case killingApp(until: Duration)
    /// The worker empties pipes and spools; next: `leaving`.
    case flushing(until: Duration)
    /// The channel is closed, the worker exits; next: `done`.
    case leaving(until: Duration)
    /// The exit code is given.
    case done
  }

  // MARK: What is

  var state = LifecycleState.initializing
  var policy = AppPolicy(hasApp: true)
  var worker = Worker.none
  var app = App.never
  var stop = Stop.no

  // MARK: What was

  var planIsKnown = false
  var wasReady = false
  var inboundIsOpen = false
  var workerSpawns = 0
  var workerSince = Duration.zero
  var workerPreparedAt = Duration.zero
  var workerFailures = 0
  var respawnedWhileStopping = false
  /// A worker without a channel is of no use: it is killed if it does not end by itself.
  var killWorkerAt: Duration?
  var workerWaitsFor = ""
  var fatalCode: Int32?
  var appStarts: UInt32 = 0
  var appFailures = 0
  var unreadyReason = ""
  var lastExit: ProcessExit?
  /// The exit code that something decided on, instead of the app's.
  var outcome: Int32?
  var stopSignalReceived: Int32?
  var interrupts = 0
  var stopDeadline = Duration.zero
  /// What the app left in its group, and when it is killed.
  var leftovers: (pid: Int32, killAt: Duration)?
  var waitLine: (key: String, next: Duration)?
  /// The answer to `closeInbound` came.
  var inboundIsDrained = false
  var jitter: SeededRandom

  // MARK: Upgrades

  var upgrade = Upgrade.none
  var candidate = Candidate()
  var upgrades = UpgradeCounts()
  /// What the upgrade that is taken back is answered.
  var rollbackText = ""
  /// Until then the worker's death brings the former binary back.
  var probationEnds: Duration?
  /// The worker's program is newer than this process's.
  var supervisorIsOlder = false
  /// What comes when an upgrade has changed places.
  var postponed: [Event] = []
  var actions: [Action] = []

  init(seed: UInt64) { jitter = SeededRandom(seed: seed) }

  /// The app's restarts so far.
  var restarts: UInt32 { appStarts == 0 ? 0 : appStarts - 1 }
  var workerRestarts: UInt32 { UInt32(max(workerSpawns - 1, 0)) }
  var isStopping: Bool { stop != .no }

  /// The one funnel.
  mutating func handle(_ event: Event, at now: Duration) -> [Action] {
    guard stop != .done else { return [] }
    if waitsForSwitch(event) {
      postponed.append(event)
    } else {
      process(event, at: now)
    }
    passDeadlines(at: now)
    while !postponed.isEmpty, !isSwitching { process(postponed.removeFirst(), at: now) }
    speakOfWaiting(at: now)
    replaceSupervisorWhenQuiet()
    defer { actions = [] }
    return actions
  }

  private mutating func process(_ event: Event, at now: Duration) {
    switch event {
    case .start: startWorker(at: now)
    case .worker(let frame): take(frame, at: now)
    case .workerSpawnFailed(let message): workerCannotStart(message, at: now)
    case .channelEnded: if worker.isRunning { killWorkerAt = now + Self.leavingTime }
    case .workerExited(let exit): workerIsGone(exit, at: now)
    case .appSpawned(let pid): appRuns(pid, at: now)
    case .appSpawnFailed(let code, let message): appCannotStart(code, message, at: now)
    case .appExited(let exit, let groupRemains): appIsGone(exit, groupRemains: groupRemains, at: now)
    case .appReadyByDescriptor:
      actions.append(.send(.appReadyByDescriptor))
      appIsReady(true, reason: "", at: now)
    case .signal(let number): take(signal: number, at: now)
    case .hangup: requestStop("the terminal is gone", at: now)
    case .tick: break
    case .candidate(let frame): take(candidate: frame, at: now)
    case .candidateSpawnFailed(let message): candidateCannotStart(message, at: now)
    case .candidateChannelEnded: candidateIsCut(at: now)
    case .candidateExited(let exit): candidateIsGone(exit, at: now)
    case .formerExited: formerIsGone(at: now)
    }
  }

  private mutating func take(_ frame: WorkerFrame, at now: Duration) {
    switch frame {
    case .hello(let version): workerSaysHello(version, at: now)
    case .plan(let policy):
      self.policy = policy
      planIsKnown = true
    case .waiting(let subject): workerWaitsFor = subject
    case .secretsReady: if state == .initializing { become(.secretsReady) }
    case .outboundReady: outboundIsReady(at: now)
    case .startApp(let spec):
      guard app == .requested, !isStopping else { return }
      app = .spawning
      become(.appStarting)
      actions.append(.spawnApp(spec))
    case .appReady(let ready, let reason): appIsReady(ready, reason: reason, at: now)
    case .actionSignal(let number): signalApp(number)
    case .actionRestart: restartApp(at: now)
    case .inboundDrained:
      inboundIsDrained = true
      if case .leaving = upgrade { break }
      if case .closing = stop { stopApp(at: now) }
    case .flushed: if case .flushing = stop { leave(at: now) }
    case .fatal(let code):
      fatalCode = code
      if !wasReady { end(with: code, because: "the worker cannot go on", at: now) }
    case .quit: requestStop("asked to quit", at: now)
    case .upgrade(let binary, let timeout): requestUpgrade(binary, within: timeout, at: now)
    case .reloaded, .bind, .listen, .unbind, .checked, .serving: break
    }
  }

  mutating func become(_ next: LifecycleState) {
    guard state != next else { return }
    state = next
    actions.append(.send(.state(next)))
  }

  private mutating func take(signal number: Int32, at now: Duration) {
    switch number {
    case 15:
      stopSignalReceived = stopSignalReceived ?? 15
      requestStop("SIGTERM", at: now)
    case 2:
      stopSignalReceived = stopSignalReceived ?? 2
      interrupts += 1
      if interrupts == 1 { requestStop("SIGINT; once more to force", at: now) } else { force(at: now) }
    case 3 where app.pid == nil:
      stopSignalReceived = stopSignalReceived ?? 3
      requestStop("SIGQUIT", at: now)
    case 1:
      // Without a worker there is nothing to do: the next one reads the configuration anyway.
      if worker.isConnected, !isStopping { actions.append(.send(.reload)) }
      if let pid = app.pid { actions.append(.hangUpApp(pid: pid)) }
    default: signalApp(number)
    }
  }

  mutating func signalApp(_ number: Int32) {
    if let pid = app.pid { actions.append(.signalGroup(pid: pid, signal: number)) }
  }

  /// When the next `tick` is due.
  var nextDeadline: Duration? {
    var times = upgradeDeadlines
    if case .waiting(let until) = worker { times.append(until) }
    switch app {
    case .waiting(let until) where worker == .prepared && !isStopping: times.append(until)
    case .restarting(_, let killAt) where !isStopping: times.append(killAt)
    default: break
    }
    switch stop {
    case .delaying(let until), .closing(let until), .stoppingApp(let until), .killingApp(let until),
      .flushing(let until), .leaving(let until):
      times.append(until)
    case .no, .done: break
    }
    if let leftovers { times.append(leftovers.killAt) }
    if let killWorkerAt { times.append(killWorkerAt) }
    if let waitLine { times.append(waitLine.next) }
    return times.min()
  }

  private mutating func passDeadlines(at now: Duration) {
    if case .waiting(let until) = worker, until <= now, !isStopping { startWorker(at: now) }
    if let time = killWorkerAt, time <= now {
      actions.append(.killWorker)
      killWorkerAt = nil
    }
    switch app {
    case .waiting(let until) where until <= now && worker == .prepared && !isStopping: requestApp()
    case .restarting(let pid, let killAt) where killAt <= now && !isStopping:
      actions.append(.say("the app (pid \(pid)) did not end in time for its restart: sent SIGKILL"))
      actions.append(.signalGroup(pid: pid, signal: 9))
      app = .restarting(pid: pid, killAt: now + .seconds(5))
    default: break
    }
    if let leftovers, leftovers.killAt <= now {
      actions.append(.killLeftovers(pid: leftovers.pid))
      self.leftovers = nil
    }
    passUpgradeDeadlines(at: now)
    passStopDeadlines(at: now)
  }
}
