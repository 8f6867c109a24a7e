package import AsyncHTTPClient
package import Logging
import NIOCore
import NIOHTTP1
import Synchronization
package import Telemetry
package import Traffic
package import Vocabulary

/// Where metrics come from, and whose they are.
package struct MetricSource: Sendable {
  /// The Prometheus text of everything that `/metrics` shows.
  package var all: @Sendable () async -> String
  /// The sidecar's own families.
  package var own: MetricRegistry
  package var host: String
  package var version: String
  /// When the sidecar's own counters began, nanoseconds since 1970.
  package var start: UInt64
  /// Now, nanoseconds since 1970.
  package var clock: @Sendable () -> UInt64

  package init(
    all: @escaping @Sendable () async -> String, own: MetricRegistry, host: String, version: String, start: UInt64,
    clock: @escaping @Sendable () -> UInt64
  ) {
    self.all = all
    self.own = own
    self.host = host
    self.version = version
    self.start = start
    self.clock = clock
  }
}

/// Sends what `/metrics` shows to receivers, every so often: in order, again while a receiver is away, bounded.
package final class MetricExporter: Sendable {
  package typealias SecretResolver = @Sendable (SecretTemplate) -> [UInt8]?

  private let configuration: MetricPushConfiguration
  private let source: MetricSource
  private let lines: MetricLines
  private let client: HTTPClient
  private let secrets: SecretResolver
  private let logger: Logger

  /// `client` stays the caller's.
  package init(
    _ configuration: MetricPushConfiguration, source: MetricSource, lines: MetricLines, client: HTTPClient,
    secrets: @escaping SecretResolver, logger: Logger
  ) {
    self.configuration = configuration
    self.source = source
    self.lines = lines
    self.client = client
    self.secrets = secrets
    self.logger = logger
  }

  /// Collects and sends until it is cancelled.
  package func run() async {
    await withTaskGroup(of: Void.self) { group in
      var bells: [AsyncStream<Void>.Continuation] = []
      for receiver in configuration.receivers {
        let (rings, bell) = AsyncStream.makeStream(of: Void.self, bufferingPolicy: .bufferingNewest(1))
        bells.append(bell)
        group.addTask { for await _ in rings { await self.serve(receiver) } }
      }
      let all = bells
      group.addTask {
        while !Task.isCancelled {
          self.collect(await self.source.all())
          for bell in all { bell.yield() }
          try? await Task.sleep(for: self.configuration.interval)
        }
        for bell in all { bell.finish() }
      }
    }
  }

  /// Sends the last numbers of the sidecar and what waits: once each, with a second for it. For the end of a run.
  package func flush() async {
    collect(source.own.prometheusText())
    await withTaskGroup(of: Void.self) { group in
      for receiver in configuration.receivers {
        group.addTask {
          let line = self.lines[receiver.format]
          while let request = line.first {
            let outcome = await self.send(request, to: receiver, timeout: .seconds(1))
            guard case .taken = outcome else {
              let left = line.giveUp()
              return self.logger.warning(
                "telemetry.metrics: \(left) samples did not reach \(receiver.url) before the end")
            }
            _ = line.settle(request, outcome)
          }
        }
      }
    }
  }

  /// Makes requests of an exposition. It is our own text: one that cannot be read would be a mistake of ours.
  private func collect(_ text: String) {
    let metrics: ScrapedMetrics
    do {
      metrics = try ScrapedMetrics(text)
    } catch {
      return logger.error("telemetry.metrics: `/metrics` is not pushed, \(error)")
    }
    let now = source.clock()
    for receiver in configuration.receivers {
      let requests: [PushRequest]
      switch receiver.format {
      case .otlp:
        let resource =
          [
            Label("service.name", configuration.serviceName), Label("service.instance.id", source.host),
            Label("host.name", source.host),
          ] + configuration.labels
        let origin = OTLPMetrics.Origin(
          resource: resource, version: source.version, own: source.own.names, start: source.start)
        requests = OTLPMetrics.requests(metrics, origin, at: now)
      case .remoteWrite:
        let labels =
          configuration.labels + [Label("job", configuration.serviceName), Label("instance", source.host)]
        requests = RemoteWrite.requests(metrics, labels: labels, at: Int64(now / 1_000_000))
      }
      lines[receiver.format].offer(requests)
    }
  }

  /// Sends what waits, however long it takes.
  private func serve(_ receiver: MetricPushConfiguration.Receiver) async {
    let line = lines[receiver.format]
    while !Task.isCancelled, let request = line.first {
      let outcome = await send(request, to: receiver, timeout: .seconds(10))
      if Task.isCancelled, case .later = outcome { return }
      let (wait, isNews) = line.settle(request, outcome)
      if isNews {
        switch outcome {
        case .later(_, let why): logger.warning("telemetry.metrics: \(receiver.url): \(why); trying again")
        case .refused(let why):
          logger.warning("telemetry.metrics: \(receiver.url) refused \(request.samples) samples: \(why)")
        case .taken: break
        }
      }
      if wait > .zero { try? await Task.sleep(for: wait) }
    }
  }

  private func send(
    _ push: PushRequest, to receiver: MetricPushConfiguration.Receiver, timeout: TimeAmount
  ) async -> PushQueue.Outcome {
    var request = HTTPClientRequest(url: receiver.url)
    request.method = .POST
    request.headers.add(name: "content-type", value: "application/x-protobuf")
    request.headers.add(name: "user-agent", value: "outrider/\(source.version)")
    if receiver.format == .remoteWrite {
      request.headers.add(name: "content-encoding", value: "snappy")
      request.headers.add(name: "x-prometheus-remote-write-version", value: "0.1.0")
    }
    for header in receiver.headers {
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
    request.body = .bytes(push.body)
    do {
      let response = try await client.execute(request, timeout: timeout)
      let body = try? await response.body.collect(upTo: 1 << 20)
      switch response.status.code {
      case 200..<300:
        guard receiver.format == .otlp, let body else { return .taken(rejected: 0) }
        return .taken(rejected: min(push.samples, OTLPMetrics.rejected(body.readableBytesView)))
      // Remote write: every 5xx; OTLP names these three, and others are a server's trouble all the same.
      case 429, 500...599:
        let asked = response.headers.first(name: "retry-after").flatMap { Int($0) }
        return .later(after: asked.map { .seconds(max(0, $0)) }, "status \(response.status.code)")
      default:
        // What the receiver says of it, if that can be printed.
        let text = body.map { $0.readableBytesView.prefix(200).filter { (0x20...0x7E).contains($0) } } ?? []
        let said = text.isEmpty ? "" : ", \(String(decoding: text, as: UTF8.self))"
        return .refused("status \(response.status.code)\(said)")
      }
    } catch { return .later(after: nil, "\(error)") }
  }
}

/// The way to one receiver; it outlives a reload, so that nothing is lost and numbers go on.
package final class MetricLine: Sendable {
  private let queue = Mutex(PushQueue())
  private let sent: Counter
  private let overflown: Counter
  private let refused: Counter
  private let lost: Counter
  private let retries: Counter

  fileprivate init(_ format: MetricPushConfiguration.Format, _ metrics: MetricRegistry) {
    let label = Label("receiver", format.rawValue)
    let dropped = "outrider_metrics_samples_dropped_total"
    let help = "Samples that the receiver did not get."
    sent = metrics.counter("outrider_metrics_samples_sent_total", "Samples that the receiver took.", [label])
    overflown = metrics.counter(dropped, help, [label, Label("reason", "queue_full")])
    refused = metrics.counter(dropped, help, [label, Label("reason", "refused")])
    lost = metrics.counter(dropped, help, [label, Label("reason", "not_delivered")])
    retries = metrics.counter("outrider_metrics_retries_total", "Requests that are sent again.", [label])
    metrics.read("outrider_metrics_samples_waiting", .gauge, "Samples that wait for the receiver.", [label]) {
      [weak self] in Double(self?.queue.withLock { $0.samples } ?? 0)
    }
  }

  fileprivate var first: PushRequest? { queue.withLock { $0.first } }

  fileprivate func offer(_ requests: [PushRequest]) {
    overflown.add(UInt64(queue.withLock { $0.offer(requests) }))
  }

  fileprivate func settle(_ request: PushRequest, _ outcome: PushQueue.Outcome) -> (wait: Duration, isNews: Bool) {
    switch outcome {
    case .taken(let rejected):
      sent.add(UInt64(request.samples - rejected))
      refused.add(UInt64(rejected))
    case .refused: refused.add(UInt64(request.samples))
    case .later: retries.add()
    }
    var random = SystemRandomNumberGenerator()
    return queue.withLock { $0.settle(request, outcome, using: &random) }
  }

  /// Nobody will send what waits; returns how many samples that were.
  fileprivate func giveUp() -> Int {
    let left = queue.withLock { queue in
      defer { queue = PushQueue() }
      return queue.samples
    }
    lost.add(UInt64(left))
    return left
  }
}

/// Of a worker's whole life, made when a receiver is first configured.
package final class MetricLines: Sendable {
  private let metrics: MetricRegistry
  private let made = Mutex<[MetricPushConfiguration.Format: MetricLine]>([:])

  package init(_ metrics: MetricRegistry) { self.metrics = metrics }

  package subscript(_ format: MetricPushConfiguration.Format) -> MetricLine {
    made.withLock { made in
      if let line = made[format] { return line }
      let line = MetricLine(format, metrics)
      made[format] = line
      return line
    }
  }

  /// What waits for receivers that are not configured any more is dropped.
  package func keep(_ formats: Set<MetricPushConfiguration.Format>) {
    let gone = made.withLock { made in made.filter { !formats.contains($0.key) }.map(\.value) }
    for line in gone { _ = line.giveUp() }
  }
}
