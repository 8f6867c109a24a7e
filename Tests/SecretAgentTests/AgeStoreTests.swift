import Glibc
import Telemetry
import Testing
import Vocabulary

@testable import SecretAgent
@testable import Secrets

struct AgeStoreTests {
  let folder = Folder()
  var store: String { folder.path + "/secrets.age" }
  var identity: String { folder.path + "/identity.txt" }

  private func configuration(_ files: [SecretFileConfiguration] = []) -> SecretsConfiguration {
    var configuration = SecretsConfiguration()
    configuration.stores = [
      SecretStoreConfiguration(name: "age", kind: .age(file: "secrets.age", identity: "identity.txt"))
    ]
    configuration.files = files
    return configuration
  }

  private func file(_ path: String, _ name: String, _ field: String) -> SecretFileConfiguration {
    SecretFileConfiguration(
      path: path, content: SecretTemplate(parts: [.literal("p="), .secret(SecretReference(name: name, field: field))]))
  }

  @Test func theEditorMakesChangesAndListsAStore() throws {
    let key = try AgeStoreEditor.initialize(file: store, identity: identity)
    #expect(PlainFile.mode(identity) == 0o600 && PlainFile.mode(store) == 0o600)
    #expect(folder.read("identity.txt")?.contains("# public key: \(key)\n") == true)
    #expect(throws: FileFailure.self) { try AgeStoreEditor.initialize(file: store, identity: identity) }
    try AgeStoreEditor.set("db", "password", "s3cret", file: store, identity: identity)
    try AgeStoreEditor.set("db", "user", "app", file: store, identity: identity)
    #expect(try AgeStoreEditor.get("db", "password", file: store, identity: identity) == "s3cret")
    let list = try AgeStoreEditor.list(file: store, identity: identity)
    #expect(list.map(\.name) == ["db"] && list.map(\.fields) == [["password", "user"]])
    let error = #expect(throws: FileFailure.self) { try AgeStoreEditor.get("db", "x", file: store, identity: identity) }
    #expect(error?.description.contains("`user`") == true)
    #expect(try PlainFile.list(folder.path) == ["identity.txt", "secrets.age"])
  }

  @Test func aStoreForMoreRecipientsIsNotRewrittenForOne() throws {
    try AgeStoreEditor.initialize(file: store, identity: identity)
    let mine = try AgeIdentity.list(try PlainFile.read(identity), name: "x").compactMap(\.recipient)
    let other = try #require(AgeIdentity.generate().recipient)
    try PlainFile.replace(store, try AgeFile.seal(Array("a: b".utf8), to: mine + [other]), mode: 0o600)
    #expect(throws: FileFailure.self) { try AgeStoreEditor.set("a", "value", "c", file: store, identity: identity) }
    #expect(try AgeStoreEditor.get("a", file: store, identity: identity) == "b")
    try folder.write("identity.txt", (folder.read("identity.txt") ?? "") + "# recipient: \(other.text)\n")
    try AgeStoreEditor.set("a", "value", "c", file: store, identity: identity)
    #expect(try AgeStoreEditor.get("a", file: store, identity: identity) == "c")
  }

