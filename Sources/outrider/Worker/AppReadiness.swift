import ConfigurationFile
import Logging
import Supervisor
import Traffic
import Vocabulary

/// Follows the app's readiness: probes, counts, and tells the supervisor of each change.
struct AppReadiness: Sendable {
  let configuration: AppConfiguration.Ready
  let probe: AppProbe
  let link: SupervisorLink
  let facts: WorkerFacts
  let logger: Logger
  /// Whether the app was ready when this began, where that is known.
  var known: Bool?

  /// The configured probe; for an app with a port and inbound listeners a TCP probe; else nil: ready once started.
  static func effective(_ value: OutriderConfiguration) -> AppConfiguration.Ready? {
    if let ready = value.app.ready { return ready }
    return value.app.port != nil && !value.traffic.inbound.isEmpty ? AppConfiguration.Ready(probe: .tcp) : nil
  }

  /// Until the task is cancelled. The first success is looked for every 50 ms at the slowest.
  func run() async {
    var good = 0
    var bad = 0
    var isReady = known
    let deadline = ContinuousClock.now + configuration.deadline
    var saidLate = false
    var told = ""
    while !Task.isCancelled {
      let failure = await probe.failure()
      if Task.isCancelled { return }
      if let failure {
        bad += 1
        good = 0
        let isLate = isReady == nil && ContinuousClock.now > deadline
        if isLate && !saidLate {
          saidLate = true
          late(failure)
        }
        facts.change { if isReady != true || bad >= configuration.unhealthy { $0.appReason = failure } }
        if isReady == true && bad >= configuration.unhealthy {
          tell(false, failure, &isReady)
        } else if isReady == nil, failure != told {
          // For the line that says what is waited for.
          told = failure
          link.send(.appReady(false, reason: failure))
        }
      } else {
        good += 1
        bad = 0
        if isReady != true && good >= configuration.healthy { tell(true, "", &isReady) }
      }
      let pause = isReady == nil ? min(configuration.interval, .milliseconds(50)) : configuration.interval
      try? await Task.sleep(for: pause)
    }
  }

  /// An app that never became ready ends the run; one that was ready before is waited for.
  private func late(_ failure: String) {
    let text =
      "the app is not ready after app.ready.deadline (\(DurationText.format(configuration.deadline))): \(failure)"
    guard !facts.now.wasReady else { return logger.warning("\(text)") }
    logger.error("\(text)")
    link.send(.fatal(exitCode: ExitStatus.unavailable))
  }

  private func tell(_ ready: Bool, _ reason: String, _ isReady: inout Bool?) {
    isReady = ready
    facts.change {
      $0.appReady = ready
      if ready { $0.wasReady = true }
      $0.appReason = reason
    }
    link.send(.appReady(ready, reason: reason))
  }
}
