import Foundation
import Synchronization
import Telemetry
import Testing
import Traffic
import Vocabulary

@testable import TrafficProxy

/// Octets that pass unread: TCP listeners, each direction by itself.
@Suite struct StreamTests {
  static func tcp(
    _ upstreams: [Int], idle: Duration = .seconds(300), _ edit: (inout ClusterConfiguration) -> Void = { _ in }
  ) async throws -> Harness {
    try await Harness(to: upstreams) { listener, cluster, _ in
      listener.listenerProtocol = .tcp
      listener.idleTimeout = idle
      edit(&cluster)
    }
  }

  @Test func theAnswerOutlivesTheQuestionsEnd() async throws {
    let answer = [UInt8]((0..<1_500_000).map { UInt8(truncatingIfNeeded: $0 &* 7) })
    let upstream = Upstream { wire, _, _ in
      let question = wire.takeAll()
      wire.send(question + answer)
    }
    let harness = try await Self.tcp([upstream.port])
    for _ in 0..<5 {
      let client = Wire.connect(harness.port)
      client.send("question")
      client.finishSending()
      #expect(client.takeAll() == Array("question".utf8) + answer)
      client.close()
    }
    let records = await harness.records.lines(5)
    #expect(records.count == 5 && records.allSatisfy { $0.contains("\"bytes_in\":8,\"bytes_out\":1500008") })
    await harness.stop()
    upstream.stop()
  }

  /// Both sides have ended and much is still on its way: nothing of it is lost. Ten times, as it is a matter of moments.
  @Test func theLastOctetsArriveAfterBothEnds() async throws {
    let size = 9_000_000
    let sent = Mutex(0)
    let upstream = Upstream { wire, _, _ in
      _ = wire.takeAll()
      wire.send([UInt8](repeating: 9, count: size))
      sent.withLock { $0 += 1 }
    }
    let harness = try await Self.tcp([upstream.port])
    let pause = DispatchSemaphore(value: 0)
    for round in 1...10 {
      let client = Wire.connect(harness.port)
      client.finishSending()
      var taken = 0
      // The server closes while the client still takes one piece after another.
      while sent.withLock({ $0 }) < round, taken < size { taken += client.take(50_000).count }
      _ = pause.wait(timeout: .now() + .milliseconds(100))
      #expect(taken + client.takeAll().count == size)
      client.close()
    }
    await harness.stop()
    upstream.stop()
  }

  @Test func theQuestionOutlivesTheAnswersEnd() async throws {
    let got = Mutex<[Int]>([])
    let upstream = Upstream { wire, _, _ in
      wire.send("hello")
      wire.finishSending()
      let rest = wire.takeAll()
      got.withLock { $0.append(rest.count) }
    }
    let harness = try await Self.tcp([upstream.port])
    for _ in 0..<5 {
      let client = Wire.connect(harness.port)
      #expect(String(decoding: client.takeAll(), as: UTF8.self) == "hello")
      #expect(client.send([UInt8](repeating: 1, count: 1_500_000)))
      client.close()
    }
    await until { got.withLock { $0.count } == 5 }
    #expect(got.withLock { $0 } == Array(repeating: 1_500_000, count: 5))
    await harness.stop()
    upstream.stop()
  }

  @Test func aRefusedConnectionGoesToAnotherEndpoint() async throws {
    let upstream = Upstream { wire, _, _ in wire.send("here") }
    let harness = try await Self.tcp([closedPort(), upstream.port])
    for _ in 0..<20 {
      let client = Wire.connect(harness.port)
      #expect(String(decoding: client.takeAll(), as: UTF8.self) == "here")
      client.close()
    }
    await harness.stop()
    upstream.stop()
  }

