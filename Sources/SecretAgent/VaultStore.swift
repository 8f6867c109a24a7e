import Logging
import NIOHTTP1
import Resilience
import Secrets
import Telemetry
import Vocabulary

/// One Vault store: its token's life and its reads.
actor VaultStore {
  nonisolated let name: String
  nonisolated let address: String
  private let client: VaultClient
  private let configuration: VaultConfiguration
  private let absolute: @Sendable (String) -> String
  private let book: SecretBook
  private let logger: Logger
  private let renewals: Counter
  /// Called after each login, so that reads that failed are tried again at once.
  private var onLogin: @Sendable () -> Void = {}
  private let bell = Doorbell()
  private var schedule = TokenSchedule()
  private var token: SecretBytes?
  private var mounts: [String: VaultMount] = [:]
  private var lastFailure: VaultFailure?
  private var isEnded = false
  /// Reads that wait for the outcome of the first login.
  private var waiting: [CheckedContinuation<Void, Never>] = []
  private var random = SeededRandom()

  init(
    name: String, configuration: VaultConfiguration, client: VaultClient, book: SecretBook, logger: Logger,
    renewals: Counter, absolute: @escaping @Sendable (String) -> String
  ) {
    self.name = name
    self.address = configuration.address
    self.client = client
    self.configuration = configuration
    self.book = book
    self.logger = logger
    self.renewals = renewals
    self.absolute = absolute
  }

  func follow(_ onLogin: @escaping @Sendable () -> Void) { self.onLogin = onLogin }

  /// Logs in and keeps the token alive until the task is cancelled.
  func run() async {
    while !Task.isCancelled {
      let now = SystemTime.uptime
      switch schedule.next {
      case .login(let due) where due <= now: await login()
      case .renew(let due) where due <= now: await renew()
      case .login(let due), .renew(let due): _ = await bell.wait(for: due - now)
      case .never: _ = await bell.wait(for: .seconds(3600))
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

  /// Writes to an engine and returns its answer.
  func write(_ path: String, _ body: JSONNode) async throws(VaultFailure) -> JSONNode {
    let token = try await usableToken()
    do throws(VaultFailure) {
      let reply = try await client.request(.POST, path, token: token, body: Array(body.json.utf8))
      schedule.accepted()
      return reply
    } catch {
      if case .forbidden = error { await confirm(token) }
      throw error
    }
  }

  /// Reads a KV secret at `MOUNT/PATH`.
  func read(_ path: String) async throws(VaultFailure) -> VaultSecret {
    let token = try await usableToken()
    do throws(VaultFailure) {
      let mount = try await mount(of: path, token)
      let reply = try await client.request(.GET, mount.readPath(path), token: token)
      schedule.accepted()
      return try VaultSecret(kv: reply, versioned: mount.isVersioned)
    } catch {
      if case .forbidden = error { await confirm(token) }
      if error == .absent { mounts[path] = nil }
      throw error
    }
  }

  func close() async {
    token = nil
    await client.shutdown()
  }

  private func mount(of path: String, _ token: SecretBytes) async throws(VaultFailure) -> VaultMount {
    if let known = mounts[path] { return known }
    let reply = try await client.request(.GET, "sys/internal/ui/mounts/\(path)", token: token)
    let mount = try VaultMount(preflight: reply)
    mounts[path] = mount
    return mount
  }

  /// A read was refused: is it the path or the token?
  private func confirm(_ refused: SecretBytes) async {
    do throws(VaultFailure) {
      _ = try await client.request(.GET, "auth/token/lookup-self", token: refused)
    } catch {
      guard case .forbidden = error, token == refused else { return }
      schedule.refused(.lookupSelf, at: SystemTime.uptime, using: &random)
      logger.warning("store \(name): the server refuses the token; logging in again")
      bell.ring()
    }
  }

  private func login() async {
    do throws(VaultFailure) {
      let fresh = try await authenticate()
      token = fresh.secret
      lastFailure = nil
      schedule.loggedIn(
        at: SystemTime.uptime, ttl: fresh.ttl, renewable: fresh.renewable, batch: fresh.isBatch, using: &random)
      release()
      onLogin()
    } catch {
      let isNews = lastFailure != error
      lastFailure = error
      schedule.loginFailed(at: SystemTime.uptime, using: &random)
      if isNews, !Task.isCancelled { logger.warning("store \(name) (\(address)): login failed: \(error)") }
      release()
    }
  }

  private func renew() async {
    guard let token else { return }
    do throws(VaultFailure) {
      let reply = try await client.request(.POST, "auth/token/renew-self", token: token, body: Array("{}".utf8))
      let fresh = try VaultToken(login: reply)
      schedule.renewed(at: SystemTime.uptime, ttl: fresh.ttl)
      renewals.add()
    } catch {
      if case .forbidden = error {
        schedule.refused(.renewSelf, at: SystemTime.uptime, using: &random)
      } else {
        schedule.renewalFailed(at: SystemTime.uptime, using: &random)
      }
      logger.warning("store \(name) (\(address)): token renewal failed: \(error)")
    }
  }

  private func authenticate() async throws(VaultFailure) -> VaultToken {
    switch configuration.auth {
    case .tokenFile(let path): return try await lookUp(try Self.credential(.file(path), absolute))
    case .token(let template):
      guard let bytes = book.resolve(template) else {
        throw .credentials(book.reason(template) ?? "the token's secret is not there")
      }
      return try await lookUp(String(decoding: bytes, as: UTF8.self))
    case .approle(let mount, let roleID, let secretID):
      let role = try Self.credential(roleID, absolute)
      let secret = try Self.credential(secretID, absolute)
      let body = JSONNode.object([("role_id", .string(role)), ("secret_id", .string(secret))]).json
      return try VaultToken(
        login: await client.request(.POST, "auth/\(mount)/login", body: Array(body.utf8)))
    }
  }

  private func lookUp(_ text: String) async throws(VaultFailure) -> VaultToken {
    let token = SecretBytes(text)
    return try VaultToken(token, lookup: await client.request(.GET, "auth/token/lookup-self", token: token))
  }

  /// Files are read at every login and never deleted; spaces around the credential do not count.
  private static func credential(
    _ credential: VaultConfiguration.Credential, _ absolute: (String) -> String
  ) throws(VaultFailure) -> String {
    switch credential {
    case .literal(let text): return text
    case .file(let path):
      do throws(FileFailure) {
        let words = String(decoding: try PlainFile.read(absolute(path)), as: UTF8.self).split { $0.isWhitespace }
        guard words.count == 1 else {
          throw FileFailure("\(path) must hold one credential and nothing else")
        }
        return String(words[0])
      } catch {
        throw .credentials(error.description)
      }
    }
  }
}
