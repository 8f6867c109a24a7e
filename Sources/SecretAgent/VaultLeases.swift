import Logging
import NIOHTTP1
import Secrets
import Vocabulary

/// A secret's place in a store, which outlives a reload.
struct LeaseKey: Hashable, Sendable {
  var name: String
  var path: String
}

extension LeaseKey {
  /// Another request is another certificate.
  init(certificate request: CertificateRequest, name: String) {
    self.init(name: name, path: "\(request.path) \(request.body.json)")
  }

  /// Nil for a secret that the store keeps nothing of.
  init?(_ value: SecretValueConfiguration) {
    switch value.source {
    case .lease(let path): self.init(name: value.name, path: path)
    case .pki(let request): self.init(certificate: request, name: value.name)
    case .kv, .key, .staticRole: return nil
    }
  }
}

/// A secret's lease; `id` nil = none that lives.
struct HeldLease: Sendable {
  var id: String?
  /// The login whose token it hangs on.
  var generation = 0
  var schedule: LeaseSchedule
}

/// A lease that was replaced, and when it is revoked.
struct Leftover: Sendable {
  var id: String
  var due: Duration
}

/// What one step of a lease brought.
enum LeaseEvent: Sendable {
  /// Nothing is due for so long.
  case wait(Duration)
  case fetched(VaultLease)
  case renewed(ttl: Duration)
  /// The lease lives.
  case looked
  /// Nothing came; `isGone`: the server does not know the lease, and new credentials are due.
  case failed(VaultFailure, isGone: Bool)
}

/// One lease a secret: renewed, replaced before it ends, revoked when it is replaced.
extension VaultStore {
  /// Does what is due for a secret.
  func advance(_ key: LeaseKey, interval: Duration) async -> LeaseEvent {
    let lease = leases[key] ?? HeldLease(schedule: LeaseSchedule(interval: interval))
    leases[key] = lease
    let now = SystemTime.uptime
    switch lease.schedule.next {
    case .fetch(let due), .renew(let due), .look(let due):
      if due > now { return .wait(due - now) }
    }
    switch lease.schedule.next {
    case .fetch: return await fetch(key)
    case .renew: return await renew(key)
    case .look: return await look(key)
    }
  }

  /// Somebody asks for fresh values.
  func refresh(_ key: LeaseKey) { leases[key]?.schedule.refreshNow(at: SystemTime.uptime) }

  func remember(_ key: LeaseKey, _ schedule: CertificateSchedule) { certificates[key] = schedule }

  /// Ends the leases and schedules of secrets that are no longer configured.
  func keep(_ keys: Set<LeaseKey>) {
    certificates = certificates.filter { keys.contains($0.key) }
    for key in leases.keys where !keys.contains(key) {
      if let id = leases[key]?.id { leave(id) }
      leases[key] = nil
    }
  }

  private func fetch(_ key: LeaseKey) async -> LeaseEvent {
    do throws(VaultFailure) {
      let (reply, used) = try await request(.GET, key.path)
      let lease = try VaultLease(reply)
      // One of a former login goes with the token of that login, when that is the store's to revoke.
      if let old = leases[key], let id = old.id, id != lease.id {
        if old.generation == used || !ownsToken || isBatch { leave(id) }
      }
      leases[key]?.id = lease.id
      leases[key]?.generation = used
      leases[key]?.schedule.fetched(
        at: SystemTime.uptime, ttl: lease.ttl, renewable: lease.renewable, using: &random)
      // A login came between: its token is not the one that this lease hangs on.
      if used != generation { leases[key]?.schedule.tokenReplaced(at: SystemTime.uptime) }
      releaseFormerTokens()
      return .fetched(lease)
    } catch {
      leases[key]?.schedule.fetchFailed(at: SystemTime.uptime, using: &random)
      return .failed(error, isGone: false)
    }
  }

  private func renew(_ key: LeaseKey) async -> LeaseEvent {
    let id = leases[key]?.id ?? ""
    do throws(VaultFailure) {
      let reply = try await request(.PUT, "sys/leases/renew", .object([("lease_id", .string(id))])).reply
      let lease = try VaultLease(reply)
      if leases[key]?.id == id {
        leases[key]?.schedule.renewed(at: SystemTime.uptime, ttl: lease.ttl, using: &random)
      }
      return .renewed(ttl: lease.ttl)
    } catch {
      if Self.isGone(error) { return gone(key, id, error) }
      if leases[key]?.id == id { leases[key]?.schedule.renewalFailed(at: SystemTime.uptime, using: &random) }
      return .failed(error, isGone: false)
    }
  }

  /// Asks whether the lease lives; a token that may not ask is no failure.
  private func look(_ key: LeaseKey) async -> LeaseEvent {
    let id = leases[key]?.id ?? ""
    var lives = false
    do throws(VaultFailure) {
      _ = try await request(.PUT, "sys/leases/lookup", .object([("lease_id", .string(id))]))
      lives = true
    } catch {
      if Self.isGone(error) { return gone(key, id, error) }
    }
    if leases[key]?.id == id { leases[key]?.schedule.looked(at: SystemTime.uptime, lives: lives, using: &random) }
    return .looked
  }

  /// `lease not found` of a renewal, `invalid lease` of a look.
  private static func isGone(_ failure: VaultFailure) -> Bool {
    if case .refused(400, let text) = failure { text.contains("lease") } else { false }
  }

  private func gone(_ key: LeaseKey, _ id: String, _ failure: VaultFailure) -> LeaseEvent {
    if leases[key]?.id == id {
      leases[key]?.id = nil
      leases[key]?.schedule.gone(at: SystemTime.uptime, using: &random)
    }
    return .failed(failure, isGone: true)
  }

  /// The app may still use it for a moment.
  private func leave(_ id: String) {
    leftovers.append(Leftover(id: id, due: SystemTime.uptime + timings.overlap))
    ring()
  }

  /// A lease that cannot be revoked ends by itself; a missing policy is told once.
  func revoke(_ leftover: Leftover) async {
    guard let token else { return }
    let body = JSONNode.object([("lease_id", .string(leftover.id))]).json
    do throws(VaultFailure) {
      _ = try await client.request(.PUT, "sys/leases/revoke", token: token, body: Array(body.utf8))
    } catch {
      if case .forbidden = error {
        if toldPolicy { return }
        toldPolicy = true
        let policy = "path \"sys/leases/revoke\" { capabilities = [\"update\"] }"
        logger.warning(
          "store \(name): replaced leases stay until they end: the token may not revoke them; add to its policy: \(policy)"
        )
      } else if !Self.isGone(error) {
        logger.warning("store \(name): the replaced lease \(leftover.id) is not revoked: \(error); it ends by itself")
      }
    }
  }
}
