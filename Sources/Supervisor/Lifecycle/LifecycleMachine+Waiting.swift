/// What waits says what it waits for, every 5 s, in one line.
extension LifecycleMachine {
  static let waitLineInterval = Duration.seconds(5)

  mutating func speakOfWaiting(at now: Duration) {
    guard let subject = waitSubject(at: now) else {
      waitLine = nil
      return
    }
    guard let line = waitLine, line.key == subject.key else {
      waitLine = (subject.key, now + Self.waitLineInterval)
      return
    }
    guard line.next <= now else { return }
    waitLine = (subject.key, now + Self.waitLineInterval)
    actions.append(.say("waiting for \(subject.key)\(subject.detail.isEmpty ? "" : " (\(subject.detail))")"))
  }

  private func waitSubject(at now: Duration) -> (key: String, detail: String)? {
    switch stop {
    case .no: return startSubject(at: now)
    case .delaying(let until): return ("the drain delay", "\((until - now).inSeconds) left")
    case .closing(let until): return ("open inbound requests to end", "\((until - now).inSeconds) left")
    case .stoppingApp(let killAt):
      let signal = SignalName.of(policy.stopSignal)
      return ("the app to end after \(signal)", "pid \(app.pid ?? 0), SIGKILL in \((killAt - now).inSeconds)")
    case .killingApp: return ("the app to end after SIGKILL", "pid \(app.pid ?? 0)")
    case .flushing(let until): return ("the worker to flush", detail("\((until - now).inSeconds) left"))
    case .leaving, .done: return nil
    }
  }

  private func startSubject(at now: Duration) -> (key: String, detail: String)? {
    if let subject = upgradeSubject(at: now) { return subject }
    switch worker {
    case .none: return nil
    case .waiting(let until): return ("a new worker", "\((until - now).inSeconds) left")
    case .starting: return ("the worker to start", "")
    case .present: return ("secrets and outbound", workerWaitsFor)
    case .prepared: break
    }
    switch app {
    case .requested: return ("the app's environment and secrets", workerWaitsFor)
    case .running where state == .appStarting: return ("the app to become ready", unreadyReason)
    case .restarting(let pid, let killAt):
      return ("the app to end for its restart", "pid \(pid), SIGKILL in \((killAt - now).inSeconds)")
    case .waiting(let until): return ("the next start of the app", "\((until - now).inSeconds) left")
    default: return nil
    }
  }

  private func upgradeSubject(at now: Duration) -> (key: String, detail: String)? {
    switch upgrade {
    case .checking(let until), .taking(let until):
      let left = "\((until - now).inSeconds) left"
      let detail = candidate.waitsFor.isEmpty ? left : "\(candidate.waitsFor); \(left)"
      return ("the new worker of an upgrade to serve", detail)
    case .leaving(let until): return ("the former worker to drain", "\((until - now).inSeconds) left")
    case .none, .clearing: return nil
    }
  }

  private func detail(_ text: String) -> String { workerWaitsFor.isEmpty ? text : "\(workerWaitsFor); \(text)" }
}
