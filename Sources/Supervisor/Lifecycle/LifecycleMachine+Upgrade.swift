import Vocabulary

/// Another binary in the worker's place, while the app and its connections go on.
///
/// The new worker first reads the configuration with nothing else touched (`checking`). Then the present one hands over
/// what it knows and the new one begins to serve (`taking`); the present one still serves traffic. Once the new one
/// serves, the former one drains and ends (`leaving`). A new worker that fails after the handing over is followed by
/// one of the present binary, which takes over in the same way.
extension LifecycleMachine {
  /// A worker of a new binary that dies within this time brings the former binary back.
  static let probation = Duration.seconds(30)
  /// From the handing over to serving: the app's output waits in its pipe for so long.
  static let takingTime = Duration.seconds(10)
  /// Over the drain timeout, for a former worker to end.
  static let leavingGrace = Duration.seconds(10)

  enum Upgrade: Equatable {
    /// None is under way; next: `checking`.
    case none
    /// The new worker reads the configuration; next: `taking`, `clearing`, `none`.
    case checking(until: Duration)
    /// The present worker hands over to the new one; next: `leaving`, `clearing`, `checking` (of the present binary).
    case taking(until: Duration)
    /// The new worker has failed and gets SIGKILL; next: `none`, `checking` (of the present binary).
    case clearing(handedOver: Bool)
    /// The new worker serves, the former one drains; next: `none`.
    case leaving(until: Duration)
  }

  /// The worker that is to take over.
  struct Candidate: Equatable {
    /// Empty = the present one.
    var binary = ""
    var deadline = Duration.zero
    /// The binary that was asked for has failed after the handing over: this one brings the present binary back.
    var isReturn = false
    var product = ""
    var policy: AppPolicy?
    /// Why it does not take over.
    var failure: String?
    /// For people.
    var waitsFor = ""
    /// Its channel has ended; the process should end at once.
    var isCut = false
    /// It has secrets and outbound listeners.
    var isPrepared = false
  }

  /// Between the handing over and its outcome nothing else is begun: what was asked for comes right after it.
  var isSwitching: Bool {
    switch upgrade {
    case .taking, .clearing(handedOver: true): true
    case .checking: candidate.isReturn
    default: false
    }
  }

  func waitsForSwitch(_ event: Event) -> Bool {
    guard isSwitching, !isStopping else { return false }
    switch event {
    case .signal(let number): return number == 15 || number == 2 && interrupts == 0
    case .hangup, .appExited, .worker(.quit): return true
    default: return false
    }
  }

  // MARK: The request

  mutating func requestUpgrade(_ binary: String, within timeout: Duration, at now: Duration) {
    if let obstacle = upgradeObstacle {
      actions.append(.send(.upgradeEnded(.refused, text: obstacle)))
      return
    }
    actions.append(.say("upgrade: \(binary) is asked to take the worker's place"))
    begin(Candidate(binary: binary, deadline: now + timeout))
  }

  private mutating func begin(_ next: Candidate) {
    candidate = next
    upgrade = .checking(until: next.deadline)
    actions.append(.spawnCandidate(binary: next.binary))
  }

  private var upgradeObstacle: String? {
    if isStopping { return "the sidecar is stopping" }
    switch upgrade {
    case .none: break
    case .leaving: return "the worker of the upgrade before still drains; ask again when it has ended"
    default: return "another upgrade is under way"
    }
    switch app {
    case .requested, .spawning: return "the app is about to start; ask again when it runs"
    default: break
    }
    return worker == .prepared ? nil : "the worker has not come up yet; ask again when /readyz/outbound is ok"
  }

  // MARK: What the new worker says and does

