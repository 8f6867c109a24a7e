import Logging
import Secrets

/// What is wanted of a local store.
struct LocalSource: Sendable {
  var store: LocalStore
  var values: [SecretValueConfiguration]
  /// Key in the store by name of the secret.
  var keys: [String: String]
  /// No values are configured: every name of an age or directory store is a secret of that name.
  var takesAll: Bool
}

/// Loads a local store when it changes; a failure keeps the last good values.
struct LocalWatch: Sendable {
  let source: LocalSource
  private var signature: [PlainFile.Signature?] = []
  private var lastFailure: String?

  init(source: LocalSource) { self.source = source }

  /// Called once per watch interval.
  mutating func look(_ agent: SecretAgent) {
    let isUnchanged = source.store.signature(source.takesAll ? nil : Array(source.keys.values)) == signature
    if isUnchanged, lastFailure == nil { return }
    let before = lastFailure
    guard let failure = load(into: agent) else { return }
    if failure != before {
      agent.logger.warning("store \(source.store.name): \(failure); the last good values stay in use")
    }
  }

  /// Publishes the store's values as one change. Returns why not.
  mutating func load(into agent: SecretAgent) -> String? {
    signature = source.store.signature(source.takesAll ? nil : Array(source.keys.values))
    var secrets: [(name: String, fields: [String: SecretBytes], version: String?, expires: Int64?)] = []
    lastFailure = nil
    if source.takesAll {
      if case .environment = source.store.kind { return nil }
      do throws(FileFailure) {
        secrets = try source.store.load(nil).map { ($0.key, $0.value, nil, nil) }
        for secret in secrets {
          agent.note(secret.name, store: source.store.name, source: "key \(secret.name)", required: true)
        }
      } catch {
        lastFailure = error.description
        for status in agent.ledger.statuses where status.store == source.store.name {
          agent.ledger.failed(status.name, error.description)
        }
      }
    }
    for value in source.values {
      guard let key = source.keys[value.name] else { continue }
      do throws(FileFailure) {
        guard let fields = try source.store.load([key])[key] else { continue }
        secrets.append((value.name, fields, nil, nil))
      } catch {
        agent.ledger.failed(value.name, error.description)
        if value.required || agent.book.fields(value.name) != nil { lastFailure = error.description }
      }
    }
    let changed = Set(agent.book.publish(secrets))
    for secret in secrets { agent.ledger.succeeded(secret.name, rotated: changed.contains(secret.name)) }
    return lastFailure
  }
}