  @Test func aStreamThatMovesIsNotCutAndASilentOneIs() async throws {
    let upstream = Upstream { wire, _, _ in
      while true {
        let piece = wire.receive()
        if piece.isEmpty { return }
        wire.send(piece)
      }
    }
    let harness = try await Self.tcp([upstream.port], idle: .milliseconds(800))
    let client = Wire.connect(harness.port)
    let pause = DispatchSemaphore(value: 0)
    for index in 0..<12 {
      client.send("\(index % 10)")
      #expect(client.take(1) == [UInt8(48 + index % 10)])
      _ = pause.wait(timeout: .now() + .milliseconds(120))
    }
    #expect(client.takeAll() == [])
    let records = await harness.records.lines(1)
    #expect(records.first?.contains("\"flags\":\"SI\"") == true)
    client.close()
    await harness.stop()
    upstream.stop()
  }

  /// The client takes what is there only after the idle timeout is long over: octets that wait are no silence.
  @Test func aSlowReaderGetsEverything() async throws {
    let size = 12_000_000
    let upstream = Upstream { wire, _, _ in wire.send([UInt8](repeating: 7, count: size)) }
    let harness = try await Self.tcp([upstream.port], idle: .milliseconds(300))
    let client = Wire.connect(harness.port)
    var taken = 0
    let pause = DispatchSemaphore(value: 0)
    for _ in 0..<10 {
      _ = pause.wait(timeout: .now() + .milliseconds(200))
      taken += client.take(500_000).count
    }
    #expect(taken + client.takeAll().count == size)
    client.close()
    await harness.stop()
    upstream.stop()
  }

  @Test func aResetIsPassedOnBothWays() async throws {
    let ends = Mutex<[CInt]>([])
    let upstream = Upstream { wire, number, _ in
      _ = wire.take(1)
      if number == 0 {
        wire.send("half")
        return wire.reset()
      }
      var octet: UInt8 = 0
      let count = recv(wire.fd, &octet, 1, 0)
      ends.withLock { $0.append(count < 0 ? errno : 0) }
    }
    let harness = try await Self.tcp([upstream.port])
    let client = Wire.connect(harness.port)
    client.send("x")
    var rest = [UInt8](repeating: 0, count: 100)
    var count = 0
    repeat { count = recv(client.fd, &rest, 100, 0) } while count > 0
    #expect(count == -1 && errno == ECONNRESET)
    client.close()
    let other = Wire.connect(harness.port)
    other.send("x")
    _ = await harness.records.lines(1)
    await until { upstream.connectionCount == 2 }
    other.reset()
    await until { ends.withLock { !$0.isEmpty } }
    #expect(ends.withLock { $0 } == [ECONNRESET])
    await harness.stop()
    upstream.stop()
  }

  @Test func unixSocketsAreUpstreams() async throws {
    let path = NSTemporaryDirectory() + "otr-\(UUID().uuidString.prefix(8)).sock"
    let fd = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
    var name = sockaddr_un()
    name.sun_family = sa_family_t(AF_UNIX)
    withUnsafeMutableBytes(of: &name.sun_path) { $0.copyBytes(from: path.utf8) }
    let bound = withUnsafePointer(to: &name) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { bind(fd, $0, socklen_t(MemoryLayout<sockaddr_un>.size)) }
    }
    #expect(bound == 0 && listen(fd, 8) == 0)
    Thread.detachNewThread {
      while true {
        let connection = accept(fd, nil, nil)
        if connection < 0 { return }
        let wire = Wire(fd: connection)
        if wire.take(4) == Array("GET ".utf8) {
          _ = wire.take(until: "\r\n\r\n")
          wire.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nunix")
        } else {
          wire.send("raw")
        }
        wire.close()
      }
    }
    for (kind, question, answer) in [
      (ListenerConfiguration.ListenerProtocol.http, get(), "unix"), (.tcp, "1234", "raw"), (.auto, "\u{1}234", "raw"),
    ] {
      let harness = try await Harness(to: []) { listener, cluster, _ in
        listener.listenerProtocol = kind
        cluster.discovery = .fixed([EndpointConfiguration(address: .unix(path: path))])
      }
      let client = Wire.connect(harness.port)
      client.send(question)
      #expect(
        String(decoding: client.take(until: answer).map { Array($0.utf8) } ?? [], as: UTF8.self).hasSuffix(answer))
      client.close()
      await harness.stop()
    }
    shutdown(fd, Int32(SHUT_RDWR))
    close(fd)
    unlink(path)
  }
}
