import Vocabulary

/// The app: started with a fresh environment, restarted by its policy.
extension LifecycleMachine {
  /// An app that was up this long starts its backoff anew.
  static let appIsStable = Duration.seconds(600)
  static let longestRestartDelay = Duration.seconds(60)
  /// How long processes that the app left in its group have after the stop signal, at most.
  static let leftoverGrace = Duration.seconds(5)

  mutating func requestApp() {
    app = .requested
    actions.append(.send(.prepareApp))
  }

  mutating func appRuns(_ pid: Int32, at now: Duration) {
    app = .running(pid: pid, since: now)
    appStarts += 1
    unreadyReason = ""
    actions.append(.announceApp(pid: pid, restarts: restarts))
    if isStopping { stopApp(at: now) }
  }

  mutating func appCannotStart(_ code: Int32, _ message: String, at now: Duration) {
    actions.append(.say(message))
    guard appStarts > 0, !isStopping else {
      app = .gone
      return end(with: code, because: "the app did not start", at: now)
    }
    appStarts += 1
    decideAfterExit(.code(code), uptime: .zero, at: now)
  }

  /// Stops the app in the usual way; `appIsGone` starts the new one.
  mutating func restartApp(at now: Duration) {
    guard case .running(let pid, _) = app, !isStopping else { return }
    actions.append(.say("the app (pid \(pid)) is restarted because a secret changed"))
    app = .restarting(pid: pid, killAt: now + policy.stopGrace)
    become(.appStarting)
    actions.append(.signalGroup(pid: pid, signal: policy.stopSignal))
  }

  mutating func appIsGone(_ exit: ProcessExit, groupRemains: Bool, at now: Duration) {
    guard let pid = app.pid else { return }
    let before = app
    lastExit = exit
    if groupRemains {
      actions.append(.signalGroup(pid: pid, signal: policy.stopSignal))
      leftovers = (pid, now + min(policy.stopGrace, Self.leftoverGrace))
    }
    actions.append(.send(.appExited(exit)))
    guard !isStopping else {
      app = .gone
      return flush(at: now)
    }
    switch before {
    case .running(_, let since): decideAfterExit(exit, uptime: now - since, at: now)
    default: app = .waiting(until: now)
    }
  }

  private mutating func decideAfterExit(_ exit: ProcessExit, uptime: Duration, at now: Duration) {
    let restart =
      switch policy.restart {
      case .never: false
      case .onFailure: exit != .code(0)
      case .always: true
      }
    guard restart else {
      app = .gone
      return end(with: exit.exitCode, because: "the app \(exit)", at: now)
    }
    if uptime >= Self.appIsStable { appFailures = 0 }
    let ceiling = min(Duration.seconds(1 << min(appFailures, 6)), Self.longestRestartDelay)
    appFailures += 1
    let delay = Duration.milliseconds(Int64.random(in: 1...ceiling.inMilliseconds, using: &jitter))
    app = .waiting(until: now + delay)
    become(.appStarting)
    actions.append(.say("the app \(exit); restart \(restarts + 1) in \(delay.inMilliseconds) ms"))
  }
}