  mutating func take(candidate frame: WorkerFrame, at now: Duration) {
    switch upgrade {
    case .checking, .taking: break
    case .none:
      // Said just before it took the place of a worker that died.
      if worker == .present, case .outboundReady = frame { outboundIsReady(at: now) }
      return
    case .clearing, .leaving: return
    }
    switch frame {
    case .hello(let version):
      guard version == FrameLimits.version else {
        return candidateFails(
          "it speaks handover version \(version), this sidecar \(FrameLimits.version): start the whole anew with it",
          at: now)
      }
    case .checked(let product):
      guard case .checking = upgrade else { return }
      candidate.product = product
      upgrade = .taking(until: min(candidate.deadline, now + Self.takingTime))
      actions.append(.handOver(state: state, restarts: restarts, workerRestarts: workerRestarts + 1))
    case .plan(let policy): candidate.policy = policy
    case .waiting(let subject): candidate.waitsFor = subject
    case .outboundReady:
      candidate.isPrepared = true
      if inboundIsOpen { actions.append(.sendCandidate(.openInbound)) } else { promote(at: now) }
    case .serving: promote(at: now)
    case .appReady(let ready, let reason): appIsReady(ready, reason: reason, at: now)
    case .actionSignal(let number): signalApp(number)
    case .actionRestart: restartApp(at: now)
    case .fatal(let code): candidate.failure = "it gave up with exit code \(code); its lines on standard error say why"
    case .quit: postponed.append(.worker(.quit))
    default: break
    }
  }

  /// It is of no use any more, and killed.
  mutating func candidateFails(_ reason: String, at now: Duration) {
    switch upgrade {
    case .checking: upgrade = .clearing(handedOver: candidate.isReturn)
    case .taking: upgrade = .clearing(handedOver: true)
    default: return
    }
    candidate.failure = candidate.failure ?? reason
    actions.append(.killCandidate)
  }

  mutating func candidateIsCut(at now: Duration) {
    let soon = now + Self.leavingTime
    candidate.isCut = true
    switch upgrade {
    case .checking(let until): upgrade = .checking(until: min(until, soon))
    case .taking(let until): upgrade = .taking(until: min(until, soon))
    case .none, .clearing, .leaving: break
    }
  }

  mutating func candidateIsGone(_ exit: ProcessExit, at now: Duration) {
    candidate.failure = candidate.failure ?? "it \(exit) before it served; its lines on standard error say why"
    switch upgrade {
    case .checking: concludeFailure(handedOver: candidate.isReturn, at: now)
    case .taking: concludeFailure(handedOver: true, at: now)
    case .clearing(let handedOver): concludeFailure(handedOver: handedOver, at: now)
    case .none, .leaving: break
    }
  }

  mutating func candidateCannotStart(_ message: String, at now: Duration) {
    candidate.failure = message
    concludeFailure(handedOver: candidate.isReturn, at: now)
  }

  private mutating func concludeFailure(handedOver: Bool, at now: Duration) {
    upgrade = .none
    let reason = candidate.failure ?? "it failed"
    if candidate.isReturn {
      // The present worker has given away what it had: only a fresh one helps.
      actions.append(.say("upgrade: the way back failed, too (\(reason)): the worker is started anew"))
      actions.append(.killWorker)
      return
    }
    if candidate.binary.isEmpty { return }
    upgrades.failed += 1
    let text = "rolled back: \(candidate.binary): \(reason)"
    actions.append(.say("upgrade: \(text)"))
    guard handedOver, !isStopping, worker.isRunning else {
      actions.append(.send(.upgradeEnded(.failed, text: text)))
      return
    }
    begin(Candidate(deadline: now + Self.takingTime, isReturn: true, failure: nil))
    rollbackText = text
  }

  // MARK: The change of places

  /// The new worker serves: it is the worker from here on.
  private mutating func promote(at now: Duration) {
    let (isReturn, product) = (candidate.isReturn, candidate.product)
    takePlace(at: now)
    worker = .prepared
    // What the former worker was asked for and has not given.
    if app == .requested { requestApp() }
    let text =
      isReturn
      ? rollbackText : "upgraded: worker \(workerSpawns) of this run, version \(product), serves; the former one drains"
    actions.append(.say("upgrade: \(isReturn ? "a worker of the former binary" : "version \(product)") serves"))
    actions.append(.sendFormer(.upgradeEnded(isReturn ? .failed : .succeeded, text: text)))
    actions.append(.sendFormer(.leave(timeout: policy.drainTimeout)))
    upgrade = .leaving(until: now + policy.drainTimeout + Self.leavingGrace)
    if !isReturn {
      upgrades.succeeded += 1
      supervisorIsOlder = true
    }
  }

