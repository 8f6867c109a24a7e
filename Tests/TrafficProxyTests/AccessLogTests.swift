import Foundation
import Synchronization
import Telemetry
import Testing
import Traffic

@testable import TrafficProxy

@Suite(.timeLimit(.minutes(1))) struct AccessLogTests {
  private let upstream = Upstream.answering(
    "HTTP/1.1 200 OK\r\nServer: nginx\r\nX-Cache: \"hit\"\r\nContent-Length: 2\r\n\r\nok")

  @Test func aFormatMakesLinesOfText() async throws {
    let line = try AccessFormat(
      "%START_TIME(%Y)% %REQ(:METHOD)% %REQ(:AUTHORITY)%%REQ(:PATH)% %PROTOCOL% %RESPONSE_CODE% [%RESPONSE_FLAGS%] "
        + "%RESP(x-cache)% %REQ(X-None?X-Some):3% %UPSTREAM_CLUSTER% %ROUTE_NAME% %REQUEST_ID% %BLAME%")
    let harness = try await Harness(to: [upstream.port]) { listener, _, _ in listener.accessForm.line = line }
    let client = Wire.connect(harness.port)
    client.send(get("/a?b=1", "X-Some: abcdef\r\nX-Request-Id: r1\r\n"))
    _ = client.message()
    let year = Calendar(identifier: .gregorian).component(.year, from: Date())
    let record = try #require(await harness.records.lines(1).first)
    #expect(
      record == "\(year) GET shop.test/a?b=1 HTTP/1.1 200 [-] \\\"hit\\\" abc up default r1 -")
    client.close()
    await harness.stop()
    upstream.stop()
  }

  @Test func fieldsAreAddedToJSONRecords() async throws {
    let fields = [
      AccessForm.Field(name: "cache", format: try AccessFormat("%RESP(X-Cache)%")),
      AccessForm.Field(name: "took", format: try AccessFormat("%DURATION%")),
      AccessForm.Field(name: "server", format: try AccessFormat("by %RESP(Server)%")),
    ]
    let harness = try await Harness(to: [upstream.port]) { listener, _, _ in listener.accessForm.fields = fields }
    let client = Wire.connect(harness.port)
    client.send(get())
    _ = client.message()
    let record = try #require(await harness.records.lines(1).first)
    let json = try #require(try JSONSerialization.jsonObject(with: Data(record.utf8)) as? [String: Any])
    #expect(json["cache"] as? String == "\"hit\"")
    #expect(json["took"] is Int)
    #expect(json["server"] as? String == "by nginx")
    #expect(Set(json.keys).subtracting(["cache", "took", "server"]).isSubset(of: AccessForm.ownKeys))
    for phase in ["head", "route", "pool", "connect", "tls", "first_byte", "last_byte", "total", "overhead"] {
      #expect(json["\(phase)_ms"] is Double || json["\(phase)_ms"] is Int, "\(phase)")
    }
    client.close()
    await harness.stop()
    upstream.stop()
  }

  @Test func aTapSeesWhatTheLogLeavesOut() async throws {
    let harness = try await Harness(to: [upstream.port]) { listener, _, _ in listener.accessLog = .off }
    var filter = TapFilter()
    filter.path = Array("/seen".utf8)
    let tap = try #require(harness.events.taps.open(filter))
    let client = Wire.connect(harness.port)
    for path in ["/other", "/seen/1"] {
      client.send(get(path))
      _ = client.message()
    }
    let batch = try #require(await tap.next())
    let text = String(decoding: batch.lines, as: UTF8.self)
    #expect(text.hasSuffix("}\n") && text.split(separator: "\n").count == 1)
    #expect(text.contains("\"path\":\"/seen/1\"") && text.contains("\"status\":200"))
    #expect(harness.records.text.withLock { $0 } == "")
    harness.events.taps.close(tap)
    client.close()
    await harness.stop()
    upstream.stop()
  }

  /// A response that comes slowly is the upstream's time, not the sidecar's.
  @Test(arguments: [false, true]) func waitingForABodyIsNoOverhead(chunked: Bool) async throws {
    let slow = Upstream { wire, _, upstream in
      guard upstream.request(wire) != nil else { return }
      wire.send("HTTP/1.1 200 OK\r\n\(chunked ? "Transfer-Encoding: chunked" : "Content-Length: 1")\r\n\r\n")
      // The time that is measured.
      Thread.sleep(forTimeInterval: 0.5)
      wire.send(chunked ? "1\r\na\r\n0\r\n\r\n" : "a")
    }
    let harness = try await Harness(to: [slow.port])
    let client = Wire.connect(harness.port)
    client.send(get())
    _ = client.message()
    let record = try #require(await harness.records.lines(1).first)
    let json = try #require(try JSONSerialization.jsonObject(with: Data(record.utf8)) as? [String: Any])
    let total = try #require(json["total_ms"] as? Double)
    let overhead = try #require((json["overhead_ms"] as? NSNumber)?.doubleValue)
    #expect(total >= 490 && overhead > 0 && overhead < total - 400, "\(record)")
    client.close()
    await harness.stop()
    slow.stop()
  }
}
