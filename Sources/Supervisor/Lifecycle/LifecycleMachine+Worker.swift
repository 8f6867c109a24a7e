import Vocabulary

/// The worker: started, replaced, and what it brings up.
extension LifecycleMachine {
  /// A worker that lived this long is not part of a crash loop.
  static let workerIsStable = Duration.seconds(60)
  /// Nor is one that served for so long: it came up, so the next one will, and nobody should wait for it.
  static let workerHasServed = Duration.seconds(1)
  /// BSD's EX_CONFIG: a new worker would find the same mistake.
  static let configurationError: Int32 = 78

  mutating func startWorker(at now: Duration) {
    worker = .starting
    workerSpawns += 1
    workerSince = now
    workerWaitsFor = ""
    fatalCode = nil
    killWorkerAt = nil
    actions.append(.spawnWorker)
  }

  mutating func workerSaysHello(_ version: UInt32, at now: Duration) {
    guard version == FrameLimits.version else {
      let text = "the worker speaks version \(version) and the supervisor \(FrameLimits.version): restart the whole"
      return end(with: 70, because: text, at: now)
    }
    worker = .present
    if workerSpawns > 1 {
      actions.append(.sendInheritance(state: state, restarts: restarts, workerRestarts: workerRestarts))
    }
    switch stop {
    case .closing: stopApp(at: now)
    case .flushing(let until): sendFinish(until: until, at: now)
    default: break
    }
  }

  mutating func outboundIsReady(at now: Duration) {
    worker = .prepared
    workerPreparedAt = now
    workerWaitsFor = ""
    guard !isStopping else { return }
    guard policy.hasApp else {
      if !wasReady { become(.outboundReady) }
      openInbound()
      wasReady = true
      return become(.ready)
    }
    if inboundIsOpen { actions.append(.send(.openInbound)) }
    switch app {
    case .never:
      become(.outboundReady)
      requestApp()
    case .requested: requestApp()
    default: break
    }
  }

  private mutating func openInbound() {
    inboundIsOpen = true
    actions.append(.send(.openInbound))
  }

  mutating func appIsReady(_ ready: Bool, reason: String, at now: Duration) {
    unreadyReason = ready ? "" : reason
    guard case .running = app, !isStopping else { return }
    switch (ready, state) {
    case (true, .appStarting), (true, .degraded):
      wasReady = true
      if !inboundIsOpen { openInbound() }
      become(.ready)
    case (false, .ready):
      actions.append(.say("the app is not ready any more: \(reason)"))
      become(.degraded)
    default: break
    }
  }

  mutating func workerCannotStart(_ message: String, at now: Duration) {
    actions.append(.say(message))
    guard wasReady || isStopping else {
      worker = .none
      return end(with: 70, because: "no worker", at: now)
    }
    workerIsGone(.code(126), at: now)
  }

  mutating func workerIsGone(_ exit: ProcessExit, at now: Duration) {
    let served = worker == .prepared ? now - workerPreparedAt : .zero
    worker = .none
    killWorkerAt = nil
    guard !isStopping else { return workerIsGoneWhileStopping(exit, at: now) }
    if candidateTakesOver(at: now) { return }
    revertIfOnProbation(at: now)
    if !wasReady, let code = fatalCode ?? (exit == .code(Self.configurationError) ? Self.configurationError : nil) {
      return end(with: code, because: "the worker cannot go on", at: now)
    }
    if now - workerSince >= Self.workerIsStable || served >= Self.workerHasServed { workerFailures = 0 }
    let delay = workerFailures == 0 ? Duration.zero : min(.milliseconds(100 << min(workerFailures - 1, 6)), .seconds(5))
    workerFailures += 1
    let rest = app.pid == nil ? "" : "; the app goes on"
    let pause = delay == .zero ? "now" : "in \(delay.inMilliseconds) ms"
    actions.append(.say("the worker \(exit)\(rest); a new one starts \(pause)"))
    if delay == .zero { startWorker(at: now) } else { worker = .waiting(until: now + delay) }
  }

  private mutating func workerIsGoneWhileStopping(_ exit: ProcessExit, at now: Duration) {
    if case .leaving = stop { return finishRun() }
    if canRespawnForFlush {
      respawnedWhileStopping = true
      actions.append(.say("the worker \(exit) while stopping; a new one empties the app's pipes"))
      startWorker(at: now)
    } else {
      actions.append(.say("the worker \(exit) while stopping; cut: what it had not sent stays in the spool"))
    }
    switch stop {
    case .delaying, .closing: stopApp(at: now)
    case .flushing where !worker.isRunning: finishRun()
    default: break
    }
  }

  /// A new worker is of use once: while there may be unread output of the app.
  var canRespawnForFlush: Bool { appStarts > 0 && !respawnedWhileStopping && fatalCode == nil }
}

extension Duration {
  /// `12 s`, rounded up.
  var inSeconds: String { "\((max(self, .zero).inMilliseconds + 999) / 1000) s" }
}