  private mutating func takePlace(at now: Duration) {
    actions.append(.promote(keepsBinary: !candidate.isReturn))
    if let policy = candidate.policy { self.policy = policy }
    workerSpawns += 1
    workerSince = now
    workerFailures = 0
    workerWaitsFor = ""
    fatalCode = nil
    killWorkerAt = nil
    if !candidate.isReturn { probationEnds = now + Self.probation }
  }

  /// The present worker has died on the way. True when the new one is far enough to take its place.
  mutating func candidateTakesOver(at now: Duration) -> Bool {
    switch upgrade {
    case .taking:
      let isPrepared = candidate.isPrepared
      takePlace(at: now)
      worker = .present
      upgrade = .none
      // Otherwise it says so itself.
      if isPrepared { outboundIsReady(at: now) }
      actions.append(.say("the worker ended while it handed over; the new one goes on"))
      return true
    case .checking, .clearing:
      candidate.failure = candidate.failure ?? "the worker ended meanwhile"
      candidate.isReturn = false
      actions.append(.killCandidate)
      upgrade = .clearing(handedOver: false)
    case .none, .leaving: break
    }
    return false
  }

  mutating func formerIsGone(at now: Duration) {
    guard case .leaving = upgrade else { return }
    upgrade = .none
    actions.append(.say("upgrade: the former worker has ended"))
    // The stop waits for its requests.
    if case .closing = stop, inboundIsDrained { stopApp(at: now) }
  }

  /// A worker of a new binary died soon: the former binary comes back.
  mutating func revertIfOnProbation(at now: Duration) {
    guard let probationEnds, now < probationEnds else { return }
    self.probationEnds = nil
    supervisorIsOlder = false
    upgrades.reverted += 1
    actions.append(.say("upgrade: taken back: the new binary's worker did not last; the former binary's is started"))
    actions.append(.useFormerBinary)
  }

  // MARK: Time, and the supervisor itself

  var upgradeDeadlines: [Duration] {
    var times: [Duration] = []
    switch upgrade {
    case .checking(let until), .taking(let until), .leaving(let until): times.append(until)
    case .none, .clearing: break
    }
    if let probationEnds { times.append(probationEnds) }
    return times
  }

  mutating func passUpgradeDeadlines(at now: Duration) {
    switch upgrade {
    case .checking(let until) where until <= now:
      candidateFails(candidate.isCut ? "its channel ended" : "it did not come up in time", at: now)
    case .taking(let until) where until <= now:
      candidateFails(candidate.isCut ? "its channel ended" : "it did not serve in time", at: now)
    case .leaving(let until) where until <= now:
      actions.append(.say("cut: the former worker did not end in time: sent SIGKILL"))
      actions.append(.killFormer)
      upgrade = .leaving(until: now + Self.leavingGrace)
    default: break
    }
    if let probationEnds, probationEnds <= now {
      self.probationEnds = nil
      actions.append(.forgetFormerBinary)
    }
  }

  /// Nothing is under way that could not be handed to another program in this process.
  var isQuiet: Bool {
    guard upgrade == .none, worker == .prepared, !isStopping, postponed.isEmpty, killWorkerAt == nil else {
      return false
    }
    switch app {
    case .never, .running, .waiting, .gone: return true
    case .requested, .spawning, .restarting: return false
    }
  }

  mutating func replaceSupervisorWhenQuiet() {
    guard supervisorIsOlder, isQuiet else { return }
    supervisorIsOlder = false
    actions.append(.replaceSupervisor)
  }
}
