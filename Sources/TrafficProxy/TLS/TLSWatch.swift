import Logging
import Telemetry
import Traffic

/// Keeps the TLS endpoints of a proxy current: looks at files twice a second, and at secrets when they change.
actor TLSWatch {
  private struct Entry {
    var endpoint: any ReloadingTLS
    var watch = MaterialWatch<[MaterialSignature]>()
    /// When the first certificate in use ends, in seconds since 1970; nil = that has been said.
    var expires: Int64?
  }

  /// Twice in the second within which a rotation has to be seen.
  static let interval = Duration.milliseconds(400)

  nonisolated let material: MaterialSource
  private let logger: Logger
  private let metrics: MetricRegistry
  private var errors: [TLSOwner: Counter] = [:]
  nonisolated let expiries: CertificateExpiries
  private var entries: [Entry] = []
  private var generation = 0
  private var ticking: Task<Void, Never>?

  init(material: MaterialSource, metrics: MetricRegistry, logger: Logger) {
    self.material = material
    self.logger = logger
    self.metrics = metrics
    expiries = CertificateExpiries(metrics: metrics)
  }

  /// Takes over the endpoints of a configuration and looks at them; those that stay keep their state. Stale calls are
  /// ignored.
  func follow(_ endpoints: [any ReloadingTLS], generation: Int) {
    guard generation > self.generation else { return }
    self.generation = generation
    let gone = entries.filter { old in !endpoints.contains { $0 === old.endpoint } }
    entries = endpoints.map { endpoint in entries.first { $0.endpoint === endpoint } ?? Entry(endpoint: endpoint) }
    for entry in gone where !entries.contains(where: { $0.endpoint.owner == entry.endpoint.owner }) {
      expiries.update(entry.endpoint.owner, [:])
    }
    look()
    ticking?.cancel()
    ticking =
      entries.isEmpty
      ? nil
      : Task { [weak self] in
        while !Task.isCancelled {
          try? await Task.sleep(for: TLSWatch.interval)
          await self?.look()
        }
      }
  }

  /// Secrets of these names have changed.
  func changed(_ names: [String]) {
    let names = Set(names)
    for index in entries.indices where !entries[index].endpoint.secretNames.isDisjoint(with: names) { look(index) }
  }

  func stop() {
    ticking?.cancel()
    ticking = nil
    entries = []
    generation = .max
  }

  private func look() { for index in entries.indices { look(index) } }

  private func look(_ index: Int) {
    let endpoint = entries[index].endpoint
    if let expires = entries[index].expires, expires <= Moment.now {
      entries[index].expires = nil
      logger.error("\(endpoint.place): the certificate in use expired at \(Moment.text(expires)) and was not replaced")
    }
    let signatures = endpoint.signatures(material)
    guard entries[index].watch.wantsReading(signatures) else { return }
    let wasMissing = entries[index].watch.state == .missing
    do throws(TLSMaterialError) {
      let times = try endpoint.load(material, now: Moment.now)
      expiries.update(endpoint.owner, times)
      entries[index].expires = times.values.min()
      report(entries[index].watch.loaded(signatures), endpoint, times, isFirst: wasMissing)
    } catch {
      guard case .failed(let reason) = entries[index].watch.failed(signatures, error.description) else { return }
      errorCounter(endpoint.owner).add()
      let inUse =
        wasMissing ? "TLS connections are refused until it is there" : "the last good certificate stays in use"
      logger.warning("\(endpoint.place): \(reason); \(inUse)")
    }
  }

  private func errorCounter(_ owner: TLSOwner) -> Counter {
    let counter =
      errors[owner]
      ?? metrics.counter(
        "outrider_tls_certificate_errors_total", "New certificates, keys or authorities that could not be used.",
        [owner.label])
    errors[owner] = counter
    return counter
  }

  private func report(
    _ notice: MaterialWatch<[MaterialSignature]>.Notice, _ endpoint: any ReloadingTLS, _ times: [String: Int64],
    isFirst: Bool
  ) {
    guard notice == .healed || !isFirst else { return }
    let until = times.values.min().map { ", valid until \(Moment.text($0))" } ?? ""
    logger.info("\(endpoint.place): new handshakes use the new certificate\(until)")
  }
}
