import CLinux
import Glibc
import Testing

@testable import Supervisor

@Suite(.serialized) struct SupervisorRunTests {
  static func shell(_ script: String) -> String { "\"app\": [\"sh\", \"-c\", \"\(script)\"]" }
  /// Says that it is up, then waits for a signal.
  static let waiting = shell("echo up; while :; do sleep 0.05; done")

  @Test(arguments: [("exit 0", Int32(0)), ("exit 42", 42), ("kill -9 $$", 137), ("kill -TERM $$", 143)])
  func theExitCodePassesThrough(script: String, code: Int32) throws {
    let run = try SupervisedRun(Self.shell("echo out; echo err >&2; \(script)"))
    #expect(try run.end() == .code(code))
    #expect(run.text("out").split(separator: "\n").sorted() == ["err", "out"])
    #expect(run.log.suffix(3) == ["finish", "flushed", "end"])
  }

  @Test func termStopsTheAppAndTheWorkerOutlivesIt() throws {
    let run = try SupervisedRun(Self.shell("trap 'echo bye; exit 5' TERM; echo up; while :; do sleep 0.05; done"))
    _ = try run.eventually("up") { run.text("out").contains("up\n") ? true : nil }
    run.signal(SIGTERM)
    #expect(try run.end() == .code(5))
    #expect(run.text("out").contains("bye\n"))
    let log = run.log
    let order = ["draining", "closeInbound", "appExited 0 5", "finish", "flushed"]
    #expect(log.filter(order.contains) == order)
  }

  @Test func anAppThatIgnoresTermIsKilledAtItsGrace() throws {
    let run = try SupervisedRun(
      Self.shell("trap '' TERM; echo up; while :; do sleep 0.05; done") + ", \"policy\": {\"grace\": 100}")
    _ = try run.eventually("up") { run.text("out").contains("up\n") ? true : nil }
    run.signal(SIGTERM)
    #expect(try run.end() == .code(137))
    #expect(run.text("stderr").contains("cut: the app"))
  }

  @Test func termWorksBeforeTheWorkerIsReady() throws {
    let run = try SupervisedRun(Self.waiting + ", \"silent\": true")
    _ = try run.line("worker ")
    run.signal(SIGTERM)
    #expect(try run.end() == .code(143))
    #expect(run.log.contains("flushed"))
  }

  @Test func termWorksWhileTheAppIsNotReadyAndWhileTheEnvironmentIsMissing() throws {
    for (scenario, step) in [("\"ready\": false", "appStarted "), ("\"answer\": false", "prepareApp")] {
      let run = try SupervisedRun(Self.waiting + ", " + scenario)
      _ = try run.line(step)
      run.signal(SIGTERM)
      #expect(try run.end() == .code(143))
    }
  }

  @Test func termEndsARunWithoutAnApp() throws {
    let run = try SupervisedRun("\"listen\": [\"127.0.0.1:0\"]")
    _ = try run.line("state ready")
    run.signal(SIGTERM)
    #expect(try run.end() == .code(0))
  }

  @Test func twoInterruptsForce() throws {
    let run = try SupervisedRun(Self.shell("trap '' TERM INT; echo up; while :; do sleep 0.05; done"))
    _ = try run.eventually("up") { run.text("out").contains("up\n") ? true : nil }
    run.signal(SIGINT)
    _ = try run.line("draining")
    run.signal(SIGINT)
    #expect(try run.end() == .code(137))
  }

  @Test func signalsAreForwardedAndHangupReloads() throws {
    let run = try SupervisedRun(
      Self.shell("trap 'echo usr1' USR1; trap 'echo usr2' USR2; echo up; while :; do sleep 0.05; done")
        + ", \"on_start\": [\"usr1\"]")
    _ = try run.eventually("usr1 of a secret's action, or the end of an app without its trap") {
      run.text("out").contains("usr1\n") || run.log.contains { $0.hasPrefix("appExited") } ? true : nil
    }
    if run.text("out").contains("up\n") {
      run.signal(SIGUSR2)
      _ = try run.eventually("usr2") { run.text("out").contains("usr2\n") ? true : nil }
      run.signal(SIGHUP)
      _ = try run.line("reload")
      run.signal(SIGTERM)
    }
    _ = try run.end()
  }

