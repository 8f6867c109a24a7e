import Glibc
import Logging
import Secrets
import Synchronization

/// A store with its login, which outlives the agent that made it.
struct OpenVault: Sendable {
  let configuration: VaultConfiguration
  let store: VaultStore
  /// Keeps the token alive.
  let life: Task<Void, Never>

  func close(leavingLeases: Bool = false) async {
    life.cancel()
    await life.value
    await store.close(leavingLeases: leavingLeases)
  }
}

/// What one agent leaves to the next at a reload: values, logins, delivered files, and what the app has not been told
/// yet. A login is not made twice: an AppRole's secret id may be good for one only.
package struct SecretInheritance: Sendable {
  let book: SecretBook
  let ledger: SecretLedger
  let outlets: SecretOutlets
  let configuration: SecretsConfiguration
  let vaults: [String: OpenVault]
  /// Absolute paths.
  let files: Set<String>
  let sets: Set<FileSet>
  let pending: Set<String>
  let actions: [ChangeAction]
  let values: SecretBook.Checkpoint

  /// The login of an equal store.
  func vault(_ name: String, _ wanted: VaultConfiguration) -> OpenVault? {
    vaults[name].flatMap { $0.configuration == wanted ? $0 : nil }
  }

  /// Whether the value was configured alike before, so that the one in the book is its own.
  func has(_ value: SecretValueConfiguration, in store: SecretStoreConfiguration) -> Bool {
    configuration.values.contains { $0.isSame(as: value) } && configuration.stores.contains(store)
      && book.fields(value.name) != nil
  }
}

extension SecretValueConfiguration {
  /// Where it comes from is the same.
  fileprivate func isSame(as other: SecretValueConfiguration) -> Bool {
    name == other.name && store == other.store && source == other.source
  }
}

/// The handing over at a reload: `handOver`, then `succeed` of the new agent; when that throws, `resume` of another one
/// with the former configuration and the same inheritance.
extension SecretAgent {
  /// Ends this agent and leaves its values, logins and files standing.
  package func handOver() async -> SecretInheritance {
    let left = await end()
    return SecretInheritance(
      book: book, ledger: ledger, outlets: outlets, configuration: configuration, vaults: left.vaults,
      files: left.delivery?.paths ?? [], sets: left.delivery?.sets ?? [], pending: left.pending, actions: left.actions,
      values: book.checkpoint())
  }

  /// Takes over. Values that are new, or come from elsewhere, are waited for, at most `limit`. When it throws, nothing
  /// of this agent is left: neither its logins nor its files nor its values.
  package func succeed(within limit: Duration) async throws {
    do {
      try await prepare(within: limit)
      try await begin()
    } catch {
      let left = await end()
      for (name, vault) in left.vaults where inheritance?.vaults[name]?.store !== vault.store { await vault.close() }
      if let inheritance {
        for path in (left.delivery?.paths ?? []).subtracting(inheritance.files) { unlink(path) }
        for set in (left.delivery?.sets ?? []).subtracting(inheritance.sets) { set.remove() }
        book.restore(inheritance.values)
      }
      throw error
    }
    guard let inheritance else { return }
    let (vaults, names) = state.withLock { ($0.vaults, $0.names) }
    for (name, vault) in inheritance.vaults where vaults[name]?.store !== vault.store { await vault.close() }
    for path in inheritance.files.subtracting(configuration.files.map { absolute($0.path) }) { unlink(path) }
    for set in inheritance.sets.subtracting(state.withLock { $0.delivery }?.sets ?? []) { set.remove() }
    ledger.keep(names)
    await keepLeases()
  }

  /// Leases of secrets that are no longer configured, or come from elsewhere, are given back.
  private func keepLeases() async {
    for (name, vault) in state.withLock({ $0.vaults }) {
      await vault.store.keep(Set(configuration.values.filter { $0.store == name }.compactMap { LeaseKey($0) }))
    }
  }

  /// Goes on as the agent before did; whatever fails is said, and the last good values stay in use.
  package func resume() async {
    book.follow { [weak self] names in self?.changed(names) }
    do {
      let delivery = try FileDelivery(configuration.files) { self.absolute($0) }
      state.withLock { $0.delivery = delivery }
    } catch {
      logger.error("\(error); secret files are not written")
    }
    for store in configuration.stores {
      do { try open(store) } catch { logger.warning("store \(store.name): \(error); the last good values stay in use") }
    }
    do { _ = try deliverFirst(keepGoing: true) } catch { logger.error("\(error)") }
    do { try openOutlets() } catch { logger.error("\(error)") }
    await runner.request(inheritance?.actions ?? [])
    let pending = inheritance?.pending ?? []
    if !pending.isEmpty { changed(Array(pending)) }
    ledger.keep(state.withLock { $0.names })
    await keepLeases()
    follow()
  }
}
