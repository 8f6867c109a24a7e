import Foundation
import Telemetry
import Testing
import Traffic

@testable import TrafficProxy

@Suite(.timeLimit(.minutes(1))) struct StoryTests {
  private func story(_ text: String?) throws -> [String: Any] {
    let text = try #require(text)
    return try #require(try JSONSerialization.jsonObject(with: Data(text.utf8)) as? [String: Any])
  }

  @Test func aRetriedRequestTellsItsTries() async throws {
    let upstream = Upstream { wire, _, upstream in
      while let request = upstream.request(wire) {
        let isFirst = upstream.requests.count == 1
        wire.send("HTTP/1.1 \(isFirst ? "503 No" : "200 OK")\r\nContent-Length: 0\r\n\r\n")
        _ = request
      }
    }
    let harness = try await Harness(to: [upstream.port]) { listener, _, configuration in
      listener.retries.attempts = 2
      listener.retries.conditions.insert(.serverError)
      configuration.stories.sample = 0
      var other = RouteConfiguration(action: .respond(status: 204, body: "", headers: []))
      other.name = "other"
      other.match.path = .exact("/other")
      listener.routes.insert(other, at: 0)
    }
    let client = Wire.connect(harness.port)
    client.send(get("/a", "X-Request-Id: story-1\r\n"))
    #expect(client.message()?.head.hasPrefix("HTTP/1.1 200") == true)
    _ = await harness.records.lines(1)
    let told = try story(await harness.proxy.stories(of: "story-1", limit: 5).first)
    #expect(told["kept"] as? String == "retried" && told["status"] as? Int == 200)
    #expect(told["routes"] as? [String] == ["other", "default"])
    let tries = try #require(told["attempts"] as? [[String: Any]])
    #expect(tries.map { $0["status"] as? Int } == [503, 200])
    #expect(tries.allSatisfy { $0["endpoint"] as? String == "127.0.0.1:\(upstream.port)" })
    #expect(await harness.proxy.stories(of: nil, limit: 5).isEmpty)
    client.send(get("/a", "X-Request-Id: plain\r\n"))
    _ = client.message()
    _ = await harness.records.lines(2)
    #expect(await harness.proxy.stories(of: "plain", limit: 5).isEmpty)
    client.close()
    await harness.stop()
    upstream.stop()
  }

  @Test func retriesThatAreUsedUpAreFlagged() async throws {
    let harness = try await Harness(to: [closedPort()]) { listener, _, _ in listener.retries.attempts = 2 }
    let client = Wire.connect(harness.port)
    client.send(get("/a", "X-Request-Id: gone\r\n"))
    #expect(client.message()?.head.hasPrefix("HTTP/1.1 503") == true)
    let record = try #require(await harness.records.lines(1).first)
    #expect(record.contains("\"flags\":\"UF,URX\"") && record.contains("\"reason\":\"connection_refused\""))
    let told = try story(await harness.proxy.stories(of: nil, limit: 5).first)
    #expect(told["request_id"] as? String == "gone" && told["kept"] as? String == "error")
    let tries = try #require(told["attempts"] as? [[String: Any]])
    #expect(tries.count == 3 && tries.allSatisfy { $0["outcome"] as? String == "connection_refused" })
    client.close()
    await harness.stop()
  }

  @Test func aResponseAfterUsedUpRetriesIsFlaggedToo() async throws {
    let upstream = Upstream.answering("HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n")
    let harness = try await Harness(to: [upstream.port]) { listener, _, _ in
      listener.retries.attempts = 1
      listener.retries.conditions.insert(.serverError)
    }
    let client = Wire.connect(harness.port)
    client.send(get())
    #expect(client.message()?.head.hasPrefix("HTTP/1.1 503") == true)
    let record = try #require(await harness.records.lines(1).first)
    #expect(record.contains("\"flags\":\"URX\"") && record.contains("\"tries\":2"))
    client.close()
    await harness.stop()
    upstream.stop()
  }

  @Test func whatTheEndingProxyCutsIsItsOwnFault() async throws {
    let upstream = Upstream { wire, _, upstream in
      _ = upstream.request(wire)
      _ = upstream.request(wire)
    }
    let harness = try await Harness(to: [upstream.port])
    let client = Wire.connect(harness.port)
    client.send(get())
    await until { upstream.requests.count == 1 }
    await harness.proxy.close()
    let record = try #require(await harness.records.lines(1).first)
    #expect(record.contains("\"flags\":\"LR\"") && record.contains("\"blame\":\"sidecar\""))
    client.close()
    await harness.stop()
    upstream.stop()
  }

  @Test func storiesCanBeOff() async throws {
    let harness = try await Harness(to: [closedPort()]) { _, _, configuration in configuration.stories.isOn = false }
    let client = Wire.connect(harness.port)
    client.send(get())
    _ = client.message()
    _ = await harness.records.lines(1)
    #expect(await harness.proxy.stories(of: nil, limit: 5).isEmpty)
    client.close()
    await harness.stop()
  }

  @Test func tracesAreKeptOrBegun() async throws {
    let upstream = Upstream.answering()
    let harness = try await Harness(to: [upstream.port]) { _, _, configuration in
      configuration.tracing = TracingConfiguration(url: "http://unused", serviceName: "shop")
      configuration.tracing?.sample = 0
    }
    let client = Wire.connect(harness.port)
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    for (index, flags) in ["01", "00"].enumerated() {
      client.send(get("/", "traceparent: 00-\(trace)-00f067aa0ba902b7-\(flags)\r\ntracestate: a=b\r\n"))
      _ = client.message()
      // A record is published once the turn of the loop that ended its exchange is over.
      _ = await harness.records.lines(index + 1)
      let seen = upstream.requests[index].lowercased()
      #expect(seen.contains("traceparent: 00-\(trace)-") && seen.contains("-\(flags)\r\n") && seen.contains("a=b"))
      #expect(!seen.contains("00f067aa0ba902b7"))
      #expect(harness.events.spans.take(9).count == (flags == "01" ? 2 : 0))
    }
    client.send(get("/", "traceparent: 00-bad-trace\r\ntracestate: a=b\r\n"))
    _ = client.message()
    _ = await harness.records.lines(3)
    let seen = upstream.requests[2].lowercased()
    #expect(
      !seen.contains("bad-trace") && !seen.contains("tracestate") && seen.contains("traceparent: 00-")
        && seen.contains("-00\r\n"))
    #expect(harness.events.spans.take(9).isEmpty)
    client.close()
    await harness.stop()
    upstream.stop()
  }

  @Test func withoutTracingTheClientsTraceGoesOnAsItIs() async throws {
    let upstream = Upstream.answering()
    let harness = try await Harness(to: [upstream.port])
    let client = Wire.connect(harness.port)
    let field = "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"
    client.send(get("/", field + "\r\n"))
    _ = client.message()
    #expect(upstream.requests[0].contains(field))
    client.close()
    await harness.stop()
    upstream.stop()
  }
}
