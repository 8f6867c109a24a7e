import Testing
import Vocabulary

@testable import Supervisor

@Suite struct LifecycleStartTests {
  @Test func theAppStartsAfterOutboundAndInboundOpensAfterTheApp() {
    let life = Life(.ready)
    #expect(Life.words(life.done) == ["spawnWorker", "prepareApp", "spawnApp", "announce", "openInbound"])
    #expect(
      life.done.compactMap { if case .send(.state(let state)) = $0 { state.rawValue } else { nil } } == [
        "secrets-ready", "outbound-ready", "app-starting", "ready",
      ])
  }

  @Test func withoutAnAppOutboundMakesItReady() {
    var life = Life(.requested, AppPolicy(hasApp: false))
    #expect(Life.words(life.done) == ["spawnWorker", "openInbound"])
    #expect(life.machine.state == .ready)
    #expect(Life.words(life.on(.signal(15))) == ["draining", "closeInbound"])
    #expect(Life.words(life.on(.worker(.inboundDrained))) == ["finish"])
    #expect(Life.words(life.on(.worker(.flushed))) == ["closeChannel"])
    #expect(Life.words(life.on(.workerExited(.code(0)))) == ["exit 0"])
  }

  @Test func readinessByDescriptorCounts() {
    var life = Life(.starting)
    #expect(Life.words(life.on(.appReadyByDescriptor)) == ["appReadyByDescriptor", "openInbound"])
    #expect(life.machine.state == .ready)
  }

  @Test func readinessComesAndGoes() {
    var life = Life(.degraded)
    #expect(life.machine.state == .degraded)
    #expect(Life.words(life.on(.worker(.appReady(true, reason: "")))) == [])
    #expect(life.machine.state == .ready)
  }

  @Test(arguments: [Int32(126), 127]) func anAppThatCannotStartEndsTheRun(code: Int32) {
    var life = Life(.requested)
    life.on(.worker(.startApp(Life.spec)))
    let actions = life.on(.appSpawnFailed(code: code, message: "no such file"))
    #expect(Life.words(actions) == ["draining", "finish"])
    #expect(Life.lines(actions).first == "no such file")
    life.on(.worker(.flushed))
    life.on(.workerExited(.code(0)))
    #expect(life.exitCode == code)
  }

  @Test func aWorkerOfAnotherVersionEndsTheRun() {
    var life = Life(.started)
    life.on(.worker(.hello(version: 9)))
    life.wait(.seconds(5))
    #expect(life.exitCode == 70)
  }

  @Test func everyWaitSpeaksEveryFiveSeconds() {
    var life = Life(.planned)
    life.on(.worker(.waiting(for: "vault at https://vault:8200")))
    let lines = Life.lines(life.wait(.seconds(11)))
    #expect(lines == Array(repeating: "waiting for secrets and outbound (vault at https://vault:8200)", count: 2))
    life = Life(.starting)
    life.on(.worker(.appReady(false, reason: "connection refused")))
    #expect(Life.lines(life.wait(.seconds(6))) == ["waiting for the app to become ready (connection refused)"])
    life = Life(.ready)
    #expect(Life.lines(life.wait(.seconds(60))) == [])
  }

  @Test func signalsReachTheAppOrTheWorker() {
    var life = Life(.ready)
    for number in [Int32(3), 10, 12, 28] {
      #expect(life.on(.signal(number)) == [.signalGroup(pid: 100, signal: number)])
    }
    #expect(life.on(.signal(1)) == [.send(.reload), .hangUpApp(pid: 100)])
    #expect(life.on(.worker(.actionSignal(12))) == [.signalGroup(pid: 100, signal: 12)])
  }
}

@Suite struct LifecycleReplacementTests {
  @Test func aDeadWorkerIsReplacedAndTheAppGoesOn() {
    var life = Life(.ready)
    #expect(Life.words(life.on(.workerExited(.signal(9)))) == ["spawnWorker"])
    #expect(Life.words(life.on(.worker(.hello(version: 1)))) == ["inherit"])
    #expect(Life.words(life.on(.worker(.outboundReady))) == ["openInbound"])
    #expect(life.machine.state == .ready)
  }

  @Test func workersComeBackWithBackoff() {
    var life = Life(.ready)
    var delays: [Int64] = []
    for _ in 0..<9 {
      life.on(.workerExited(.signal(11)))
      let died = life.now
      while life.machine.worker != .starting, let next = life.machine.nextDeadline {
        life.now = next
        life.on(.tick)
      }
      delays.append((life.now - died).inMilliseconds)
    }
    #expect(delays == [0, 100, 200, 400, 800, 1600, 3200, 5000, 5000])
    life.now += .seconds(60)
    #expect(Life.words(life.on(.workerExited(.signal(11)))) == ["spawnWorker"])
  }