  @Test func editsAreCheckedAndKeysRotate() throws {
    let first = try AgeStoreEditor.initialize(file: store, identity: identity)
    let old = try AgeIdentity.list(try PlainFile.read(identity), name: "x")
    let text = Array("# kept\ndb: one\n".utf8)
    try AgeStoreEditor.replace(text, file: store, identity: identity)
    #expect(throws: FileFailure.self) {
      try AgeStoreEditor.replace(Array("db: [1]".utf8), file: store, identity: identity)
    }
    let second = try AgeStoreEditor.rotateKey(file: store, identity: identity)
    #expect(first != second)
    #expect(try AgeStoreEditor.plaintext(file: store, identity: identity) == text)
    #expect(throws: AgeError.noMatch) { try AgeFile.open(try PlainFile.read(store), old) }
    #expect(PlainFile.mode(identity) == 0o600)
  }

  @Test func theRealAgeReadsOursAndWeReadItsFiles() throws {
    let program = "/usr/bin/age"
    guard access(program, X_OK) == 0 else {
      print("skipped: \(program) is not installed (Debian package age)")
      return
    }
    let key = try AgeStoreEditor.initialize(file: store, identity: identity)
    try AgeStoreEditor.set("db", "password", "s3cret", file: store, identity: identity)
    let plain = folder.path + "/plain"
    #expect(try run(program, ["-d", "-i", identity, "-o", plain, store]) == 0)
    #expect(folder.read("plain") == "db:\n  password: \"s3cret\"\n")
    for arguments in [[], ["-a"]] {
      try folder.write("plain", "db: {}\n".replacing("{}", with: "new"))
      #expect(try run(program, arguments + ["-e", "-r", key, "-o", store, plain]) == 0)
      #expect(try AgeStoreEditor.get("db", file: store, identity: identity) == "new")
    }
    let big = String(repeating: "x", count: 200_000)
    try AgeStoreEditor.set("big", "value", big, file: store, identity: identity)
    #expect(try run(program, ["-d", "-i", identity, "-o", plain, store]) == 0)
    #expect(folder.read("plain")?.contains(big) == true)
  }

  @Test func valuesReachFilesAndFollowTheStore() async throws {
    try AgeStoreEditor.initialize(file: store, identity: identity)
    try AgeStoreEditor.set("db", "password", "one", file: store, identity: identity)
    var delivered = file("out/db.conf", "db", "password")
    delivered.onChange = [.signal(1), .restart]
    delivered.mode = 0o640
    mkdir(folder.path + "/out", 0o700)
    let actions = Actions(failures: 2)
    let metrics = MetricRegistry()
    let agent = makeAgent(configuration([delivered]), folder, actions: actions, metrics: metrics)
    try await agent.start()
    #expect(folder.read("out/db.conf") == "p=one")
    #expect(PlainFile.mode(folder.path + "/out/db.conf") == 0o640)
    #expect(actions.all.isEmpty, "the first delivery is no change")

    try AgeStoreEditor.set("db", "password", "two", file: store, identity: identity)
    #expect(await eventually { folder.read("out/db.conf") == "p=two" && actions.all.count == 4 })
    #expect(Set(actions.all) == [.signal(1), .restart], "two failures, each tried again")
    #expect(Set(agent.book.redactions().map { String(decoding: $0.value, as: UTF8.self) }) == ["two"])

    unlink(folder.path + "/out/db.conf")
    #expect(await eventually { folder.read("out/db.conf") == "p=two" })

    try folder.write("secrets.age", "garbage")
    #expect(await eventually { agent.status().first?.lastError != nil })
    #expect(folder.read("out/db.conf") == "p=two", "last good kept")
    #expect(metrics.prometheusText().contains("outrider_secret_fetches_total{secret=\"db\"} 2"))
    await agent.stop()
    #expect(folder.read("out/db.conf") == nil)
    #expect(agent.book.names.isEmpty)
  }

  @Test func whatWaitingCannotHealEndsTheStart() async throws {
    try AgeStoreEditor.initialize(file: store, identity: identity)
    try AgeStoreEditor.set("db", "password", "hunter2", file: store, identity: identity)
    func message(_ configuration: SecretsConfiguration) async -> String {
      do {
        try await makeAgent(configuration, folder).start()
        return ""
      } catch {
        return "\(error)"
      }
    }
    let missingField = await message(configuration([file("f", "db", "pass")]))
    #expect(missingField.contains("no field `pass`") && missingField.contains("`password`"))
    #expect(await message(configuration([file("nowhere/f", "db", "password")])).contains("does not exist"))
    var unknown = configuration()
    unknown.values = [SecretValueConfiguration(name: "x", store: "age", source: .key("api"))]
    #expect(await message(unknown).contains("no secret `api`; it holds `db`"))
    unlink(identity)
    #expect(await message(configuration()).contains("identity.txt does not exist"))
    try folder.write("identity.txt", AgeIdentity.generate().text)
    #expect(await message(configuration()).contains("none of the identities in \(identity) opens \(store)"))
    unlink(store)
    #expect(await message(configuration()).contains("secrets.age does not exist"))
  }

  @Test func anIdentityThatOthersCanReadIsWarnedOf() async throws {
    try AgeStoreEditor.initialize(file: store, identity: identity)
    chmod(identity, 0o644)
    let log = LogLines()
    let agent = makeAgent(configuration(), folder, log: log)
    try await agent.start()
    await agent.stop()
    #expect(log.text.contains("chmod 600"))
  }

  @Test func directoriesAndTheEnvironmentAreStores() async throws {
    mkdir(folder.path + "/k8s", 0o700)
    mkdir(folder.path + "/k8s/..data", 0o700)
    mkdir(folder.path + "/k8s/db", 0o700)
    try folder.write("k8s/db/user", "app")
    try folder.write("k8s/..data/token", "t1")
    symlink("..data/token", folder.path + "/k8s/token")
    var configuration = SecretsConfiguration()
    configuration.stores = [
      SecretStoreConfiguration(name: "dir", kind: .directory("k8s")),
      SecretStoreConfiguration(name: "env", kind: .environment),
    ]
    configuration.values = [
      SecretValueConfiguration(name: "db", store: "dir", source: .key("db")),
      SecretValueConfiguration(name: "token", store: "dir", source: .key("token")),
      SecretValueConfiguration(name: "path", store: "env", source: .key("PATH")),
    ]
    let agent = makeAgent(configuration, folder)
    try await agent.start()
    #expect(agent.book.fields("db") == ["user": SecretBytes("app")])
    #expect(agent.book.fields("token") == ["value": SecretBytes("t1")])
    #expect((agent.book.fields("path")?["value"]?.count ?? 0) > 0)
    try folder.write("k8s/..data/token", "t2")
    #expect(await eventually { agent.book.fields("token") == ["value": SecretBytes("t2")] })
    await agent.stop()

    configuration.values = []
    let all = makeAgent(configuration, folder)
    try await all.start()
    #expect(all.book.names == ["db", "token"], "every name of the directory, nothing of the environment")
    try folder.write("k8s/new", "n")
    #expect(await eventually { all.book.names == ["db", "new", "token"] })
    await all.stop()
  }
}
