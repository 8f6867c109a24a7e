/// The end: one deadline, one order.
extension LifecycleMachine {
  /// Time for the worker to see the closed channel and exit.
  static let leavingTime = Duration.seconds(1)
  /// Time to flush after a forced stop, and before anything had started.
  static let shortFlush = Duration.seconds(2)

  /// Somebody asked for the end.
  mutating func requestStop(_ reason: String, at now: Duration) {
    guard !isStopping else { return }
    beginStop(reason, at: now)
    if app.pid != nil, inboundIsOpen, worker.isConnected, policy.drainDelay > .zero {
      stop = .delaying(until: min(now + policy.drainDelay, stopDeadline))
    } else {
      closeInbound(within: policy.drainTimeout, at: now)
    }
  }

  /// The run ends with this code, whatever the app says: the app is gone, cannot start, or the worker gave up.
  mutating func end(with code: Int32, because reason: String, at now: Duration) {
    guard !isStopping else { return }
    outcome = code
    beginStop("\(reason)", at: now)
    if fatalCode != nil || app.pid != nil {
      stopApp(at: now)
    } else {
      // Without an app open requests end soon: they get their answer from the sidecar.
      closeInbound(within: min(policy.drainTimeout, .seconds(5)), at: now)
    }
  }

  private mutating func beginStop(_ reason: String, at now: Duration) {
    if case .checking = upgrade { candidateFails("the sidecar is stopping", at: now) }
    stopDeadline = now + policy.deadline
    stop = .closing(until: stopDeadline)
    if case .waiting = worker { worker = .none }
    become(.draining)
    actions.append(.send(.draining))
    actions.append(.say("stopping: \(reason)"))
  }

  private mutating func closeInbound(within limit: Duration, at now: Duration) {
    guard inboundIsOpen, worker.isConnected else { return stopApp(at: now) }
    let time = max(min(limit, stopDeadline - now - flushReserve), .zero)
    stop = .closing(until: now + time + .milliseconds(500))
    actions.append(.send(.closeInbound(timeout: time)))
  }

  /// The last part of the deadline, kept for the worker's flush.
  private var flushReserve: Duration { min(policy.deadline / 10, .seconds(5)) }

  mutating func stopApp(at now: Duration) {
    guard let pid = app.pid else {
      app = .gone
      return flush(at: now)
    }
    switch stop {
    case .stoppingApp, .killingApp: return
    default: break
    }
    stop = .stoppingApp(killAt: max(now, min(now + policy.stopGrace, stopDeadline - flushReserve)))
    actions.append(.signalGroup(pid: pid, signal: policy.stopSignal))
  }

  mutating func flush(at now: Duration) {
    switch stop {
    case .flushing, .leaving, .done: return
    default: break
    }
    become(.appStopped)
    become(.flushing)
    if !worker.isRunning, canRespawnForFlush {
      respawnedWhileStopping = true
      startWorker(at: now)
    }
    guard worker.isRunning, fatalCode == nil else { return leave(at: now) }
    let least = now + .milliseconds(500)
    let until = appStarts == 0 && !inboundIsOpen ? min(stopDeadline, now + Self.shortFlush) : stopDeadline
    stop = .flushing(until: max(least, until))
    if worker.isConnected { sendFinish(until: max(least, until), at: now) }
  }

  /// The worker gets a little less than what is left, so that it can say itself what it could not do.
  mutating func sendFinish(until: Duration, at now: Duration) {
    let left = max(until - now, .zero)
    actions.append(.send(.finish(timeout: left - min(left / 4, .milliseconds(500)))))
  }

  mutating func leave(at now: Duration) {
    actions.append(.closeChannel)
    guard worker.isRunning else { return finishRun() }
    stop = .leaving(until: now + Self.leavingTime)
  }

  mutating func finishRun() {
    if let leftovers { actions.append(.killLeftovers(pid: leftovers.pid)) }
    leftovers = nil
    if let pid = app.pid { actions.append(.signalGroup(pid: pid, signal: 9)) }
    if worker.isRunning { actions.append(.killWorker) }
    if upgrade != .none { actions += [.killCandidate, .killFormer] }
    worker = .none
    stop = .done
    waitLine = nil
    state = .exit
    actions.append(.exit(exitCode))
  }

  /// What was decided, else the app's, else 0 for a run without an app, else that of the signal that came too early.
  private var exitCode: Int32 {
    if let code = outcome ?? lastExit?.exitCode { return code }
    guard !planIsKnown || policy.hasApp, let signal = stopSignalReceived else { return 0 }
    return 128 + signal
  }

  /// Ctrl-C again: nothing waits any longer.
  mutating func force(at now: Duration) {
    if interrupts > 2 { return finishRun() }
    if !isStopping { beginStop("SIGINT twice", at: now) }
    stopDeadline = min(stopDeadline, now + Self.shortFlush)
    if let pid = app.pid {
      actions.append(.say("forced: SIGKILL to the app (pid \(pid)); cut: what it was doing"))
      actions.append(.signalGroup(pid: pid, signal: 9))
      stop = .killingApp(until: stopDeadline)
    } else if case .flushing = stop {
      actions.append(.say("forced; cut: what is not sent yet stays in the spool"))
      leave(at: now)
    } else {
      stopApp(at: now)
    }
  }

  mutating func passStopDeadlines(at now: Duration) {
    switch stop {
    case .delaying(let until) where until <= now: closeInbound(within: policy.drainTimeout, at: now)
    case .closing(let until) where until <= now:
      actions.append(.say("cut: inbound requests that were still open after \(policy.drainTimeout.inSeconds)"))
      stopApp(at: now)
    case .stoppingApp(let killAt) where killAt <= now:
      guard let pid = app.pid else { return flush(at: now) }
      let signal = SignalName.of(policy.stopSignal)
      actions.append(.say("cut: the app (pid \(pid)) did not end in time after \(signal): sent SIGKILL"))
      actions.append(.signalGroup(pid: pid, signal: 9))
      stop = .killingApp(until: max(stopDeadline, now + .milliseconds(500)))
    case .killingApp(let until) where until <= now:
      actions.append(.say("cut: the app does not end even after SIGKILL (it waits in the kernel); leaving it behind"))
      outcome = outcome ?? 137
      flush(at: now)
    case .flushing(let until) where until <= now:
      actions.append(.say("cut: the worker did not flush in time; what is not sent yet stays in the spool"))
      leave(at: now)
    case .leaving(let until) where until <= now: finishRun()
    default: break
    }
  }
}
