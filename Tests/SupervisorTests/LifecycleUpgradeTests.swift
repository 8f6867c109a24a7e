import Testing
import Vocabulary

@testable import Supervisor

@Suite struct LifecycleUpgradeTests {
  static let request = LifecycleMachine.Event.worker(.upgrade(binary: "/new", timeout: .seconds(20)))

  /// Up to where the new worker begins to serve.
  private func taking() -> Life {
    var life = Life(.ready)
    #expect(Life.words(life.on(Self.request)) == ["spawnCandidate /new"])
    #expect(Life.words(life.on(.candidate(.hello(version: FrameLimits.version)))) == [])
    #expect(Life.words(life.on(.candidate(.checked(product: "2")))) == ["handOver"])
    life.on(.candidate(.plan(AppPolicy(hasApp: true, drainTimeout: .seconds(5)))))
    #expect(Life.words(life.on(.candidate(.outboundReady))) == ["candidate openInbound"])
    return life
  }

  private func leaving() -> Life {
    var life = taking()
    #expect(Life.words(life.on(.candidate(.serving))) == ["promote", "former upgradeEnded", "former leave"])
    return life
  }

  @Test func theNewWorkerServesThenTheFormerLeavesThenTheSupervisorFollows() {
    var life = leaving()
    #expect(life.machine.upgrades.succeeded == 1)
    #expect(Life.words(life.on(Self.request)) == ["upgradeEnded"], "the former one still drains")
    #expect(Life.words(life.on(.formerExited(.code(0)))) == ["replaceSupervisor"])
    #expect(Life.words(life.wait(.seconds(60))) == ["forgetFormerBinary"])
    #expect(Life.words(life.on(Self.request)) == ["spawnCandidate /new"])
  }

  @Test func aFormerWorkerThatHangsIsKilled() {
    var life = leaving()
    #expect(Life.words(life.wait(.seconds(16))) == ["killFormer"])
  }

  @Test func beforeTheHandingOverAFailureTouchesNothing() {
    for failure in [
      [LifecycleMachine.Event.candidateExited(.code(1))],
      [.candidate(.hello(version: 99)), .candidateExited(.signal(9))],
      [.candidate(.fatal(exitCode: 78)), .candidateExited(.code(78))],
      [.candidateSpawnFailed("no such file")],
      [.candidateChannelEnded, .candidateExited(.signal(9))],
    ] {
      var life = Life(.ready)
      life.on(Self.request)
      let actions = failure.flatMap { life.on($0) }
      #expect(Life.words(actions).filter { $0 != "killCandidate" } == ["upgradeEnded"])
      #expect(life.machine.upgrade == .none)
      #expect(life.machine.upgrades.failed == 1)
      #expect(life.machine.worker == .prepared)
    }
  }

  @Test func aNewWorkerThatHangsIsKilledAtTheDeadline() {
    var life = Life(.ready)
    life.on(Self.request)
    #expect(Life.words(life.wait(.seconds(21))) == ["killCandidate"])
    #expect(Life.words(life.on(.candidateExited(.signal(9)))) == ["upgradeEnded"])
  }

  @Test func afterTheHandingOverThePresentBinaryTakesOver() {
    var life = taking()
    #expect(Life.words(life.wait(.seconds(11))) == ["killCandidate"])
    #expect(Life.words(life.on(.candidateExited(.signal(9)))) == ["spawnCandidate "])
    life.on(.candidate(.hello(version: FrameLimits.version)))
    #expect(Life.words(life.on(.candidate(.checked(product: "1")))) == ["handOver"])
    life.on(.candidate(.outboundReady))
    #expect(Life.words(life.on(.candidate(.serving))) == ["promote back", "former upgradeEnded", "former leave"])
    #expect(life.machine.upgrades.failed == 1 && life.machine.upgrades.succeeded == 0)
    #expect(Life.words(life.on(.formerExited(.code(0)))) == [], "the supervisor's program stays")
  }

  @Test func whenTheWayBackFailsTheWorkerIsStartedAnew() {
    var life = taking()
    life.on(.candidateExited(.code(1)))
    #expect(Life.words(life.on(.candidateExited(.code(1)))) == ["killWorker"])
    #expect(Life.words(life.on(.workerExited(.signal(9)))) == ["spawnWorker"])
  }

