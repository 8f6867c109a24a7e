import Logging
import Secrets
import Synchronization
import Vocabulary

/// Rendering once, for an init container.
extension SecretAgent {
  package enum OnceOutcome: Sendable, Equatable {
    /// Files that hold what they should.
    case written(Int)
    /// The secrets did not come in time.
    case late(String)
    /// Waiting does not heal it.
    case failed(String)

    var isWritten: Bool { if case .written = self { true } else { false } }
  }

  /// Fetches every value, writes every file and ends. Files stay, and so do leases with the tokens that they hang on: the app
  /// uses them. When it fails, everything leased is given back, and no file of this run is left half done; those that were written before the failure stay.
  package func renderOnce(within limit: Duration) async -> OnceOutcome {
    let outcome: OnceOutcome
    do {
      try await prepare(within: limit)
      _ = try deliverFirst()
      outcome = .written(state.withLock { $0.delivery }?.paths.count ?? 0)
    } catch {
      outcome = isWaiting ? .late("\(error)") : .failed("\(error)")
    }
    let left = await end()
    for vault in left.vaults.values { await vault.close(leavingLeases: outcome.isWritten) }
    book.forget()
    return outcome
  }

  /// Whether a value has not come that might still come.
  private var isWaiting: Bool {
    let (vaults, names) = state.withLock { (Set($0.vaults.keys), $0.names) }
    return ledger.awaited.contains { names.contains($0.name) && vaults.contains($0.store) }
  }
}
