package import AsyncHTTPClient
package import Logging
import NIOCore
import NIOHTTP1
import Resilience
package import Telemetry
package import Traffic
package import Vocabulary

/// Sends spans to a collector by OTLP/HTTP: in batches, again after a while when it is asked to wait or not there.
package final class TraceExporter: Sendable {
  package typealias SecretResolver = @Sendable (SecretTemplate) -> [UInt8]?

  /// Spans of one request at most.
  static let batch = 512
  /// How often what waits is sent.
  static let pause = Duration.seconds(1)
  /// Tries of one batch; after that it is dropped.
  static let tries = 6

  private enum Outcome: Equatable {
    case done
    /// The collector does not want it.
    case refused(String)
    case later(after: Duration?, String)
  }

  private let configuration: TracingConfiguration
  private let queue: SpanQueue
  private let client: HTTPClient
  private let secrets: SecretResolver
  private let logger: Logger
  private let version: String
  private let sent: Counter
  private let lost: Counter

  /// `client` stays the caller's.
  package init(
    _ configuration: TracingConfiguration, queue: SpanQueue, client: HTTPClient, counters: TraceCounters,
    version: String, secrets: @escaping SecretResolver, logger: Logger
  ) {
    self.configuration = configuration
    self.queue = queue
    self.client = client
    self.version = version
    self.secrets = secrets
    self.logger = logger
    sent = counters.sent
    lost = counters.lost
  }

  /// Sends until it is cancelled.
  package func run() async {
    while !Task.isCancelled {
      try? await Task.sleep(for: Self.pause)
      await sendAll()
    }
  }

  /// Sends what waits now: once, with a second for it. For the end of a run.
  package func flush() async {
    while true {
      let spans = queue.take(Self.batch)
      if spans.isEmpty { return }
      guard await send(encoded(spans), timeout: .seconds(1)) == .done else { return lost.add(UInt64(spans.count)) }
      sent.add(UInt64(spans.count))
    }
  }

  private func encoded(_ spans: [[UInt8]]) -> [UInt8] {
    SpanBatch.encoded(spans, resource: [("service.name", configuration.serviceName)], version: version)
  }

  private func sendAll() async {
    while !Task.isCancelled {
      let spans = queue.take(Self.batch)
      if spans.isEmpty { return }
      await deliver(spans)
    }
  }

  private func deliver(_ spans: [[UInt8]]) async {
    let body = encoded(spans)
    let backoff = Backoff(base: .seconds(1), cap: .seconds(30))
    var random = SystemRandomNumberGenerator()
    for attempt in 0..<Self.tries {
      switch await send(body, timeout: .seconds(10)) {
      case .done: return sent.add(UInt64(spans.count))
      case .refused(let why):
        lost.add(UInt64(spans.count))
        return logger.warning("tracing: \(spans.count) spans were refused by \(configuration.url): \(why)")
      case .later(let asked, let why):
        if attempt == 0 { logger.warning("tracing: \(configuration.url): \(why); trying again") }
        let wait = asked ?? backoff.delay(attempt: attempt, using: &random)
        guard (try? await Task.sleep(for: min(wait, .seconds(60)))) != nil else {
          return lost.add(UInt64(spans.count))
        }
      }
    }
    lost.add(UInt64(spans.count))
    logger.warning("tracing: \(spans.count) spans are dropped after \(Self.tries) tries")
  }

  private func send(_ body: [UInt8], timeout: TimeAmount) async -> Outcome {
    var request = HTTPClientRequest(url: configuration.url)
    request.method = .POST
    request.headers.add(name: "content-type", value: "application/x-protobuf")
    for header in configuration.headers {
      guard let value = secrets(header.value) else {
        return .later(after: nil, "the secret of the field \(header.name) is not there yet")
      }
      // The client would say the value in its error.
      guard value.allSatisfy({ $0 >= 0x20 && $0 != 0x7F || $0 == 0x09 }) else {
        return .later(
          after: nil, "the secret of the field \(header.name) holds a control character (a line end?), use `| trim`")
      }
      request.headers.replaceOrAdd(name: header.name, value: String(decoding: value, as: UTF8.self))
    }
    request.body = .bytes(body)
    do {
      let response = try await client.execute(request, timeout: timeout)
      // The answer's own body says nothing that matters; it is read so that the connection stays.
      _ = try? await response.body.collect(upTo: 1 << 20)
      switch response.status.code {
      case 200..<300: return .done
      case 429, 502, 503, 504:
        let asked = response.headers.first(name: "retry-after").flatMap { Int($0) }
        return .later(after: asked.map { .seconds($0) }, "status \(response.status.code)")
      default: return .refused("status \(response.status.code)")
      }
    } catch { return .later(after: nil, "\(error)") }
  }
}

/// Made once for a worker's life, so that a reload goes on with the same numbers.
package struct TraceCounters: Sendable {
  let sent: Counter
  let lost: Counter

  package init(_ metrics: MetricRegistry, _ queue: SpanQueue) {
    let name = "outrider_trace_spans_dropped_total"
    let help = "Spans that no collector got."
    sent = metrics.counter("outrider_trace_spans_sent_total", "Spans that the collector took.")
    lost = metrics.counter(name, help, [Label("reason", "not_delivered")])
    metrics.read(name, .counter, help, [Label("reason", "queue_full")]) { Double(queue.dropped) }
  }
}
