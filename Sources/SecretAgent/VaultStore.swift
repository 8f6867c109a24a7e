import Logging
import NIOCore
import NIOHTTP1
import Resilience
import Secrets
import Telemetry
import Vocabulary

/// One Vault store: its token's life, its requests and its leases.
actor VaultStore {
  nonisolated let name: String
  nonisolated let address: String
  nonisolated let configuration: VaultConfiguration
  let timings: AgentTimings
  let logger: Logger
  let absolute: @Sendable (String) -> String
  let book: SecretBook
  let logins: KeptLogins?
  private let group: any EventLoopGroup
  private let metrics: VaultMetrics
  private(set) var client: VaultClient
  /// Signatures of the PEM files that `client` was made from.
  private var clientFiles: [String?]
  /// Called after each login, so that reads that failed are tried again at once.
  private var onLogin: @Sendable () -> Void = {}
  private let bell = Doorbell()
  var schedule = TokenSchedule()
  var token: SecretBytes?
  var isBatch = false
  /// Counts logins: a lease hangs on the token of its own.
  var generation = 0
  private var mounts: [String: VaultMount] = [:]
  private var lastFailure: VaultFailure?
  private var isEnded = false
  /// When the server last accepted or was asked about the token.
  var probed: Duration = .zero
  /// Reads that wait for the outcome of the first login.
  private var waiting: [CheckedContinuation<Void, Never>] = []
  /// The wrapping token that was unwrapped last, and the secret id that was in it.
  var unwrapped: (wrapping: SecretBytes, secretID: SecretBytes)?
  var leases: [LeaseKey: HeldLease] = [:] { didSet { metrics.leases.set(Int64(leases.count + leftovers.count)) } }
  /// Leases that were replaced and end when the app has had time to take the new credentials.
  var leftovers: [Leftover] = [] { didSet { metrics.leases.set(Int64(leases.count + leftovers.count)) } }
  /// Tokens of logins that were replaced while they were good, until no lease hangs on them.
  var formerTokens: [(token: SecretBytes, due: Duration?)] = []
  /// Whether the missing policy was told.
  var toldPolicy = false
  /// When issued certificates are due: a reload issues none anew.
  var certificates: [LeaseKey: CertificateSchedule] = [:]
  var random = SeededRandom()

  init(
    name: String, configuration: VaultConfiguration, group: any EventLoopGroup, timings: AgentTimings,
    book: SecretBook, logger: Logger, metrics: VaultMetrics, logins: KeptLogins? = nil,
    absolute: @escaping @Sendable (String) -> String
  ) throws(FileFailure) {
    self.logins = logins
    self.name = name
    self.address = configuration.address
    self.configuration = configuration
    self.group = group
    self.timings = timings
    self.book = book
    self.logger = logger
    self.metrics = metrics
    self.absolute = absolute
    clientFiles = Self.signatures(configuration, absolute)
    client = try VaultClient(configuration, absolute, group: group, timeout: timings.request)
  }

  func follow(_ onLogin: @escaping @Sendable () -> Void) { self.onLogin = onLogin }

  /// Logs in and keeps the token alive until the task is cancelled.
  func run() async {
    while !Task.isCancelled {
      let now = SystemTime.uptime
      let chores = await dropLeftovers(now)
      let probe = token == nil || schedule.state == .loggedOut ? now + .seconds(3600) : probed + timings.probe
      switch schedule.next {
      case .login(let due) where due <= now: await login()
      case .renew(let due) where due <= now: await renew()
      case _ where probe <= now: await confirm()
      case .login(let due), .renew(let due): _ = await bell.wait(for: min(due, probe, chores) - now)
      case .never: _ = await bell.wait(for: min(probe, chores) - now)
      }
    }
    isEnded = true
    release()
  }

  private func release() {
    for reader in waiting { reader.resume() }
    waiting = []
  }

  /// Waits for the outcome of the first login.
  private func usableToken() async throws(VaultFailure) -> SecretBytes {
    if token == nil, lastFailure == nil, !isEnded {
      await withCheckedContinuation { waiting.append($0) }
    }
    guard let token else { throw lastFailure ?? .unreachable("not logged in yet") }
    return token
  }

  /// A request with the token. A 403 is followed by a look at the token itself.
  func request(
    _ method: HTTPMethod, _ path: String, _ body: JSONNode? = nil
  ) async throws(VaultFailure) -> (reply: JSONNode, generation: Int) {
    let token = try await usableToken()
    let used = generation
    do throws(VaultFailure) {
      let reply = try await client.request(method, path, token: token, body: body.map { Array($0.json.utf8) })
      accepted(token)
      return (reply, used)
    } catch {
      switch error {
      case .forbidden: await confirm(token)
      case .unreachable: await renewClient()
      default: break
      }
      throw error
    }
  }

  /// Writes to an engine and returns its answer.
  func write(_ path: String, _ body: JSONNode) async throws(VaultFailure) -> JSONNode {
    try await request(.POST, path, body).reply
  }

  /// Reads a KV secret at `MOUNT/PATH`.
  func read(_ path: String) async throws(VaultFailure) -> VaultSecret {
    do throws(VaultFailure) {
      let mount = try await mount(of: path)
      let reply = try await request(.GET, mount.readPath(path)).reply
      return try VaultSecret(kv: reply, versioned: mount.isVersioned)
    } catch {
      if error == .absent { mounts[path] = nil }
      throw error
    }
  }

  /// Reads `MOUNT/static-creds/ROLE`.
  func readStaticRole(_ path: String) async throws(VaultFailure) -> VaultSecret {
    try VaultSecret(staticRole: await request(.GET, path).reply)
  }

  private func mount(of path: String) async throws(VaultFailure) -> VaultMount {
    if let known = mounts[path] { return known }
    let mount = try VaultMount(preflight: await request(.GET, "sys/internal/ui/mounts/\(path)").reply)
    mounts[path] = mount
    return mount
  }

  // MARK: The token

  private func accepted(_ used: SecretBytes) {
    guard used == token else { return }
    probed = SystemTime.uptime
    schedule.accepted()
  }

  /// A request was refused, or nothing was asked for a while: is the token still good?
  private func confirm(_ used: SecretBytes? = nil) async {
    guard let used = used ?? token else { return }
    probed = SystemTime.uptime
    do throws(VaultFailure) {
      _ = try await client.request(.GET, "auth/token/lookup-self", token: used)
      accepted(used)
    } catch {
      guard case .forbidden = error, token == used, schedule.state != .loggedOut else { return }
      schedule.refused(.lookupSelf, at: SystemTime.uptime, using: &random)
      logger.warning("store \(name): the server refuses the token; logging in again")
      bell.ring()
    }
  }

  private func login() async {
    let wasGood: SecretBytes? = schedule.state == .loggedOut && schedule.expires == nil ? nil : token
    do throws(VaultFailure) {
      await renewClient()
      let fresh = try await authenticate()
      if let wasGood, wasGood != fresh.secret, ownsToken, !isBatch { formerTokens.append((wasGood, nil)) }
      if token != nil, token != fresh.secret {
        for key in leases.keys { leases[key]?.schedule.tokenReplaced(at: SystemTime.uptime) }
      }
      if token != fresh.secret { generation += 1 }
      token = fresh.secret
      isBatch = fresh.isBatch
      lastFailure = nil
      probed = SystemTime.uptime
      schedule.loggedIn(
        at: SystemTime.uptime, ttl: fresh.ttl, renewable: fresh.renewable, batch: fresh.isBatch, using: &random)
      metrics.logins.add()
      release()
      releaseFormerTokens()
      onLogin()
    } catch {
      let isNews = lastFailure != error
      lastFailure = error
      schedule.loginFailed(at: SystemTime.uptime, using: &random)
      if case .tampered(let detail) = error {
        if isNews { logger.critical("SECURITY: store \(name) (\(address)): \(detail)") }
        metrics.tampering.add()
      } else if isNews, !Task.isCancelled {
        logger.warning("store \(name) (\(address)): login failed: \(error)")
      }
      release()
    }
  }

  private func renew() async {
    guard let token else { return }
    do throws(VaultFailure) {
      let reply = try await client.request(.POST, "auth/token/renew-self", token: token, body: Array("{}".utf8))
      let fresh = try VaultToken(login: reply)
      probed = SystemTime.uptime
      schedule.renewed(at: SystemTime.uptime, ttl: fresh.ttl)
      metrics.renewals.add()
    } catch {
      if case .forbidden = error {
        schedule.refused(.renewSelf, at: SystemTime.uptime, using: &random)
      } else {
        schedule.renewalFailed(at: SystemTime.uptime, using: &random)
      }
      logger.warning("store \(name) (\(address)): token renewal failed: \(error)")
    }
  }

  /// The token came from a login of this store's own, so that it may be revoked.
  var ownsToken: Bool {
    switch configuration.auth {
    case .tokenFile, .token: false
    case .approle, .wrappedApprole, .jwt, .certificate: true
    }
  }

  /// A token that was replaced goes, with what hangs on it, when every lease has moved on and the app had time to follow.
  func releaseFormerTokens() {
    guard !formerTokens.isEmpty, !leases.values.contains(where: { $0.id != nil && $0.generation < generation }) else {
      return
    }
    let due = SystemTime.uptime + timings.overlap
    for index in formerTokens.indices where formerTokens[index].due == nil { formerTokens[index].due = due }
    bell.ring()
  }

  /// Revokes what is due to go; returns when to come again.
  private func dropLeftovers(_ now: Duration) async -> Duration {
    while let index = formerTokens.firstIndex(where: { ($0.due ?? .seconds(1 << 40)) <= now }) {
      let former = formerTokens.remove(at: index)
      _ = try? await client.request(.POST, "auth/token/revoke-self", token: former.token, body: Array("{}".utf8))
    }
    while let index = leftovers.firstIndex(where: { $0.due <= now }) { await revoke(leftovers.remove(at: index)) }
    return (formerTokens.compactMap(\.due) + leftovers.map(\.due)).min() ?? now + .seconds(3600)
  }

  func ring() { bell.ring() }

  // MARK: The client

  private static func signatures(_ configuration: VaultConfiguration, _ absolute: (String) -> String) -> [String?] {
    let tls = configuration.tls
    return [tls.ca, tls.certificate, tls.key].map { file in
      file.flatMap { PlainFile.signature(absolute($0)) }.map { "\($0)" }
    }
  }

  /// Reads the PEM files again when they changed: an authority or a client certificate may have been replaced.
  private func renewClient() async {
    let files = Self.signatures(configuration, absolute)
    guard files != clientFiles else { return }
    do throws(FileFailure) {
      let fresh = try VaultClient(configuration, absolute, group: group, timeout: timings.request)
      clientFiles = files
      let old = client
      client = fresh
      logger.info("store \(name): the files of `tls` changed and are used")
      await old.shutdown()
    } catch {
      logger.warning("store \(name): \(error); the former ones stay in use")
      clientFiles = files
    }
  }

  // MARK: The end

  /// Gives back what was leased, within three seconds, and forgets the token. What is left in use stays, and so does the
  /// token that it hangs on: leases, and certificates, which a mount may revoke with their lease.
  func close(leavingLeases: Bool = false) async {
    let isInUse = leavingLeases && (leases.values.contains { $0.id != nil } || !certificates.isEmpty)
    if configuration.revokesAtStop, token != nil, !isInUse {
      await withTaskGroup(of: Void.self) { group in
        group.addTask { await self.giveBack() }
        group.addTask { try? await Task.sleep(for: .seconds(3)) }
        _ = await group.next()
        group.cancelAll()
      }
    }
    token = nil
    unwrapped = nil
    leases = [:]
    leftovers = []
    await client.shutdown()
  }

  private func giveBack() async {
    guard let token else { return }
    let empty = Array("{}".utf8)
    for former in formerTokens {
      _ = try? await client.request(.POST, "auth/token/revoke-self", token: former.token, body: empty)
    }
    formerTokens = []
    // With the token goes what hangs on it, also what an answer that never came has leased.
    if ownsToken, !isBatch,
      (try? await client.request(.POST, "auth/token/revoke-self", token: token, body: empty)) != nil
    {
      return
    }
    for key in leases.keys { if let id = leases[key]?.id { leftovers.append(Leftover(id: id, due: .zero)) } }
    leases = [:]
    while let leftover = leftovers.popLast(), !Task.isCancelled { await revoke(leftover) }
  }
}

/// What a store counts.
struct VaultMetrics: Sendable {
  let renewals: Counter
  let logins: Counter
  let tampering: Counter
  let leases: Gauge

  init(_ metrics: MetricRegistry, store: String) {
    let labels = [Label("store", store)]
    renewals = metrics.counter("outrider_secret_renewals_total", "Token renewals of a store.", labels)
    logins = metrics.counter("outrider_secret_logins_total", "Logins to a store.", labels)
    tampering = metrics.counter(
      "outrider_secret_security_events_total", "Logins refused because a credential was tampered with.", labels)
    leases = metrics.gauge("outrider_secret_leases", "Leases held, those about to be revoked included.", labels)
  }
}