  @Test func aKilledWorkerIsReplacedWhileTheAppWrites() throws {
    let run = try SupervisedRun(
      "\"app\": [\"python3\", \"-uc\", "
        + "\"import signal,sys,time\\nstop=[]\\nsignal.signal(15,lambda *a: stop.append(1))\\nn=0\\n"
        + "while not stop:\\n n+=1\\n print(n)\\n time.sleep(0.0005)\\nprint('end',n)\"], "
        + "\"listen\": [\"127.0.0.1:0\"]")
    let app = try run.number("appStarted ")
    let port = try run.line("address 127.0.0.1 ")
    for round in 1...3 {
      let worker = try run.number("worker ", number: round)
      kill(worker, SIGKILL)
      #expect(try run.number("inherit ", number: round) == app)
      #expect(try run.line("address 127.0.0.1 ", number: round + 1) == port)
      _ = try run.line("openInbound", number: round + 1)
    }
    run.signal(SIGTERM)
    #expect(try run.end() == .code(0))
    let numbers = run.text("out").split(separator: "\n").compactMap { Int($0.split(separator: " ").last ?? "") }
    // A killed worker takes with it only what it had read and not written yet: one gap for each kill at most.
    let gaps = zip(numbers, numbers.dropFirst().dropLast()).filter { $1 != $0 + 1 }
    #expect(gaps.count <= 3 && gaps.allSatisfy { $0 < $1 })
    #expect(numbers.suffix(2).first == numbers.last)
    #expect(run.text("out").hasSuffix("end \(numbers.last ?? 0)\n"))
  }

  @Test func aWorkerKilledWhileStoppingIsReplacedToFlush() throws {
    let run = try SupervisedRun(
      Self.shell("trap 'echo bye; exit 3' TERM; echo up; while :; do sleep 0.05; done")
        + ", \"flush\": false, \"drain\": false")
    _ = try run.eventually("up") { run.text("out").contains("up\n") ? true : nil }
    run.signal(SIGTERM)
    _ = try run.line("closeInbound")
    let scenario = run.text("scenario.json").replacing("\"flush\": false", with: "\"flush\": true")
    try SupervisedRun.write(scenario, to: run.directory + "/scenario.json")
    kill(try run.number("worker "), SIGKILL)
    #expect(try run.end() == .code(3))
    #expect(run.text("out").contains("bye\n"))
    #expect(run.log.contains("flushed"))
  }

  @Test func commandsThatCannotStart() throws {
    let cases: [(scenario: String, code: Int32, text: String)] = [
      ("\"app\": [\"no-such-command-at-all\"]", 127, "not in the PATH"),
      ("\"app\": [\"DIRECTORY/absent\"]", 127, "there is no such file"),
      ("\"app\": [\"DIRECTORY/log\"]", 126, "chmod +x"),
      ("\"app\": [\"DIRECTORY/script\"]", 126, "interpreter"),
      ("\"app\": [\"true\"], \"cwd\": \"/nowhere/at/all\"", 126, "app.working_directory"),
      ("\"app\": [\"true\"], \"user\": \"no-such-user\"", 126, "there is no such user"),
      ("\"app\": [\"true\"], \"group\": \"no-such-group\"", 126, "there is no such group"),
    ]
    for (scenario, code, text) in cases {
      let run = try SupervisedRun(scenario)
      #expect(try run.end() == .code(code), "\(scenario)")
      #expect(run.text("stderr").contains(text), "\(scenario): \(run.text("stderr"))")
    }
  }

  @Test func aWorkerThatGivesUpEndsTheRun() throws {
    #expect(try SupervisedRun("\"exit\": 78").end() == .code(78))
    #expect(try SupervisedRun("\"fatal\": 73").end() == .code(73))
  }

  @Test func anAddressInUseIsNamed() throws {
    let first = try SupervisedRun("\"listen\": [\"127.0.0.1:0\"]")
    let port = try first.line("address 127.0.0.1 ")
    _ = try first.line("state ready")
    let second = try SupervisedRun("\"listen\": [\"127.0.0.1:\(port)\"], \"app\": [\"true\"]")
    #expect(try second.line("bindFailed ").contains("Address already in use"))
    #expect(try second.end() == .code(73))
    first.signal(SIGTERM)
    _ = try first.end()
  }

  @Test func aStaleUnixSocketIsReplacedAndALiveOneIsNot() throws {
    let first = try SupervisedRun("\"listen\": [\"unix:DIRECTORY/s\"]")
    _ = try first.line("state ready")
    let second = try SupervisedRun("\"listen\": [\"unix:\(first.directory)/s\"], \"app\": [\"true\"]")
    _ = try second.line("bindFailed ")
    _ = try second.end()
    let worker = try first.number("worker ")
    first.signal(SIGKILL)
    _ = try first.end()
    _ = try first.eventually("the worker's end") { kill(worker, 0) != 0 ? true : nil }
    #expect(access(first.directory + "/s", F_OK) == 0)
    let third = try SupervisedRun("\"listen\": [\"unix:\(first.directory)/s\"]")
    _ = try third.line("state ready")
    third.signal(SIGTERM)
    #expect(try third.end() == .code(0))
    #expect(access(first.directory + "/s", F_OK) != 0)
  }

