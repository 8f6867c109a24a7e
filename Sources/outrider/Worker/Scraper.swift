import AsyncHTTPClient
import Logging
import NIOCore
import NIOHTTP1
import Synchronization
import Telemetry
import Vocabulary

/// Asks other programs for their metrics when somebody asks for ours, and shows all together.
final class Scraper: Sendable {
  /// For one target, while Prometheus waits ten seconds by default.
  static let limit = TimeAmount.seconds(5)
  static let longestBody = 8 << 20

  /// How the last scrape of a target went.
  private struct Health {
    var isUp = false
    var samples = 0
    var seconds = 0.0
    var told: String?
  }

  private let registry: MetricRegistry
  private let client: HTTPClient
  private let logger: Logger
  private let targets: @Sendable () -> [String]
  private let health = Mutex<[String: Health]>([:])

  init(_ registry: MetricRegistry, client: HTTPClient, logger: Logger, targets: @escaping @Sendable () -> [String]) {
    self.registry = registry
    self.client = client
    self.logger = logger
    self.targets = targets
  }

  /// The Prometheus text of the sidecar and of what is scraped.
  func text() async -> String {
    let targets = targets()
    guard !targets.isEmpty else { return registry.prometheusText() }
    let scraped = await withTaskGroup(of: (Int, ScrapedMetrics?).self) { group in
      for (index, target) in targets.enumerated() {
        group.addTask { (index, await self.scrape(target)) }
      }
      var all: [(Int, ScrapedMetrics?)] = []
      for await one in group { all.append(one) }
      return all.sorted { $0.0 < $1.0 }
    }
    var text = registry.prometheusText()
    writeHealth(targets, to: &text)
    let sources = scraped.compactMap { index, metrics in metrics.map { (targets[index], $0) } }
    ScrapedMetrics.write(sources, taken: registry.names.union(Self.names), to: &text)
    return text
  }

  private static let names: Set<String> = [
    "outrider_scrape_up", "outrider_scrape_samples", "outrider_scrape_seconds",
  ]

  private func writeHealth(_ targets: [String], to text: inout String) {
    let health = health.withLock { $0 }
    func family(_ name: String, _ help: String, _ value: (Health) -> String) {
      text += "# HELP \(name) \(help)\n# TYPE \(name) gauge\n"
      for target in targets { text += "\(name){target=\"\(target)\"} \(value(health[target] ?? Health()))\n" }
    }
    family("outrider_scrape_samples", "Samples of the last scrape.") { "\($0.samples)" }
    family("outrider_scrape_seconds", "Time of the last scrape.") { "\($0.seconds)" }
    family("outrider_scrape_up", "1 when the last scrape succeeded.") { $0.isUp ? "1" : "0" }
  }

  private func scrape(_ target: String) async -> ScrapedMetrics? {
    let start = ContinuousClock.now
    var metrics: ScrapedMetrics?
    var problem: String?
    do {
      var request = HTTPClientRequest(url: target)
      request.headers.add(name: "accept", value: "text/plain;version=0.0.4")
      request.headers.add(name: "user-agent", value: "outrider")
      let response = try await client.execute(request, timeout: Self.limit)
      let body = try await response.body.collect(upTo: Self.longestBody)
      if response.status.code == 200 {
        metrics = try ScrapedMetrics(String(buffer: body))
      } else {
        problem = "status \(response.status.code)"
      }
    } catch let error as ScrapedMetrics.Malformed {
      problem = "not the Prometheus text format, \(error)"
    } catch is NIOTooManyBytesError {
      problem = "more than \(Self.longestBody >> 20) MiB"
    } catch {
      problem = "\(error)"
    }
    let elapsed = start.duration(to: .now).inNanoseconds
    let isNews = health.withLock { all in
      var one = all[target] ?? Health()
      let isNews = problem != nil && one.told != problem
      one.told = problem
      one.isUp = metrics != nil
      one.samples = metrics?.count ?? 0
      one.seconds = Double(elapsed) / 1e9
      all[target] = one
      return isNews
    }
    if isNews, let problem { logger.warning("telemetry.scrape: \(target): \(problem)") }
    return metrics
  }
}
