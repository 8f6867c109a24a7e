import Logging
import Resilience
import Secrets

/// Runs change actions. A failing one is tried again by itself with backoff; the fetch that led to it is not repeated.
/// An action asked for while it runs runs once more afterwards.
actor ActionRunner {
  private var running: [ChangeAction: Bool] = [:]
  private var tasks: [ChangeAction: Task<Void, Never>] = [:]
  private let retry: Duration
  private let logger: Logger
  private let onAction: @Sendable (ChangeAction) async -> Bool
  /// Hears how an action does: how often it failed in a row, 0 when it worked.
  private let onOutcome: @Sendable (ChangeAction, Int) -> Void

  init(
    retry: Duration, logger: Logger, onOutcome: @escaping @Sendable (ChangeAction, Int) -> Void,
    onAction: @escaping @Sendable (ChangeAction) async -> Bool
  ) {
    self.onOutcome = onOutcome
    self.retry = retry
    self.logger = logger
    self.onAction = onAction
  }

  func request(_ actions: [ChangeAction]) {
    for action in actions {
      if running[action] != nil {
        running[action] = true
      } else {
        running[action] = false
        tasks[action] = Task { await self.run(action) }
      }
    }
  }

  /// Ends; returns the actions that were asked for and are not done.
  func stop() -> [ChangeAction] {
    let left = Array(running.keys)
    for task in tasks.values { task.cancel() }
    tasks = [:]
    return left
  }

  private func run(_ action: ChangeAction) async {
    var random = SeededRandom()
    var backoff = FailureBackoff(first: retry)
    while !Task.isCancelled {
      running[action] = false
      if await onAction(action) {
        backoff.reset()
        onOutcome(action, 0)
        if running[action] == true { continue }
        break
      }
      let wait = backoff.failed(using: &random)
      onOutcome(action, backoff.failures)
      logger.warning("change action \(action) failed \(backoff.failures) times; it is tried again in \(wait)")
      try? await Task.sleep(for: wait)
    }
    running[action] = nil
    tasks[action] = nil
  }
}
