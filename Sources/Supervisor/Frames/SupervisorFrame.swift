package import Vocabulary

/// What the supervisor tells the worker. The descriptors that travel with a frame are named at each case.
package enum SupervisorFrame: Sendable, Equatable {
  /// Descriptors: one socket for each address, in this order.
  case bound(id: UInt32, addresses: [Address])
  /// None of the request's sockets is given. `reason` names the error and the way out.
  case bindFailed(id: UInt32, address: Address, reason: String)
  /// Answer with `startApp`, secrets fresh: at the first start and at every restart.
  case prepareApp
  /// Descriptors: the read ends of the app's stdout and stderr (non-blocking). `restarts` counts from 0.
  case appStarted(pid: Int32, restarts: UInt32)
  case appExited(ProcessExit)
  /// The app wrote a newline to `OUTRIDER_READY_FD`. The supervisor counts it as `appReady(true)` by itself.
  case appReadyByDescriptor
  /// Serve inbound: send `listen` for its sockets and accept.
  case openInbound
  /// Readiness fails from now on; inbound goes on accepting.
  case draining
  /// Stop inbound intake; answer `inboundDrained` when the open requests have ended, or after this time.
  case closeInbound(timeout: Duration)
  /// Read the app's pipes to their end, flush, revoke; answer `flushed` within this time.
  case finish(timeout: Duration)
  /// Read the configuration again; answer `reloaded`.
  case reload
  /// The state of the whole, at each change.
  case state(LifecycleState)
  /// The first frame to a worker that takes over from a dead one, or with `isHandedOver` from one that lives.
  /// Descriptors: stdout and stderr of each of `outputs`, in this order, and the socket on which the former worker
  /// hands over.
  case inherit(Inheritance)
  /// Descriptor: a socket to the successor. Stop reading logs, give it what is known, and go on with traffic; then comes
  /// `leave`, or `handOver` once more with another successor's socket.
  case handOver
  /// The successor serves: accept nothing more, end what is open within this time, exit.
  case leave(timeout: Duration)
  /// The answer to `upgrade`, for people.
  case upgradeEnded(UpgradeOutcome, text: String)
  /// What only the supervisor knows, at each change.
  case run(RunFacts)
}

/// The run as a whole, for status and metrics.
package struct RunFacts: Sendable, Equatable {
  /// The version of the supervisor's own program.
  package var version: String
  /// Counts workers from 1, by whatever way they came.
  package var generation: UInt32
  package var upgrades: UpgradeCounts

  package init(version: String = "", generation: UInt32 = 1, upgrades: UpgradeCounts = UpgradeCounts()) {
    self.version = version
    self.generation = generation
    self.upgrades = upgrades
  }
}

/// How an upgrade ended.
package enum UpgradeOutcome: UInt8, Sendable {
  /// The new worker serves.
  case succeeded
  /// It does not, and the former binary goes on.
  case failed
  /// Nothing was tried.
  case refused
}

/// Upgrades of this run by outcome.
package struct UpgradeCounts: Sendable, Equatable {
  package var succeeded: UInt32 = 0
  /// The new worker never served, and the former binary went on.
  package var failed: UInt32 = 0
  /// The new worker served and died within `LifecycleMachine.probation`: the former binary came back.
  package var reverted: UInt32 = 0

  package init() {}
}

/// What a new worker finds.
package struct Inheritance: Sendable, Equatable {
  /// nil = no app is running.
  package var appPID: Int32?
  package var state: LifecycleState
  package var restarts: UInt32
  /// How often a worker was replaced so far, this one included.
  package var workerRestarts: UInt32
  /// The processes whose output is not read to its end yet, oldest first: at most the last few, and the running app.
  package var outputs: [Int32]
  /// The addresses that are bound already, and of them those that listen.
  package var bound: [Address]
  package var listening: [Address]
  /// The former worker lives and hands over.
  package var isHandedOver: Bool

  package init(
    appPID: Int32?, state: LifecycleState, restarts: UInt32 = 0, workerRestarts: UInt32 = 0, outputs: [Int32] = [],
    bound: [Address] = [], listening: [Address] = [], isHandedOver: Bool = false
  ) {
    self.appPID = appPID
    self.state = state
    self.restarts = restarts
    self.workerRestarts = workerRestarts
    self.outputs = outputs
    self.bound = bound
    self.listening = listening
    self.isHandedOver = isHandedOver
  }
}

/// How a process ended.
package enum ProcessExit: Sendable, Hashable, CustomStringConvertible {
  /// 0...255.
  case code(Int32)
  case signal(Int32)

  /// What a shell would show: the code, or 128 + the signal.
  package var exitCode: Int32 {
    switch self {
    case .code(let code): code
    case .signal(let number): 128 + number
    }
  }

  package var description: String {
    switch self {
    case .code(let code): "exited with code \(code)"
    case .signal(let number): "was ended by \(SignalName.of(number))"
    }
  }
}

/// The states of a run, in the order of its life.
package enum LifecycleState: String, Sendable, CaseIterable {
  /// The worker reads the configuration and fetches secrets; next: `secretsReady` or `outboundReady`.
  case initializing = "init"
  /// The secrets are here, outbound is being set up; next: `outboundReady`.
  case secretsReady = "secrets-ready"
  /// Outbound works; next: `appStarting`, or `ready` without an app.
  case outboundReady = "outbound-ready"
  /// The app is being started or restarted and is not ready yet; next: `ready`.
  case appStarting = "app-starting"
  /// All is well, inbound is open; next: `degraded`, `appStarting` (restart) or `draining`.
  case ready = "ready"
  /// The app runs but its probe fails; next: `ready`, `appStarting` or `draining`.
  case degraded = "degraded"
  /// Somebody asked for the end, or the app ended: readiness fails, inbound closes, then the app is stopped.
  case draining = "draining"
  /// The app is gone (or never was); next: `flushing`.
  case appStopped = "app-stopped"
  /// The worker empties pipes, spools and leases; next: `exit`.
  case flushing = "flushing"
  /// The end.
  case exit = "exit"
}