  @Test func aNewWorkerThatDiesSoonBringsTheFormerBinaryBack() {
    var life = leaving()
    life.wait(.seconds(2))
    #expect(Life.words(life.on(.workerExited(.signal(11)))) == ["useFormerBinary", "spawnWorker"])
    #expect(life.machine.upgrades.reverted == 1)
    #expect(Life.words(life.on(.formerExited(.code(0)))) == [])
    life = leaving()
    life.on(.formerExited(.code(0)))
    life.wait(.seconds(31))
    #expect(Life.words(life.on(.workerExited(.signal(11)))) == ["spawnWorker"])
  }

  @Test func aStopWaitsForTheChangeOfPlaces() {
    var life = taking()
    #expect(Life.words(life.on(.signal(15))) == [])
    let actions = life.on(.candidate(.serving))
    #expect(
      Life.words(actions) == ["promote", "former upgradeEnded", "former leave", "draining", "closeInbound"])
    #expect(Life.words(life.on(.worker(.inboundDrained))) == [], "the former one has requests left")
    #expect(Life.words(life.on(.formerExited(.code(0)))) == ["signal 15"])
  }

  @Test func aStopEndsAnUpgradeThatHasNotBegun() {
    var life = Life(.ready)
    life.on(Self.request)
    #expect(Life.words(life.on(.signal(15))) == ["killCandidate", "draining", "closeInbound"])
    #expect(Life.words(life.on(.candidateExited(.signal(9)))) == ["upgradeEnded"])
  }

  @Test func theAppsEndDuringTheChangeIsSeenAfterIt() {
    var life = taking()
    #expect(Life.words(life.on(.appExited(.code(3), groupRemains: false))) == [])
    #expect(Life.words(life.on(.candidate(.serving))).contains("appExited"))
    #expect(life.machine.isStopping)
  }

  @Test func theAppThatTheFormerWorkerShouldStartIsStartedByTheNewOne() {
    var life = Life(.ready, AppPolicy(hasApp: true, restart: .always))
    life.on(.appExited(.code(3), groupRemains: false))
    life.on(Self.request)
    life.on(.candidate(.hello(version: FrameLimits.version)))
    life.on(.candidate(.checked(product: "2")))
    #expect(Life.words(life.wait(.seconds(2))) == ["prepareApp"])
    life.on(.candidate(.outboundReady))
    #expect(
      Life.words(life.on(.candidate(.serving))) == ["promote", "prepareApp", "former upgradeEnded", "former leave"])
  }

  @Test func whatAnUpgradeWaitsForIsSaid() {
    var life = taking()
    life.on(.candidate(.waiting(for: "vault")))
    #expect(
      Life.lines(life.wait(.seconds(6))) == ["waiting for the new worker of an upgrade to serve (vault; 5 s left)"])
    life.on(.candidate(.serving))
    #expect(
      Life.lines(life.wait(.seconds(6))).contains { $0.hasPrefix("waiting for the former worker to drain (") })
  }

  @Test func whenThePresentWorkerDiesTheNewOneGoesOn() {
    var life = taking()
    #expect(Life.words(life.on(.workerExited(.signal(9)))) == ["promote", "openInbound"])
    #expect(life.machine.state == .ready && life.machine.isQuiet)
  }

  @Test(arguments: [true, false]) func soDoesOneThatIsNotPreparedYet(saidBefore: Bool) {
    var life = Life(.ready)
    life.on(Self.request)
    life.on(.candidate(.hello(version: FrameLimits.version)))
    life.on(.candidate(.checked(product: "2")))
    #expect(Life.words(life.on(.workerExited(.signal(9)))) == ["promote"])
    #expect(!life.machine.isQuiet)
    // It may have been said on the channel that it had before.
    #expect(
      Life.words(life.on(saidBefore ? .candidate(.outboundReady) : .worker(.outboundReady))) == ["openInbound"])
    #expect(life.machine.isQuiet)
  }

  @Test func nothingIsTriedWhileTheWorkerOrTheAppStarts() {
    for stage in [Life.Stage.planned, .requested] {
      var life = Life(stage)
      #expect(Life.words(life.on(Self.request)) == ["upgradeEnded"])
      #expect(life.machine.upgrades == UpgradeCounts())
    }
  }
}
