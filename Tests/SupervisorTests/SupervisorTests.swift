import Testing

@testable import Supervisor

/// A machine with its clock, and all that it did.
struct Life {
  var machine = LifecycleMachine(seed: 1)
  var now = Duration.zero
  var done: [LifecycleMachine.Action] = []

  enum Stage: CaseIterable {
    case started, hello, planned, secretsReady, requested, starting, ready, degraded, waitingToRestart, restarting
    case workerDead
  }

  init(_ stage: Stage = .started, _ policy: AppPolicy = AppPolicy(hasApp: true)) {
    on(.start)
    let steps: [(Stage, [LifecycleMachine.Event])] = [
      (.hello, [.worker(.hello(version: 1))]), (.planned, [.worker(.plan(policy))]),
      (.secretsReady, [.worker(.secretsReady)]), (.requested, [.worker(.outboundReady)]),
      (.starting, [.worker(.startApp(Life.spec)), .appSpawned(pid: 100)]),
      (.ready, [.worker(.appReady(true, reason: ""))]),
    ]
    guard stage != .started else { return }
    for (step, events) in steps {
      for event in events { on(event) }
      if step == stage { return }
    }
    switch stage {
    case .degraded: on(.worker(.appReady(false, reason: "503")))
    case .waitingToRestart: on(.appExited(.code(3), groupRemains: false))
    case .restarting: on(.worker(.actionRestart))
    case .workerDead:
      on(.workerExited(.signal(9)))
      on(.workerExited(.signal(9)))
    default: break
    }
  }

  static let spec = AppSpec(arguments: ["app"], environment: ["A=b"])

  @discardableResult
  mutating func on(_ event: LifecycleMachine.Event) -> [LifecycleMachine.Action] {
    let actions = machine.handle(event, at: now)
    done += actions
    return actions
  }

  /// Lets time pass, deadline by deadline.
  @discardableResult
  mutating func wait(_ time: Duration) -> [LifecycleMachine.Action] {
    let end = now + time
    let before = done.count
    var rounds = 0
    while let next = machine.nextDeadline, next <= end, rounds < 10_000 {
      now = max(now, next)
      on(.tick)
      rounds += 1
    }
    #expect(rounds < 10_000, "the machine does not pass its own deadline")
    now = end
    return Array(done[before...])
  }

  /// Frames without states, signals and the exit, as short words.
  static func words(_ actions: [LifecycleMachine.Action]) -> [String] {
    actions.compactMap { action in
      switch action {
      case .send(.state), .say: nil
      case .send(let frame): "\(frame)".split(separator: "(").first.map(String.init)
      case .signalGroup(_, let signal): "signal \(signal)"
      case .killLeftovers: "leftovers"
      case .hangUpApp: "hang up"
      case .exit(let code): "exit \(code)"
      case .sendInheritance: "inherit"
      case .announceApp: "announce"
      case .spawnApp: "spawnApp"
      case .spawnWorker: "spawnWorker"
      case .killWorker: "killWorker"
      case .closeChannel: "closeChannel"
      case .spawnCandidate(let binary): "spawnCandidate \(binary)"
      case .sendCandidate(let frame): "candidate \("\(frame)".prefix { $0 != "(" })"
      case .killCandidate: "killCandidate"
      case .handOver: "handOver"
      case .promote(let keepsBinary): keepsBinary ? "promote" : "promote back"
      case .sendFormer(let frame): "former \("\(frame)".prefix { $0 != "(" })"
      case .killFormer: "killFormer"
      case .useFormerBinary: "useFormerBinary"
      case .forgetFormerBinary: "forgetFormerBinary"
      case .replaceSupervisor: "replaceSupervisor"
      }
    }
  }

  static func lines(_ actions: [LifecycleMachine.Action]) -> [String] {
    actions.compactMap { if case .say(let text) = $0 { text } else { nil } }
  }

  var exitCode: Int32? {
    for case .exit(let code) in done { return code }
    return nil
  }
}
