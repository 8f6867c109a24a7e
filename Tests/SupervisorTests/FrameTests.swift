import CLinux
import Glibc
import Resilience
import Testing
import Vocabulary

@testable import Supervisor

@Suite struct FrameTests {
  static let addresses: [Address] = [
    .tcp(host: "", port: 80), .tcp(host: "::1", port: 65535), .tcp(host: "127.0.0.1", port: 0), .unix(path: "/run/x"),
  ]
  static let workerFrames: [WorkerFrame] = [
    .hello(version: 7), .plan(AppPolicy(hasApp: true, restart: .onFailure, stopSignal: 3, stopGrace: .milliseconds(1))),
    .bind(id: .max, addresses: addresses), .bind(id: 0, addresses: []), .listen(id: 3), .unbind(addresses),
    .waiting(for: "vault ✓"), .secretsReady, .outboundReady,
    .startApp(AppSpec(arguments: ["a", ""], environment: ["A=b", "C=\u{1F600}"])),
    .startApp(
      AppSpec(
        arguments: ["a"], environment: [], workingDirectory: "/", user: "u", group: "g", readyDescriptor: true)),
    .appReady(true, reason: ""), .appReady(false, reason: "503"), .actionSignal(64), .actionRestart, .inboundDrained,
    .flushed, .fatal(exitCode: -1), .quit, .reloaded, .upgrade(binary: "/b", timeout: .seconds(30)),
    .checked(product: "1.2.3"), .serving,
  ]
  static let supervisorFrames: [SupervisorFrame] =
    [
      .bound(id: 1, addresses: addresses), .bindFailed(id: 2, address: addresses[1], reason: "in use"), .prepareApp,
      .appStarted(pid: 12, restarts: 3), .appExited(.code(255)), .appExited(.signal(9)), .appReadyByDescriptor,
      .openInbound, .draining, .closeInbound(timeout: .milliseconds(1234)), .finish(timeout: .zero), .reload,
      .inherit(
        Inheritance(
          appPID: nil, state: .flushing, restarts: 2, workerRestarts: 5, outputs: [3, 4], bound: addresses,
          listening: [addresses[0]], isHandedOver: true)),
      .handOver, .leave(timeout: .seconds(1)), .upgradeEnded(.failed, text: "it hung"),
      .run(RunFacts(version: "2", generation: 3)),
      .inherit(Inheritance(appPID: 9, state: .ready)),
    ] + LifecycleState.allCases.map { .state($0) }

  @Test func everyFrameComesBackAsItWas() throws {
    for frame in Self.workerFrames {
      let (kind, payload) = frame.encoded
      #expect(try WorkerFrame(kind: kind, payload: payload[...]) == frame)
    }
    for frame in Self.supervisorFrames {
      let (kind, payload) = frame.encoded
      #expect(try SupervisorFrame(kind: kind, payload: payload[...]) == frame)
    }
  }

  @Test func everyShorterOrLongerFrameIsRefused() {
    for frame in Self.workerFrames {
      let (kind, payload) = frame.encoded
      for length in payload.indices {
        #expect(throws: FrameError.self) { try WorkerFrame(kind: kind, payload: payload[..<length]) }
      }
      #expect(throws: FrameError.self) { try WorkerFrame(kind: kind, payload: (payload + [0])[...]) }
    }
    #expect(throws: FrameError.self) { try WorkerFrame(kind: 0, payload: []) }
    #expect(throws: FrameError.self) { try SupervisorFrame(kind: 200, payload: []) }
  }

