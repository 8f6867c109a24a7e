import Logging
import Synchronization
import Telemetry
import Traffic

/// Makes the gates of a configuration, and keeps over reloads what can be kept: buckets, counters and key sets.
final class GateBook: Sendable {
  private struct Place: Hashable {
    var listener: ListenerID
    /// Nil = the listener's own.
    var route: String?
  }

  private struct State {
    var limiters: [Place: SharedLimiter] = [:]
    var sources: [JWTConfiguration.Keys: KeySource] = [:]
    var counters: [[Label]: Counter] = [:]
    /// Of the configuration that is being compiled.
    var usedPlaces: Set<Place> = []
    var usedSources: Set<JWTConfiguration.Keys> = []
    var nextNumber = 0
  }

  private let metrics: MetricRegistry
  private let logger: Logger
  private let client: OutsideClient
  private let state = Mutex(State())

  init(metrics: MetricRegistry, logger: Logger, client: OutsideClient) {
    self.metrics = metrics
    self.logger = logger
    self.client = client
  }

  /// Forgets what the configuration that is compiled next does not use; it ends with `settle`.
  func begin() {
    state.withLock { state in
      state.usedPlaces = []
      state.usedSources = []
    }
  }

  /// The key sets in use.
  func settle() -> [KeySource] {
    state.withLock { state in
      let (places, sources) = (state.usedPlaces, state.usedSources)
      state.limiters = state.limiters.filter { places.contains($0.key) }
      for (keys, source) in state.sources where !sources.contains(keys) { source.retire() }
      state.sources = state.sources.filter { sources.contains($0.key) }
      return Array(state.sources.values)
    }
  }

  /// The gate of a listener (`route` is nil) or of one of its routes; nil = nothing is checked.
  func gate(_ configuration: SecurityConfiguration, _ listener: ListenerID, route: String?) -> CompiledGate? {
    guard !configuration.isEmpty else { return nil }
    let labels = [Label("direction", listener.direction.rawValue), Label("listener", listener.name)]
    let placed = labels + [Label("route", route ?? "")]
    let gate = CompiledGate(
      configuration, isOfRoute: route != nil,
      limiter: limiter(configuration.rates, Place(listener: listener, route: route)),
      jwt: configuration.jwt.map(tokenGate),
      results: { filter, isUsed in
        let results = ["allowed", "denied", "error"].map { result in
          isUsed
            ? counter(
              "outrider_authorization_total", "Decisions of filters about requests and connections.",
              labels + [Label("filter", filter), Label("result", result)]) : Counter()
        }
        return CompiledGate.Results(allowed: results[0], denied: results[1], failed: results[2])
      },
      limited: configuration.rates.isEmpty
        ? Counter() : counter("outrider_rate_limited_total", "Requests above a rate limit.", placed),
      delayed: configuration.fault?.delay == nil ? Counter() : faults(placed, "delay"),
      aborted: configuration.fault?.abort == nil ? Counter() : faults(placed, "abort"))
    if case .unusable(let reason) = gate.externalTrust {
      logger.error("\(listener): the authorization service cannot be asked: \(reason)")
    }
    return gate
  }

  private func faults(_ labels: [Label], _ kind: String) -> Counter {
    counter("outrider_faults_injected_total", "Failures made on purpose.", labels + [Label("fault", kind)])
  }

  private func counter(_ name: String, _ help: String, _ labels: [Label]) -> Counter {
    state.withLock { state in
      let key = [Label("", name)] + labels
      let found = state.counters[key] ?? metrics.counter(name, help, labels)
      state.counters[key] = found
      return found
    }
  }

  private func limiter(_ rates: [RateLimitConfiguration], _ place: Place) -> SharedLimiter? {
    guard !rates.isEmpty else { return nil }
    return state.withLock { state in
      state.usedPlaces.insert(place)
      if let kept = state.limiters[place], kept.configuration == rates { return kept }
      let made = SharedLimiter(rates)
      state.limiters[place] = made
      return made
    }
  }

  private func tokenGate(_ configuration: JWTConfiguration) -> TokenGate {
    let (source, number) = state.withLock { state in
      state.usedSources.insert(configuration.keys)
      state.nextNumber += 1
      let found =
        state.sources[configuration.keys]
        ?? KeySource(configuration.keys, client: client, metrics: metrics, logger: logger)
      state.sources[configuration.keys] = found
      return (found, state.nextNumber)
    }
    return TokenGate(number: number, verifier: JWTVerifier(configuration), source: source)
  }
}
