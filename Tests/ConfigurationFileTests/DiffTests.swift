import Logs
import Secrets
import Supervisor
import Testing
import Traffic
import Vocabulary

@testable import ConfigurationFile

@Suite struct DiffTests {
  private func diff(_ old: String, _ new: String) throws -> ConfigurationDiff {
    try Workspace.value(new).changes(from: Workspace.value(old))
  }

  @Test func equalConfigurationsChangeNothing() throws {
    let diff = try diff("app: { port: 1 }", "app:\n  port: 1\n")
    #expect(diff.isEmpty)
    #expect(diff.summary == "nothing")
    #expect(!diff.needsAppRestart && !diff.needsSidecarRestart)
  }

  @Test func listenersByName() throws {
    let diff = try diff(
      "outbound: { a: { listen: \":1\", to: \"http://x\" }, b: { listen: \":2\", to: \"http://y\" } }",
      "outbound: { a: { listen: \":1\", to: \"http://x\" }, c: { listen: \":2\", to: \"http://y\" } }")
    #expect(diff.summary == "outbound (b, c), clusters (b, c)")
    #expect(!diff.needsAppRestart)
  }

  @Test func appAndStateNeedRestarts() throws {
    #expect(try diff("", "app: { env: { A: b } }").needsAppRestart)
    #expect(try !diff("", "app: { stop: { grace: 1s } }").needsAppRestart)
    #expect(try diff("", "app: { stop: { grace: 1s } }").parts == [.app])
    #expect(try diff("", "threads: 3").needsSidecarRestart)
  }
}