  @Test func readinessByDescriptor() throws {
    let run = try SupervisedRun(
      Self.shell("echo ok >&$OUTRIDER_READY_FD; while :; do sleep 0.05; done") + ", \"ready_fd\": true")
    _ = try run.line("appReadyByDescriptor")
    _ = try run.line("openInbound")
    run.signal(SIGTERM)
    _ = try run.end()
  }

  @Test func theAppStartsClean() throws {
    let run = try SupervisedRun(
      Self.shell("grep -E '^Sig(Blk|Ign)' /proc/self/status; pwd; echo $0 $A $PATH")
        + ", \"env\": [\"A=b\", \"PATH=/usr/bin:/bin\"], \"cwd\": \"/usr\"")
    #expect(try run.end() == .code(0))
    let lines = run.text("out").split(separator: "\n").map(String.init)
    #expect(lines.suffix(2) == ["/usr", "sh b /usr/bin:/bin"])
    let masks = lines.prefix(2).map { UInt64($0.suffix(16), radix: 16) }
    // Signals 32 and above belong to libc.
    #expect(masks.map { $0.map { $0 & 0x7FFF_FFFF } } == [0, 0])
  }

  @Test(.enabled(if: geteuid() == 0, "only root may change the user"))
  func theAppRunsAsAnotherUser() throws {
    let run = try SupervisedRun(Self.shell("id -u; id -g; id -G") + ", \"user\": \"nobody\"")
    #expect(try run.end() == .code(0))
    #expect(run.text("out").split(separator: "\n") == ["65534", "65534", "65534"])
    let numbers = try SupervisedRun(Self.shell("id -u; id -g") + ", \"user\": \"12345\", \"group\": \"54321\"")
    #expect(try numbers.end() == .code(0))
    #expect(numbers.text("out").split(separator: "\n") == ["12345", "54321"])
  }

  @Test(.enabled(if: geteuid() == 0, "only root may make a PID namespace"))
  func worksAsTheFirstProcess() throws {
    let script = "(sh -c 'sleep 0.05' &); echo parent $PPID; sleep 0.2; ps -e -o stat= | grep -c Z; exit 9"
    let run = try SupervisedRun(
      Self.shell(script), launcher: ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"])
    #expect(try run.end() == .code(9))
    #expect(run.text("out") == "parent 1\n0\n")
  }

  @Test func orphansAreReapedAndLeftoversEnd() throws {
    let run = try SupervisedRun(
      Self.shell("(setsid sh -c 'echo orphan $$; exit 0' &); (sleep 1000 & echo left $!); while :; do sleep 0.05; done")
    )
    let left: Int32 = try run.eventually("the leftover") {
      run.text("out").split(separator: "\n").first { $0.hasPrefix("left ") }.flatMap { Int32($0.dropFirst(5)) }
    }
    let orphan: Int32 = try run.eventually("the orphan") {
      run.text("out").split(separator: "\n").first { $0.hasPrefix("orphan ") }.flatMap { Int32($0.dropFirst(7)) }
    }
    _ = try run.eventually("the orphan is reaped") { kill(orphan, 0) != 0 ? true : nil }
    #expect(kill(left, 0) == 0)
    run.signal(SIGTERM)
    #expect(try run.end() == .code(143))
    _ = try run.eventually("the leftover's end") { kill(left, 0) != 0 ? true : nil }
  }

  @Test func restartsCountAndASecretsRestartIsOne() throws {
    let run = try SupervisedRun(Self.waiting + ", \"on_start\": [\"restart\"]")
    _ = try run.line("prepareApp", number: 2)
    #expect(try run.line("appStarted ", number: 2).hasSuffix(" 1"))
    run.signal(SIGTERM)
    #expect(try run.end() == .code(143))
  }

  @Test func theSupervisorIsSmallAndHasOneThread() throws {
    let run = try SupervisedRun(Self.waiting)
    _ = try run.line("state ready")
    let status = SupervisedRun.text("/proc/\(run.pid)/status").split(separator: "\n")
    func value(_ name: String) -> Int? {
      status.first { $0.hasPrefix(name) }?.split(whereSeparator: { " \t".contains($0) }).dropFirst().first.flatMap {
        Int($0)
      }
    }
    #expect(value("Threads:") == 1)
    // A sanitizer has memory of its own.
    if getenv("TSAN_OPTIONS") == nil { #expect(try #require(value("RssAnon:")) < 4096) }
    run.signal(SIGTERM)
    _ = try run.end()
  }
}
