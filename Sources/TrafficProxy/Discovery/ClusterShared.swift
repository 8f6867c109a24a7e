import NIOCore
import Synchronization
import Traffic
import Vocabulary

/// What all event loops share about a cluster: limits in use, and its endpoints as discovery last found them.
final class ClusterShared: Sendable {
  enum Resolution: Sendable {
    /// No answer yet.
    case pending
    case ready(EndpointSet)
    /// No answer was ever good; the text says why.
    case failed(String)
  }

  let configuration: ClusterConfiguration
  let isApp: Bool
  /// Where the app is, for the cluster `app`.
  let app: Address?
  /// Nil = plaintext.
  let tls: ClusterTLS?
  /// Nil = nobody counts it.
  let metrics: ClusterMetrics?
  let requests = Atomic<Int>(0)
  let connections = Atomic<Int>(0)
  let pending = Atomic<Int>(0)
  let retries = Atomic<Int>(0)
  let health: ClusterHealth
  private let found: Mutex<Found>
  /// Endpoints that are not looked for: as written in the configuration, or the app.
  private let fixed: [EndpointConfiguration]
  private let keepsOrder: Bool

  /// What discovery has found so far.
  private struct Found {
    var resolution = Resolution.pending
    /// The last good answer for each name in use.
    var addresses: [String: [SocketAddress]] = [:]
    /// The last good list of a file or of SRV records; nil = there was none.
    var list: [EndpointConfiguration]?
    /// Of the file that was read last.
    var signature: EndpointFileSource.Signature?
    var fileFailure = ""
    /// What the last round did not find, and what was said of it.
    var failure = ""
    var said = ""
  }

  /// `before` is the cluster of that name before a reload: when it is discovered the same way, what was found stays in
  /// use. `keepsOrder`: addresses are tried in the order in which the resolver has them.
  init(
    _ configuration: ClusterConfiguration, app: Address?, tls: ClusterTLS? = nil, before: ClusterShared? = nil,
    metrics: ClusterMetrics? = nil, keepsOrder: Bool = false
  ) {
    self.configuration = configuration
    self.tls = tls
    self.metrics = metrics
    self.keepsOrder = keepsOrder
    health = ClusterHealth(configuration, before: before?.health)
    isApp = configuration.name == "app"
    self.app = isApp ? app : nil
    if isApp {
      fixed = app.map { [EndpointConfiguration(address: $0)] } ?? []
    } else {
      switch configuration.discovery {
      case .fixed(let list): fixed = list
      case .dns(let host, let port): fixed = [EndpointConfiguration(address: .tcp(host: host, port: port))]
      case .srv, .file: fixed = []
      }
    }
    var found = Found()
    if let before, before.configuration.discovery == configuration.discovery {
      let old = before.found.withLock { $0 }
      found.addresses = old.addresses
      found.list = old.list
    }
    self.found = Mutex(found)
    let isKnown = found.list != nil || !isListed && Self.names(fixed).allSatisfy { found.addresses[$0] != nil }
    if isKnown { _ = publish(found.list ?? fixed, failure: "") }
  }

  var current: Resolution { found.withLock { $0.resolution } }
  /// The list of endpoints itself comes from outside.
  private var isListed: Bool {
    if isApp { return false }
    return switch configuration.discovery {
    case .fixed, .dns: false
    case .srv, .file: true
    }
  }
  /// Endpoints come and go by themselves.
  var isDiscovered: Bool { isListed || !Self.names(fixed).isEmpty }
  /// The file whose change is a reason to look again.
  var file: String? { if case .file(let path) = configuration.discovery, !isApp { path } else { nil } }
  /// What could not be found last; empty = nothing.
  var failure: String { found.withLock { $0.failure } }

  // MARK: Rounds

  struct Round: Sendable {
    /// Loops must be told.
    var hasChanged: Bool
    /// Everything was found.
    var isGood: Bool
    /// Of the answer that expires first; nil = nothing expires.
    var lifetime: Duration?
  }

  /// Looks for the endpoints; blocks.
  func discover(_ resolver: NameResolver, _ files: EndpointFileSource?) -> Round {
    var failures: [String] = []
    var lifetime: Duration?
    func note(_ duration: Duration) { lifetime = lifetime.map { min($0, duration) } ?? duration }
    var list = fixed
    switch configuration.discovery {
    case .srv(let name) where !isApp:
      switch resolver.services(name) {
      case .success(let records):
        note(.seconds(Int(records.lifetime)))
        list = records.records.map {
          EndpointConfiguration(
            address: .tcp(host: $0.target, port: $0.port), weight: max(1, $0.weight), priority: $0.priority)
        }
        found.withLock { $0.list = list }
      case .failure(let failure):
        failures.append("`\(name)` has no SRV records that can be used: \(failure.text)")
        list = found.withLock { $0.list } ?? []
      }
    case .file(let path) where !isApp:
      if let files, let failure = readFile(path, files) { failures.append(failure) }
      list = found.withLock { $0.list } ?? []
    default: break
    }
    let names = Self.names(list)
    let answers = names.isEmpty ? [:] : resolver.lookUp(names, inOrder: keepsOrder)
    found.withLock { found in
      let before = found.addresses
      for name in names {
        switch answers[name] {
        case .success(let answer):
          note(answer.lifetime)
          found.addresses[name] = answer.addresses
          if answer.isPartial { keepFamily(old: before[name] ?? [], &found.addresses[name, default: []]) }
        case .failure(let failure): failures.append("`\(name)` does not resolve: \(failure.text)")
        case nil: break
        }
      }
      let wanted = Set(names)
      found.addresses = found.addresses.filter { wanted.contains($0.key) }
    }
    let hasChanged = publish(list, failure: Self.joined(failures))
    metrics?.countRound(isGood: failures.isEmpty)
    return Round(hasChanged: hasChanged, isGood: failures.isEmpty, lifetime: lifetime)
  }