  @Test func oneThatServedForASecondIsReplacedAtOnce() {
    var life = Life(.ready)
    func delay(serving time: Duration) -> Int64 {
      life.on(.worker(.hello(version: 1)))
      life.on(.worker(.outboundReady))
      life.now += time
      life.on(.workerExited(.signal(9)))
      let died = life.now
      while life.machine.worker != .starting, let next = life.machine.nextDeadline {
        life.now = next
        life.on(.tick)
      }
      return (life.now - died).inMilliseconds
    }
    #expect((0..<20).map { _ in delay(serving: .seconds(1)) } == Array(repeating: 0, count: 20))
    #expect((0..<4).map { _ in delay(serving: .milliseconds(900)) } == [100, 200, 400, 800])
    #expect(delay(serving: .seconds(2)) == 0)
  }

  @Test func aConfigurationErrorEndsTheRunOnlyBeforeTheFirstReady() {
    var early = Life(.hello)
    early.on(.workerExited(.code(78)))
    #expect(early.exitCode == 78)
    var late = Life(.ready)
    #expect(Life.words(late.on(.workerExited(.code(78)))) == ["spawnWorker"])
  }

  @Test func aFatalWorkerEndsTheRunAndTheAppIsStoppedFirst() {
    var life = Life(.starting)
    #expect(Life.words(life.on(.worker(.fatal(exitCode: 73)))) == ["draining", "signal 15"])
    life.on(.workerExited(.code(1)))
    #expect(life.exitCode == nil)
    life.on(.appExited(.signal(15), groupRemains: false))
    #expect(life.exitCode == 73)
  }

  @Test func aWorkerThatClosedItsChannelIsKilledAfterASecond() {
    var life = Life(.ready)
    life.on(.channelEnded)
    #expect(Life.words(life.wait(.milliseconds(999))) == [])
    #expect(Life.words(life.wait(.milliseconds(1))) == ["killWorker"])
    #expect(Life.words(life.on(.workerExited(.signal(9)))) == ["spawnWorker"])
    #expect(Life.words(life.wait(.seconds(4))) == [])
  }

  @Test func policiesOfRestart() {
    for (policy, exit, restarts) in [
      (AppConfiguration.Restart.never, ProcessExit.code(1), false), (.onFailure, .code(0), false),
      (.onFailure, .code(1), true), (.onFailure, .signal(11), true), (.always, .code(0), true),
    ] {
      var life = Life(.ready, AppPolicy(hasApp: true, restart: policy))
      life.on(.appExited(exit, groupRemains: false))
      #expect(life.machine.isStopping != restarts, "\(policy) \(exit)")
    }
  }

  @Test func restartsWaitLongerUpToAMinuteAndForgetAfterTenMinutes() {
    var life = Life(.ready, AppPolicy(hasApp: true, restart: .always))
    var delays: [Duration] = []
    for round in 0..<40 {
      life.on(.appExited(.code(1), groupRemains: false))
      guard case .waiting(let until) = life.machine.app else {
        Issue.record("no restart")
        return
      }
      delays.append(until - life.now)
      #expect(until - life.now <= .seconds(1 << min(round, 6)) && until - life.now <= .seconds(60))
      #expect(Life.words(life.wait(until - life.now)) == ["prepareApp"])
      life.on(.worker(.startApp(Life.spec)))
      life.on(.appSpawned(pid: 100))
    }
    #expect(delays.max().map { $0 > .seconds(30) } == true)
    #expect(Set(delays).count > 30)
    #expect(life.machine.restarts == 40)
    life.wait(.seconds(600))
    life.on(.appExited(.code(1), groupRemains: false))
    guard case .waiting(let until) = life.machine.app else {
      Issue.record("no restart")
      return
    }
    #expect(until - life.now <= .seconds(1))
  }

  @Test func aSecretsRestartStopsAndStartsWhateverThePolicy() {
    var life = Life(.ready)
    #expect(Life.words(life.on(.worker(.actionRestart))) == ["signal 15"])
    #expect(Life.words(life.wait(.seconds(31))) == ["signal 9"])
    #expect(Life.words(life.on(.appExited(.signal(9), groupRemains: false))) == ["appExited", "prepareApp"])
    life.on(.worker(.startApp(Life.spec)))
    life.on(.appSpawned(pid: 101))
    life.on(.worker(.appReady(true, reason: "")))
    #expect(life.machine.state == .ready)
  }

  @Test func anAppsRestartWaitsForTheNewWorker() {
    var life = Life(.ready, AppPolicy(hasApp: true, restart: .always))
    life.on(.workerExited(.signal(9)))
    life.on(.appExited(.code(1), groupRemains: false))
    #expect(Life.words(life.wait(.seconds(30))) == [])
    life.on(.worker(.hello(version: 1)))
    #expect(Life.words(life.on(.worker(.outboundReady))) == ["openInbound", "prepareApp"])
  }
}
