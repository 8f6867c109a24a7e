import Logging
import Secrets
import Vocabulary

extension SecretAgent {
  /// Keeps one secret leased until the task is cancelled. Its failures touch no other secret.
  func keepLeased(_ value: SecretValueConfiguration, _ path: String, _ store: VaultStore) async {
    let key = LeaseKey(name: value.name, path: path)
    let bell = polls[value.name] ?? Doorbell()
    while !Task.isCancelled {
      switch await step(store, key, value.refresh) {
      case .wait(let wait):
        if await bell.wait(for: wait) { await store.refresh(key) }
        continue
      case .fetched(let lease):
        // Also when this agent ends meanwhile: the next one goes on with the lease, and the values are the book's.
        let rotated = book.publish(value.name, lease.fields, expires: SystemTime.now + lease.ttl.components.seconds)
        if ledger.succeeded(value.name, rotated: rotated) { logger.info("secret `\(value.name)`: fetched again") }
      case .renewed(let ttl):
        if let fields = book.fields(value.name) {
          book.publish(value.name, fields, expires: SystemTime.now + ttl.components.seconds)
        }
        ledger.renewed(value.name)
      case .looked: continue
      case .failed(let failure, let isGone):
        if Task.isCancelled { return }
        let said = isGone ? "the lease is gone (\(failure)); new credentials are fetched" : "\(failure)"
        if ledger.failed(value.name, "\(path) in \(store.address): \(said)"), book.fields(value.name) != nil {
          let until = book.expires(value.name).map(SystemTime.text) ?? "now"
          let rest = isGone ? "" : "; the last good value stays in use, valid until \(until)"
          logger.warning("secret `\(value.name)`: \(path): \(said)\(rest)")
        }
      }
      progress.ring()
    }
  }

  /// A step under way is not broken off at once: what the server leased meanwhile would be lost.
  private func step(_ store: VaultStore, _ key: LeaseKey, _ interval: Duration) async -> LeaseEvent {
    let step = Task { await store.advance(key, interval: interval) }
    return await withTaskCancellationHandler {
      await step.value
    } onCancel: {
      Task {
        try? await Task.sleep(for: .seconds(2))
        step.cancel()
      }
    }
  }
}