  /// The file is another one than was read last.
  var fileHasChanged: Bool {
    guard let file else { return false }
    return found.withLock { $0.signature } != EndpointFileSource.signature(file)
  }

  /// Reads the file when it is not the one that was read last. Returns what is wrong with it.
  private func readFile(_ path: String, _ files: EndpointFileSource) -> String? {
    let signature = EndpointFileSource.signature(path)
    let (known, failure) = found.withLock { ($0.signature, $0.fileFailure) }
    if let known, known == signature { return failure.isEmpty ? nil : failure }
    let content = files.read(path)
    return found.withLock { found in
      found.signature = signature
      switch content {
      case .success(let list):
        found.list = list
        found.fileFailure = ""
      case .failure(let problem): found.fileFailure = problem.description
      }
      return found.fileFailure.isEmpty ? nil : found.fileFailure
    }
  }

  /// What was known of the family that nobody answered for is still good.
  private func keepFamily(old: [SocketAddress], _ addresses: inout [SocketAddress]) {
    let fresh = addresses
    addresses += old.filter { known in !fresh.contains { $0.protocol == known.protocol } }
    if !keepsOrder { addresses = NameResolver.sorted(addresses) }
  }

  private static func joined(_ failures: [String]) -> String {
    let shown = failures.prefix(3).joined(separator: "; ")
    return failures.count > 3 ? "\(shown); and \(failures.count - 3) more" : shown
  }

  /// Makes the endpoints of the list known; true when they are others than before.
  private func publish(_ list: [EndpointConfiguration], failure: String) -> Bool {
    let addresses = found.withLock { $0.addresses }
    let endpoints = EndpointSet(list.flatMap { resolved($0, addresses) }, for: configuration)
    var failure = failure
    if endpoints.leftOut > 0 {
      let text =
        "it has \(EndpointSet.limit + endpoints.leftOut) endpoints, and the first \(EndpointSet.limit) are used: split it over several clusters"
      failure = failure.isEmpty ? text : "\(failure); \(text)"
    }
    return found.withLock { found in
      found.failure = failure
      let isUseless = endpoints.endpoints.isEmpty && !failure.isEmpty
      switch found.resolution {
      case .ready(let old):
        if isUseless || old.endpoints == endpoints.endpoints { return false }
        found.resolution = .ready(endpoints)
      case .pending, .failed:
        found.resolution = isUseless ? .failed(failure) : .ready(endpoints)
      }
      return true
    }
  }

  /// What was not found last; nil when that was said already.
  func newFailure() -> String? {
    found.withLock { found in
      guard found.failure != found.said else { return nil }
      found.said = found.failure
      return found.failure.isEmpty ? nil : found.failure
    }
  }

  // MARK: Endpoints

  /// Names that have to be looked up, each once.
  private static func names(_ list: [EndpointConfiguration]) -> [String] {
    var seen = Set<String>()
    return list.compactMap { endpoint in
      guard case .tcp(let host, _) = endpoint.address, literal(host, 0) == nil, seen.insert(host).inserted else {
        return nil
      }
      return host
    }
  }

  private static func literal(_ host: String, _ port: Int) -> SocketAddress? {
    try? SocketAddress(ipAddress: host.isEmpty ? "127.0.0.1" : host, port: port)
  }

  private func resolved(
    _ endpoint: EndpointConfiguration, _ known: [String: [SocketAddress]]
  ) -> [ResolvedEndpoint] {
    var addresses: [SocketAddress] = []
    var name = "localhost"
    switch endpoint.address {
    case .unix(let path):
      if let address = try? SocketAddress(unixDomainSocketPath: path) { addresses = [address] }
    case .tcp(let host, let port):
      name = Self.host(host, port, tls: tls != nil)
      if let address = Self.literal(host, port) {
        addresses = [address]
      } else {
        addresses = (known[host] ?? []).map {
          var address = $0
          address.port = port
          return address
        }
      }
    }
    return addresses.map {
      ResolvedEndpoint(
        address: $0, host: name, weight: endpoint.weight, locality: endpoint.locality, priority: endpoint.priority)
    }
  }

  private static func host(_ host: String, _ port: Int, tls: Bool) -> String {
    let name = host.contains(":") ? "[\(host)]" : host
    return port == (tls ? 443 : 80) ? name : "\(name):\(port)"
  }
}
