import AsyncHTTPClient
import Logging
import NIOCore
import NIOHTTP1
import Synchronization
import Telemetry
import Traffic

/// One key set: where it comes from, and the last good version of it. The same for all listeners, routes and loops.
final class KeySource: Sendable {
  private struct State {
    var set: JSONWebKeySet?
    var loadedAt: UInt64 = 0
    var schedule: KeySetSchedule
    var watch = MaterialWatch<MaterialSignature>()
    var lastFailure: String?
    var waiters: [@Sendable () -> Void] = []
    var isRetired = false
  }

  let keys: JWTConfiguration.Keys
  private let client: OutsideClient
  private let logger: Logger
  private let failures: Counter
  private let state: Mutex<State>
  /// Counts the versions that were good; what was verified with an older one is verified again.
  let version = Atomic<Int>(0)

  init(_ keys: JWTConfiguration.Keys, client: OutsideClient, metrics: MetricRegistry, logger: Logger) {
    self.keys = keys
    self.client = client
    self.logger = logger
    let refresh = if case .url(_, let refresh, _) = keys { refresh.nanoseconds } else { UInt64(0) }
    state = Mutex(State(schedule: KeySetSchedule(refresh: refresh)))
    let label = Label("jwks", keys.place)
    failures = metrics.counter("outrider_jwks_failures_total", "Key sets that could not be loaded.", [label])
    metrics.read("outrider_jwks_keys", .gauge, "Keys in the key set that is in use; 0 = none.", [label]) {
      [weak self] in
      Double(self?.inUse?.count ?? 0)
    }
    metrics.read("outrider_jwks_age_seconds", .gauge, "Since the key set was loaded.", [label]) { [weak self] in
      self?.age ?? 0
    }
    if case .file = keys { look(NIODeadline.now().uptimeNanoseconds) }
  }

  /// The last good key set; nil = there was none yet.
  var current: JSONWebKeySet? { state.withLock { $0.set } }

  private var inUse: JSONWebKeySet? { state.withLock { $0.isRetired ? nil : $0.set } }
  private var age: Double {
    let loadedAt = state.withLock { $0.isRetired || $0.set == nil ? 0 : $0.loadedAt }
    return loadedAt == 0 ? 0 : Double(NIODeadline.now().uptimeNanoseconds &- loadedAt) / 1e9
  }

  /// No configuration uses it any more.
  func retire() { state.withLock { $0.isRetired = true } }

  // MARK: Loading

  /// Called now and then: reads a file that has changed, fetches what is due.
  func look(_ now: UInt64) {
    switch keys {
    case .file(let path):
      let signature = MaterialSource.file(path)
      guard state.withLock({ $0.watch.wantsReading(signature) }) else { return }
      do throws(TLSMaterialError) {
        take(.success(try MaterialSource.read(path)), signature)
      } catch {
        take(.failure(Failure(description: error.description)), signature)
      }
    case .url(let url, _, let authorities):
      if state.withLock({ $0.schedule.begins(now: now) }) { fetch(url, authorities) }
    }
  }

  /// Requests that wait for one fetch at most.
  private static let mostWaiters = 1000

  /// A token names a key that the set has not, or there is no set yet: true when it is worth to wait, then `whenDone` is called on some thread.
  func refresh(_ now: UInt64, whenDone: @escaping @Sendable () -> Void) -> Bool {
    guard case .url(let url, _, let authorities) = keys else { return false }
    let wish = state.withLock { state in
      let wish = state.schedule.wish(now: now)
      let waits = wish != .refused && state.waiters.count < Self.mostWaiters
      if waits { state.waiters.append(whenDone) }
      return (fetches: wish == .fetch, waits: waits)
    }
    if wish.fetches { fetch(url, authorities) }
    return wish.waits
  }

  private struct Failure: Error { var description: String }

  private func fetch(_ url: String, _ authorities: String?) {
    Task { take(await get(url, OutsideTrust(authorities)), nil) }
  }

