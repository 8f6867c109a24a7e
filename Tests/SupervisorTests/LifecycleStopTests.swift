import Resilience
import Testing

@testable import Supervisor

@Suite struct LifecycleStopTests {
  @Test func oneOrder() {
    var life = Life(.ready, AppPolicy(hasApp: true, drainDelay: .seconds(5)))
    #expect(Life.words(life.on(.signal(15))) == ["draining"])
    #expect(Life.words(life.wait(.milliseconds(4999))) == [])
    #expect(Life.words(life.wait(.milliseconds(1))) == ["closeInbound"])
    #expect(Life.words(life.on(.worker(.inboundDrained))) == ["signal 15"])
    #expect(Life.words(life.on(.appExited(.code(4), groupRemains: false))) == ["appExited", "finish"])
    #expect(Life.words(life.on(.worker(.flushed))) == ["closeChannel"])
    #expect(Life.words(life.on(.workerExited(.code(0)))) == ["exit 4"])
    #expect(life.machine.state == .exit)
    #expect(life.on(.signal(15)) == [])
  }

  @Test func theAppIsKilledAtTheEndOfItsGraceWithALine() {
    var life = Life(.ready, AppPolicy(hasApp: true, stopSignal: 3, stopGrace: .seconds(7)))
    life.on(.signal(15))
    #expect(Life.words(life.on(.worker(.inboundDrained))) == ["signal 3"])
    let actions = life.wait(.seconds(7))
    #expect(Life.words(actions) == ["signal 9"])
    #expect(Life.lines(actions).last == "cut: the app (pid 100) did not end in time after SIGQUIT: sent SIGKILL")
  }

  @Test(arguments: [(ProcessExit.code(0), Int32(0)), (.code(42), 42), (.signal(6), 134), (.signal(9), 137)])
  func theAppsOwnExitEndsTheRunWithItsCode(exit: ProcessExit, code: Int32) {
    var life = Life(.ready, AppPolicy(hasApp: true, drainDelay: .seconds(30)))
    #expect(Life.words(life.on(.appExited(exit, groupRemains: false))) == ["appExited", "draining", "closeInbound"])
    #expect(Life.words(life.on(.worker(.inboundDrained))) == ["finish"])
    life.on(.worker(.flushed))
    life.on(.workerExited(.code(0)))
    #expect(life.exitCode == code)
  }

  /// Nobody answers anything but SIGKILL: the run still ends, by its deadline.
  @Test(arguments: Life.Stage.allCases) func termEndsEveryState(stage: Life.Stage) {
    var life = Life(stage, AppPolicy(hasApp: true, restart: .always, drainDelay: .seconds(3)))
    let start = life.now
    var seen = life.done.count
    life.on(.signal(15))
    while life.exitCode == nil, let next = life.machine.nextDeadline, next < start + .seconds(100) {
      life.now = max(life.now, next)
      life.on(.tick)
      let fresh = life.done[seen...]
      seen = life.done.count
      if fresh.contains(.signalGroup(pid: 100, signal: 9)) { life.on(.appExited(.signal(9), groupRemains: false)) }
    }
    #expect(life.exitCode != nil)
    #expect(life.now - start <= .milliseconds(61_000))
  }

  @Test func stoppedBeforeTheAppStarted() {
    var life = Life(.planned)
    #expect(Life.words(life.on(.signal(15))) == ["draining", "finish"])
    life.on(.worker(.startApp(Life.spec)))
    life.on(.worker(.flushed))
    life.on(.workerExited(.code(0)))
    #expect(life.exitCode == 143)
    #expect(!Life.words(life.done).contains("spawnApp"))
  }

  @Test func ctrlCTwiceForces() {
    var life = Life(.ready, AppPolicy(hasApp: true, drainDelay: .seconds(30)))
    #expect(Life.words(life.on(.signal(2))) == ["draining"])
    #expect(Life.words(life.on(.signal(2))) == ["signal 9"])
    #expect(Life.words(life.on(.appExited(.signal(9), groupRemains: false))) == ["appExited", "finish"])
    #expect(Life.words(life.wait(.seconds(2))) == ["closeChannel"])
    #expect(Life.words(life.wait(.seconds(1))) == ["killWorker", "exit 137"])
    life = Life(.ready)
    for _ in 0..<3 { life.on(.signal(2)) }
    #expect(life.exitCode != nil)
  }

