import Glibc
import NIOPosix
import Telemetry
import Testing
import Vocabulary

@testable import SecretAgent
@testable import Secrets

/// One agent hands over to the next.
struct SecretReloadTests {
  let folder = Folder()
  let actions = Actions()
  var store: String { folder.path + "/secrets.age" }
  var identity: String { folder.path + "/identity.txt" }

  private func configuration(_ names: [String], files: [String: String]) -> SecretsConfiguration {
    var configuration = SecretsConfiguration()
    configuration.stores = [
      SecretStoreConfiguration(name: "age", kind: .age(file: "secrets.age", identity: "identity.txt"))
    ]
    configuration.values = names.map { name in
      var value = SecretValueConfiguration(name: name, store: "age", source: .key(name))
      value.onChange = [.signal(name == "db" ? 10 : 12)]
      return value
    }
    configuration.files = files.sorted { $0.key < $1.key }.map { path, name in
      var file = SecretFileConfiguration(
        path: path, content: SecretTemplate(parts: [.secret(SecretReference(name: name, field: "value"))]))
      file.onChange = [.signal(1)]
      return file
    }
    return configuration
  }

  private func agent(
    _ configuration: SecretsConfiguration, _ inheritance: SecretInheritance? = nil, metrics: MetricRegistry = .init()
  ) -> SecretAgent {
    SecretAgent(
      configuration: configuration, baseDirectory: folder.path, metrics: metrics,
      group: MultiThreadedEventLoopGroup.singleton, logger: LogLines().logger, inheritance: inheritance,
      timings: .quick
    ) { [actions] in actions.take($0) }
  }

  private func fill() throws {
    try AgeStoreEditor.initialize(file: store, identity: identity)
    try AgeStoreEditor.set("db", "value", "one", file: store, identity: identity)
    try AgeStoreEditor.set("api", "value", "key", file: store, identity: identity)
  }

  @Test func aValueAndAFileComeAndOthersGo() async throws {
    try fill()
    let metrics = MetricRegistry()
    let first = agent(configuration(["db"], files: ["db.conf": "db", "old.conf": "db"]), metrics: metrics)
    try await first.start()
    let next = agent(
      configuration(["api", "db"], files: ["db.conf": "db", "api.conf": "api"]), await first.handOver())
    try await next.succeed(within: .seconds(5))
    #expect(folder.read("db.conf") == "one" && folder.read("api.conf") == "key" && folder.read("old.conf") == nil)
    #expect(next.book === first.book)
    #expect(
      await eventually { Set(actions.all) == [.signal(12), .signal(1)] }, "of the new value and the new file only")
    #expect(next.status().map(\.name) == ["api", "db"])
    try AgeStoreEditor.set("db", "value", "two", file: store, identity: identity)
    #expect(await eventually { folder.read("db.conf") == "two" && actions.all.contains(.signal(10)) })

    let last = agent(configuration(["api"], files: [:]), await next.handOver())
    try await last.succeed(within: .seconds(5))
    #expect(folder.read("db.conf") == nil && folder.read("api.conf") == nil)
    #expect(last.status().map(\.name) == ["api"])
    #expect(
      last.book.redactions().contains { $0.value == Array("two".utf8) }, "the app may still print what it once had")
    await last.stop()
  }

  @Test func whatFailsLeavesTheFormerInUse() async throws {
    try fill()
    let before = configuration(["db"], files: ["db.conf": "db"])
    let first = agent(before)
    try await first.start()
    let inheritance = await first.handOver()
    // The first file would do, the second has no directory.
    let broken = agent(configuration(["api", "db"], files: ["a.conf": "api", "none/b.conf": "db"]), inheritance)
    await #expect(throws: FileFailure.self) { try await broken.succeed(within: .seconds(5)) }
    #expect(folder.read("a.conf") == nil, "nothing of the attempt stays")
    var moved = before
    moved.values[0].source = .key("api")
    moved.files.append(
      SecretFileConfiguration(
        path: "c.conf", content: SecretTemplate(parts: [.secret(SecretReference(name: "db", field: "none"))])))
    let other = agent(moved, inheritance)
    await #expect(throws: SecretStartError.self) { try await other.succeed(within: .seconds(5)) }
    #expect(first.book.fields("db") == ["value": SecretBytes("one")], "the value of the former configuration")

    let again = agent(before, inheritance)
    await again.resume()
    #expect(folder.read("db.conf") == "one")
    #expect(actions.all.isEmpty)
    try AgeStoreEditor.set("db", "value", "two", file: store, identity: identity)
    #expect(await eventually { folder.read("db.conf") == "two" })
    await again.stop()
    #expect(folder.read("db.conf") == nil)
  }

  @Test func resumingNeedsNoStore() async throws {
    try fill()
    let before = configuration(["db"], files: ["db.conf": "db"])
    let first = agent(before)
    try await first.start()
    let inheritance = await first.handOver()
    try folder.write("secrets.age", "garbage")
    let again = agent(before, inheritance)
    await again.resume()
    #expect(again.book.fields("db") == ["value": SecretBytes("one")])
    #expect(folder.read("db.conf") == "one")
    await again.stop()
  }

  @Test func aChangeThatIsNotDeliveredYetIsDeliveredByTheNext() async throws {
    try fill()
    let failing = Actions(failures: 1000)
    let before = configuration(["db"], files: ["db.conf": "db"])
    var slow = AgentTimings.quick
    slow.retry = .seconds(3600)
    let first = makeAgent(before, folder, actions: failing, timings: slow)
    try await first.start()
    try AgeStoreEditor.set("db", "value", "two", file: store, identity: identity)
    #expect(await eventually { failing.all.count == 2 })
    let next = agent(before, await first.handOver())
    try await next.succeed(within: .seconds(5))
    #expect(await eventually { Set(actions.all) == [.signal(10), .signal(1)] })
    await next.stop()
  }
}