  private func get(_ url: String, _ trust: OutsideTrust) async -> Result<[UInt8], Failure> {
    guard let client = client.client else { return .failure(Failure(description: "the proxy is closing")) }
    var request = HTTPClientRequest(url: url)
    switch trust {
    case .system: break
    case .given(let tls): request.tlsConfiguration = tls
    case .unusable(let reason): return .failure(Failure(description: reason))
    }
    request.headers.add(name: "Accept", value: "application/json")
    do {
      let response = try await client.execute(request, timeout: .seconds(10))
      guard response.status.code == 200 else {
        return .failure(Failure(description: "the answer is \(response.status.code)"))
      }
      let body = try await response.body.collect(upTo: JSONWebKeySet.limit)
      return .success(Array(body.readableBytesView))
    } catch is NIOTooManyBytesError {
      return .failure(Failure(description: "the key set is larger than 256 KiB"))
    } catch {
      return .failure(Failure(description: String("\(error)".prefix(200))))
    }
  }

  private func take(_ text: Result<[UInt8], Failure>, _ signature: MaterialSignature?) {
    let parsed: Result<JSONWebKeySet, Failure> = text.flatMap { octets in
      do throws(JSONWebKeySet.Problem) { return .success(try JSONWebKeySet(octets)) } catch {
        return .failure(Failure(description: error.description))
      }
    }
    let now = NIODeadline.now().uptimeNanoseconds
    let (line, waiters) = state.withLock { state in
      let line = note(parsed, signature, now, &state)
      defer { state.waiters = [] }
      return (line, state.waiters)
    }
    if let line { logger.log(level: line.isGood ? .info : .warning, "\(line.text)") }
    for waiter in waiters { waiter() }
  }

  /// What is to be said about it, once.
  private func note(
    _ parsed: Result<JSONWebKeySet, Failure>, _ signature: MaterialSignature?, _ now: UInt64, _ state: inout State
  ) -> (isGood: Bool, text: String)? {
    switch parsed {
    case .success(let set):
      if let signature { _ = state.watch.loaded(signature) } else { state.schedule.loaded(now: now) }
      let isFirst = state.set == nil
      let healed = state.lastFailure != nil
      state.set = set
      state.loadedAt = max(1, now)
      state.lastFailure = nil
      version.add(1, ordering: .releasing)
      return healed || isFirst ? (true, "the key set \(keys.place) is in use, with \(set.count) keys") : nil
    case .failure(let failure):
      if let signature {
        _ = state.watch.failed(signature, failure.description)
      } else {
        state.schedule.failed(now: now)
      }
      if state.lastFailure == failure.description { return nil }
      state.lastFailure = failure.description
      failures.add()
      let effect = state.set == nil ? "tokens cannot be verified and are refused" : "the last good key set stays in use"
      return (false, "cannot load the key set \(keys.place): \(failure.description); \(effect)")
    }
  }
}

extension JWTConfiguration.Keys {
  /// For messages and labels: the file, or the URL without its query.
  var place: String {
    switch self {
    case .file(let path): path
    case .url(let url, _, _): String(url.prefix { $0 != "?" })
    }
  }
}

/// Looks at the key sets of a proxy twice a second.
actor KeyWatch {
  private var sources: [KeySource] = []
  private var generation = 0
  private var ticking: Task<Void, Never>?

  /// Takes over those of a configuration and looks at them. Stale calls are ignored.
  func follow(_ sources: [KeySource], generation: Int) {
    guard generation > self.generation else { return }
    self.generation = generation
    self.sources = sources
    ticking?.cancel()
    ticking = nil
    guard !sources.isEmpty else { return }
    look()
    ticking = Task { [weak self] in
      while !Task.isCancelled {
        try? await Task.sleep(for: TLSWatch.interval)
        await self?.look()
      }
    }
  }

  func stop() {
    ticking?.cancel()
    ticking = nil
    sources = []
    generation = .max
  }

  private func look() {
    let now = NIODeadline.now().uptimeNanoseconds
    for source in sources { source.look(now) }
  }
}
