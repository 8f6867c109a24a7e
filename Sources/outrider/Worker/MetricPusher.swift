import AsyncHTTPClient
import Glibc
import Logging
import MetricExporter
import SecretAgent
import Secrets
import Telemetry
import Traffic
import Vocabulary

/// The exporter of metrics that runs, and its task.
struct MetricPusher: Sendable {
  let exporter: MetricExporter
  let running: Task<Void, Never>

  /// Sends what is left.
  func end() async {
    running.cancel()
    await running.value
    await exporter.flush()
  }
}

extension Worker {
  /// Begins to send metrics, goes on with a new configuration, or ends.
  func followMetrics(_ configuration: MetricPushConfiguration?) async {
    if let pusher {
      pusher.running.cancel()
      await pusher.running.value
    }
    pusher = nil
    metricLines.keep(Set(configuration?.receivers.map(\.format) ?? []))
    guard let configuration else { return }
    let book = agent.book
    let scraper = scraper
    let uptime = facts.started.duration(to: .now)
    let now = Self.nanosecondsNow()
    let source = MetricSource(
      all: { await scraper.text() }, own: metrics, host: Self.hostName(), version: ProductVersion.text,
      start: now &- UInt64(max(0, uptime.inNanoseconds)), clock: { Self.nanosecondsNow() })
    let exporter = MetricExporter(
      configuration, source: source, lines: metricLines, client: sender, secrets: { book.resolve($0) }, logger: logger)
    pusher = MetricPusher(exporter: exporter, running: Task { await exporter.run() })
  }

  private static func nanosecondsNow() -> UInt64 {
    var time = timespec()
    clock_gettime(CLOCK_REALTIME, &time)
    return UInt64(time.tv_sec) &* 1_000_000_000 &+ UInt64(time.tv_nsec)
  }

  private static func hostName() -> String {
    var name = [CChar](repeating: 0, count: 256)
    guard gethostname(&name, 255) == 0 else { return "localhost" }
    return String(decoding: name.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
  }
}
