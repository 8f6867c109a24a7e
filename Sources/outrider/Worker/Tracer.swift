import AsyncHTTPClient
import Logging
import SecretAgent
import Secrets
import Telemetry
import TraceExporter
import Traffic

/// The exporter that runs, and its task.
struct Tracer: Sendable {
  let exporter: TraceExporter
  let running: Task<Void, Never>
  let counters: TraceCounters

  /// Sends what is left.
  func end() async {
    running.cancel()
    await running.value
    await exporter.flush()
  }
}

extension Worker {
  /// Begins to send spans, goes on with a new configuration, or ends.
  func followTracing(_ configuration: TracingConfiguration?) {
    let counters = tracer?.counters
    tracer?.running.cancel()
    guard let configuration else {
      // The numbers stay what they are, should tracing come back.
      return
    }
    let book = agent.book
    let made = counters ?? TraceCounters(metrics, events.spans)
    let exporter = TraceExporter(
      configuration, queue: events.spans, client: sender, counters: made, version: ProductVersion.text,
      secrets: { book.resolve($0) }, logger: logger)
    tracer = Tracer(exporter: exporter, running: Task { await exporter.run() }, counters: made)
  }
}