  @Test func whatTheAppLeavesBehindIsStoppedToo() {
    var life = Life(.ready)
    #expect(Life.words(life.on(.appExited(.code(0), groupRemains: true))).prefix(2) == ["signal 15", "appExited"])
    life.on(.worker(.inboundDrained))
    #expect(Life.words(life.wait(.seconds(5))) == ["leftovers"])
  }

  @Test func aWorkerThatDiesWhileStoppingIsReplacedOnceToFlush() {
    var life = Life(.ready)
    life.on(.signal(15))
    #expect(Life.words(life.on(.workerExited(.signal(9)))) == ["spawnWorker", "signal 15"])
    #expect(Life.words(life.on(.worker(.hello(version: 1)))) == ["inherit"])
    #expect(Life.words(life.on(.appExited(.code(0), groupRemains: false))) == ["appExited", "finish"])
    let actions = life.on(.workerExited(.signal(9)))
    #expect(Life.words(actions) == ["exit 0"])
    #expect(Life.lines(actions).last?.hasPrefix("the worker was ended by SIGKILL while stopping; cut:") == true)
  }

  @Test func aWorkerThatDiesWhileFlushingGetsItsOrderAgain() {
    var life = Life(.ready)
    life.on(.signal(15))
    life.on(.worker(.inboundDrained))
    life.on(.appExited(.code(0), groupRemains: false))
    #expect(Life.words(life.on(.workerExited(.signal(9)))) == ["spawnWorker"])
    #expect(Life.words(life.on(.worker(.hello(version: 1)))) == ["inherit", "finish"])
    life.on(.worker(.flushed))
    life.on(.workerExited(.code(0)))
    #expect(life.exitCode == 0)
  }

  /// Any events in any order: one app at a time, one exit, nothing after it, and TERM still ends it.
  @Test(arguments: 0..<300) func anyLifeKeepsTheRules(seed: UInt64) {
    var random = SeededRandom(seed: seed)
    var life = Life(.planned, AppPolicy(hasApp: random.next() % 4 != 0, restart: .always, drainDelay: .seconds(1)))
    var appRuns = false
    var workerRuns = true
    for round in 0..<200 where life.exitCode == nil {
      let event: LifecycleMachine.Event =
        switch random.next() % 16 {
        case 0: .signal([1, 2, 3, 10, 15][Int(random.next() % 5)])
        case 1 where appRuns: .appExited(.code(1), groupRemains: random.next() % 2 == 0)
        case 2 where workerRuns: .workerExited(.signal(9))
        case 3 where workerRuns: .worker(.hello(version: 1))
        case 4, 5: .worker(.outboundReady)
        case 6, 7, 8: .worker(.startApp(Life.spec))
        case 9: .worker(.appReady(random.next() % 2 == 0, reason: "x"))
        case 10: .worker(.inboundDrained)
        case 11: .worker(.flushed)
        case 12: .worker(.actionRestart)
        case 13: .appReadyByDescriptor
        default: .tick
        }
      if case .appExited = event { appRuns = false }
      if case .workerExited = event { workerRuns = false }
      life.now += .milliseconds(Int64(random.next() % 2000))
      var queue = [event]
      while let next = queue.popLast() {
        for action in life.on(next) {
          switch action {
          case .spawnApp:
            #expect(!appRuns, "two apps in round \(round)")
            appRuns = true
            queue.append(.appSpawned(pid: 100))
          case .spawnWorker:
            #expect(!workerRuns, "two workers in round \(round)")
            workerRuns = true
          default: break
          }
        }
      }
    }
    life.on(.signal(15))
    life.wait(.seconds(130))
    #expect(life.done.filter { if case .exit = $0 { true } else { false } }.count == 1)
    if case .exit = life.done.last {} else { Issue.record("something happens after the exit") }
  }
}
