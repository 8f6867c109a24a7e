import Secrets
import Synchronization
import Telemetry

/// How a secret does.
package enum SecretState: String, Sendable {
  /// The last fetch or renewal worked.
  case fresh
  /// The last one failed; the last good value is in use.
  case failing
  /// Its time is over and nothing newer came; it is still handed out.
  case expired
  /// There is no value.
  case missing
}

/// What is known of one secret beside its value.
package struct SecretStatus: Sendable, Equatable {
  package var name: String
  package var store: String
  /// What is asked of the store, for example `kv secret/shop/db`.
  package var source: String
  package var state: SecretState
  package var required: Bool
  /// The store's own version, where it has one.
  package var version: String?
  /// Seconds since the value was last fetched; nil = never.
  package var age: Int64?
  /// Seconds until the value expires; nil = it does not.
  package var ttl: Int64?
  /// Seconds since 1970 when the value last changed; nil = never fetched.
  package var lastRotation: Int64?
  /// Why the last fetch failed; nil after a success.
  package var lastError: String?
}

/// Successes and failures of fetches by secret: the source of status and metrics.
final class SecretLedger: Sendable {
  private struct Record {
    var store: String
    var source: String
    var required: Bool
    var fetched: Int64?
    var rotated: Int64?
    var error: String?
    /// Why what follows from it is not done: a file that is not written, a change action that fails.
    var unfinished: [String: String] = [:]
    var isAttempted = false
    var fetches: Counter
    var errors: Counter
    /// Of its lease; made with the first one.
    var renewals: Counter?
  }

  private let records = Mutex<[String: Record]>([:])
  /// Names whose gauges are registered, once and for all.
  private let known = Mutex<Set<String>>([])
  private let metrics: MetricRegistry
  private let book: SecretBook

  init(metrics: MetricRegistry, book: SecretBook) {
    self.metrics = metrics
    self.book = book
  }

  /// A known name keeps what is known of it, unless it is new: then it must be fetched once more.
  func add(_ name: String, store: String, source: String, required: Bool, isNew: Bool = false) {
    let isKnown = records.withLock { records in
      guard records[name] != nil else { return false }
      records[name]?.store = store
      records[name]?.source = source
      records[name]?.required = required
      if isNew {
        records[name]?.fetched = nil
        records[name]?.isAttempted = false
        records[name]?.error = nil
      }
      return true
    }
    if isKnown { return }
    let labels = [Label("secret", name)]
    let record = Record(
      store: store, source: source, required: required,
      fetches: metrics.counter("outrider_secret_fetches_total", "Fetches of a secret that worked.", labels),
      errors: metrics.counter("outrider_secret_errors_total", "Fetches of a secret that failed.", labels))
    records.withLock { $0[name] = record }
    guard known.withLock({ $0.insert(name).inserted }) else { return }
    metrics.read("outrider_secret_age_seconds", .gauge, "Seconds since a secret was fetched.", labels) { [weak self] in
      Double(self?.status(of: name)?.age ?? 0)
    }
    metrics.read("outrider_secret_expiry_seconds", .gauge, "Seconds until a secret expires; 0 = it does not.", labels) {
      [weak self] in Double(self?.status(of: name)?.ttl ?? 0)
    }
  }

  /// What another process knew of a secret, in seconds since 1970.
  func adopt(_ name: String, fetched: Int64?, rotated: Int64?) {
    records.withLock { records in
      records[name]?.fetched = fetched
      records[name]?.rotated = rotated
      records[name]?.isAttempted = true
    }
  }

  /// When a secret was fetched, in seconds since 1970.
  func fetched(_ name: String) -> Int64? { records.withLock { $0[name]?.fetched } }

  /// Forgets every other name.
  func keep(_ names: Set<String>) {
    records.withLock { records in records = records.filter { names.contains($0.key) } }
  }

  /// Returns true when it follows a failure.
  @discardableResult
  func succeeded(_ name: String, rotated: Bool) -> Bool {
    records.withLock { records in
      let healed = records[name]?.error != nil
      records[name]?.fetches.add()
      records[name]?.isAttempted = true
      records[name]?.error = nil
      records[name]?.fetched = SystemTime.now
      if rotated { records[name]?.rotated = SystemTime.now }
      return healed
    }
  }

  /// A lease was renewed.
  func renewed(_ name: String) {
    records.withLock { records in
      if records[name]?.renewals == nil {
        records[name]?.renewals = metrics.counter(
          "outrider_secret_lease_renewals_total", "Renewals of a secret's lease.", [Label("secret", name)])
      }
      records[name]?.renewals?.add()
      records[name]?.error = nil
    }
  }

  /// What follows from secrets is not done for this reason, or nil: is done. `work` tells several works apart.
  func note(_ work: String, of names: Set<String>, _ reason: String?) {
    records.withLock { records in for name in names { records[name]?.unfinished[work] = reason } }
  }

  /// Returns true when the error is not the one before.
  @discardableResult
  func failed(_ name: String, _ error: String) -> Bool {
    records.withLock { records in
      let isNews = records[name]?.error != error
      records[name]?.errors.add()
      records[name]?.isAttempted = true
      records[name]?.error = error
      return isNews
    }
  }

  /// Names with their last failure that start must wait for: required and not there, or never tried.
  var awaited: [(name: String, store: String, reason: String)] {
    records.withLock { records in
      records.filter { $0.value.required ? $0.value.fetched == nil : !$0.value.isAttempted }
        .map { ($0.key, $0.value.store, $0.value.error ?? "not fetched yet") }
        .sorted { $0.0 < $1.0 }
    }
  }

  var statuses: [SecretStatus] {
    records.withLock { $0.keys.sorted() }.compactMap(status(of:))
  }

  private func status(of name: String) -> SecretStatus? {
    let now = SystemTime.now
    guard let record = records.withLock({ $0[name] }) else { return nil }
    let ttl = book.expires(name).map { max(0, $0 - now) }
    let error = record.error ?? record.unfinished.min { $0.key < $1.key }?.value
    let state: SecretState =
      switch (book.fields(name), ttl, error) {
      case (nil, _, _): .missing
      case (_, 0, .some): .expired
      case (_, _, .some): .failing
      case (_, _, nil): .fresh
      }
    return SecretStatus(
      name: name, store: record.store, source: record.source, state: state, required: record.required,
      version: book.version(name), age: record.fetched.map { now - $0 }, ttl: ttl,
      lastRotation: record.rotated, lastError: error)
  }
}