  @Test func boundsAreKept() {
    let endless = [UInt8](repeating: 0xFF, count: 8)
    #expect(throws: FrameError.self) { try WorkerFrame(kind: 3, payload: endless[...]) }
    #expect(throws: FrameError.self) { try WorkerFrame(kind: 6, payload: [1, 0, 0, 0, 0xFF]) }
    #expect(throws: FrameError.self) { try WorkerFrame(kind: 11, payload: [65, 0, 0, 0]) }
    #expect(throws: FrameError.self) {
      try WorkerFrame(kind: 9, payload: AppSpec(arguments: [], environment: []).bytes)
    }
    let many = WorkerFrame.unbind(Array(repeating: Self.addresses[0], count: FrameLimits.addresses + 1)).encoded
    #expect(throws: FrameError.self) { try WorkerFrame(kind: many.kind, payload: many.payload[...]) }
    var assembler = FrameAssembler()
    assembler.append([0, 0, 0, 0x7F, 1, 0])
    #expect(throws: FrameError.self) { _ = try assembler.next() }
    assembler = FrameAssembler()
    assembler.append([0, 0, 0, 0, 1, 1])
    #expect(throws: FrameError.self) { _ = try assembler.next() }
  }

  /// Whatever the bytes are: an error or a frame that encodes again, never a trap.
  @Test func mutatedFramesNeverTrap() throws {
    var random = SeededRandom(seed: 42)
    for _ in 0..<20_000 {
      let worker = Self.workerFrames[Int(random.next() % UInt64(Self.workerFrames.count))].encoded
      let supervisor = Self.supervisorFrames[Int(random.next() % UInt64(Self.supervisorFrames.count))].encoded
      var payload = random.next() % 2 == 0 ? worker.payload : supervisor.payload
      for _ in 0...Int(random.next() % 4) where !payload.isEmpty {
        payload[Int(random.next() % UInt64(payload.count))] = UInt8(truncatingIfNeeded: random.next())
      }
      let kind = UInt8(random.next() % 20)
      if let frame = try? WorkerFrame(kind: kind, payload: payload[...]) {
        let again = frame.encoded
        #expect(try WorkerFrame(kind: again.kind, payload: again.payload[...]) == frame)
      }
      if let frame = try? SupervisorFrame(kind: kind, payload: payload[...]) {
        let again = frame.encoded
        #expect(try SupervisorFrame(kind: again.kind, payload: again.payload[...]) == frame)
      }
    }
  }

  @Test func framesAreAssembledFromAnyPieces() throws {
    var random = SeededRandom(seed: 7)
    let frames = Self.supervisorFrames
    let bytes = frames.enumerated().flatMap { index, frame in
      FrameAssembler.bytes(kind: frame.encoded.kind, payload: frame.encoded.payload, descriptorCount: index % 3)
    }
    for _ in 0..<50 {
      var assembler = FrameAssembler()
      var found: [SupervisorFrame] = []
      var position = 0
      var descriptors: [CInt] = []
      while position < bytes.count {
        let end = min(bytes.count, position + 1 + Int(random.next() % 40))
        assembler.append(bytes[position..<end], descriptors: position == 0 ? Array(0..<CInt(frames.count)) : [])
        position = end
        while let frame = try assembler.next() {
          found.append(try SupervisorFrame(kind: frame.kind, payload: frame.payload))
          descriptors += frame.descriptors
        }
      }
      #expect(found == frames)
      #expect(descriptors == Array(descriptors.indices.map { CInt($0) }))
    }
  }

  @Test func theLinkCarriesFramesAndDescriptorsBothWays() async throws {
    var ends: [CInt] = [-1, -1]
    #expect(socketpair(AF_UNIX, CInt(SOCK_STREAM.rawValue), 0, &ends) == 0)
    _ = fcntl(ends[0], F_SETFL, O_NONBLOCK)
    var supervisor = WorkerChannel(descriptor: ends[0])
    let link = SupervisorLink(descriptor: ends[1])
    link.send(.hello(version: 1))
    link.send(.waiting(for: "x"))
    let first = try supervisor.read().frames.map(\.0)
    #expect(first == [.hello(version: 1), .waiting(for: "x")])
    var pipe: [CInt] = [-1, -1]
    #expect(outrider_app_pipe(&pipe, 1 << 20) == 0)
    let sent = (
      supervisor.send(.prepareApp, []), supervisor.send(.appStarted(pid: 5, restarts: 0), [pipe[1], pipe[1]])
    )
    #expect(sent == (true, true))
    close(pipe[1])
    var frames = link.frames().makeAsyncIterator()
    #expect(await frames.next()?.0 == .prepareApp)
    let started = await frames.next()
    #expect(started?.0 == .appStarted(pid: 5, restarts: 0))
    for descriptor in started?.1 ?? [] {
      #expect(write(descriptor, "ab", 2) == 2)
      close(descriptor)
    }
    var buffer = [UInt8](repeating: 0, count: 8)
    #expect(read(pipe[0], &buffer, 8) == 4)
    #expect(outrider_pipe_is_finished(pipe[0]) == 1)
    close(pipe[0])
    supervisor.shut()
    #expect(await frames.next() == nil)
  }
}

extension AppSpec {
  fileprivate var bytes: ArraySlice<UInt8> { WorkerFrame.startApp(self).encoded.payload[...] }
}
