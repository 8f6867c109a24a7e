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

  @Test func whatTheDiffDoesNotNameIsStillAChange() throws {
    let old = try Workspace.value("")
    var new = old
    new.traffic.watermark = 1
    let diff = new.changes(from: old)
    #expect(diff.parts == [.other] && diff.touches(.inbound), "everything is applied")
    #expect(!new.changes(from: new).touches(.inbound))
  }

  @Test func whatWaitsForANewProcessStaysAsItWas() throws {
    let old = try Workspace.value("threads: 2\nlogs: { spool: { path: /a, limit: 1MiB } }")
    let new = try Workspace.value("threads: 3\nstate: /b\nlogs: { spool: { path: /b, limit: 2MiB } }")
    #expect(new.changes(from: old).waitsForProcess == ["threads", "logs.spool.path"])
    let kept = new.keepingProcess(of: old)
    #expect(kept.changes(from: old).parts == [.spool] && kept.logs.spool.limit == 2 << 20)
    #expect(!kept.changes(from: old).needsSidecarRestart)
  }
}

@Suite struct SocketChangesTests {
  private let web = Seat.Owner.listener(ListenerID(.inbound, "web"))
  private let out = Seat.Owner.listener(ListenerID(.outbound, "web"))

  private func seat(_ owner: Seat.Owner, _ text: String) throws -> Seat { Seat(owner, try #require(Address(text))) }

  @Test func socketsComeGoAndStay() throws {
    let (a, b, c) = try (seat(web, "127.0.0.1:1"), seat(web, "127.0.0.1:2"), seat(out, "127.0.0.1:3"))
    let changes = SocketChanges(from: [a, b], to: [b, c])
    #expect(changes.opened == [c] && changes.closed == [a] && changes.released == [a.address])
    #expect(changes.releasedFirst == [])
    #expect(SocketChanges(from: [a], to: [a]) == SocketChanges(from: [], to: []))
  }

  @Test func anAddressChangesHandsWithoutBeingReleased() throws {
    let (before, after) = try (seat(web, ":1"), seat(.admin, ":1"))
    let changes = SocketChanges(from: [before], to: [after])
    #expect(changes.opened == [after] && changes.closed == [before] && changes.released == [])
  }

  @Test func theSamePortInAnotherSpellingGoesFirst() throws {
    let (all, one) = try (seat(web, ":80"), seat(web, "127.0.0.1:80"))
    #expect(SocketChanges(from: [all], to: [one]).releasedFirst == [all.address])
    #expect(SocketChanges(from: [one], to: [all]).releasedFirst == [one.address])
  }

  @Test func theSeatsOfAConfiguration() throws {
    let value = try Workspace.value(
      "app: { port: 9 }\ninbound: { web: { listen: [\":1\", \":2\"] } }\n"
        + "outbound: { web: { listen: \":3\", to: \"http://x\" } }\nadmin: { listen: false }")
    #expect(
      value.listenerSeats.map { "\($0.owner) \($0.address)" } == [
        "outbound.web :3", "inbound.web :1", "inbound.web :2",
      ])
    #expect(value.adminSeats.map { "\($0.address)" } == ["unix:/state/outrider.sock"])
  }
}
