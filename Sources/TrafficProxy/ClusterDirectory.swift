import NIOCore
import NIOPosix
import Synchronization
import Traffic
import Vocabulary

#if canImport(Glibc)
  import Glibc
#else
  import Musl
#endif

/// Where an endpoint is reached and what it is called.
struct ResolvedEndpoint: Sendable, Equatable {
  var address: SocketAddress
  /// The Host field for it: the configured name, with the port unless it is the scheme's own (80, with TLS 443).
  var host: String
  var weight: Int
}

/// What all event loops share about a cluster: limits in use, and its endpoints as resolution last found them.
final class ClusterShared: Sendable {
  enum Resolution: Sendable {
    /// No answer yet.
    case pending
    case ready([ResolvedEndpoint])
    /// No answer was ever good; the text says why.
    case failed(String)
  }

  let configuration: ClusterConfiguration
  let isApp: Bool
  /// Where the app is, for the cluster `app`.
  let app: Address?
  /// Nil = plaintext.
  let tls: ClusterTLS?
  let requests = Atomic<Int>(0)
  let connections = Atomic<Int>(0)
  let pending = Atomic<Int>(0)
  let retries = Atomic<Int>(0)
  let health: ClusterHealth
  private let resolution: Mutex<Resolution>
  private let failures = Mutex<(last: String, said: String)>(("", ""))
  private let names: [(host: String, port: Int, weight: Int)]
  private let fixed: [ResolvedEndpoint]

  /// `before` is the cluster of that name before a reload: of the same names, its last good answer stays in use.
  init(_ configuration: ClusterConfiguration, app: Address?, tls: ClusterTLS? = nil, before: ClusterShared? = nil) {
    self.configuration = configuration
    self.tls = tls
    health = ClusterHealth(configuration, before: before?.health)
    isApp = configuration.name == "app"
    self.app = isApp ? app : nil
    var endpoints: [EndpointConfiguration] = []
    if isApp {
      endpoints = app.map { [EndpointConfiguration(address: $0)] } ?? []
    } else {
      switch configuration.discovery {
      case .fixed(let list): endpoints = list
      case .dns(let host, let port): endpoints = [EndpointConfiguration(address: .tcp(host: host, port: port))]
      }
    }
    var names: [(host: String, port: Int, weight: Int)] = []
    var fixed: [ResolvedEndpoint] = []
    for endpoint in endpoints {
      switch endpoint.address {
      case .unix(let path):
        if let address = try? SocketAddress(unixDomainSocketPath: path) {
          fixed.append(ResolvedEndpoint(address: address, host: "localhost", weight: endpoint.weight))
        }
      case .tcp(let host, let port):
        if let address = try? SocketAddress(ipAddress: host.isEmpty ? "127.0.0.1" : host, port: port) {
          fixed.append(
            ResolvedEndpoint(
              address: address, host: Self.host(host, port, tls: tls != nil), weight: endpoint.weight))
        } else {
          names.append((host, port, endpoint.weight))
        }
      }
    }
    self.names = names
    self.fixed = fixed
    let first: Resolution
    if names.isEmpty {
      first = .ready(fixed)
    } else if let before, before.configuration.discovery == configuration.discovery, case .ready = before.current {
      first = before.current
    } else {
      first = .pending
    }
    resolution = Mutex(first)
  }

  private static func host(_ host: String, _ port: Int, tls: Bool) -> String {
    let name = host.contains(":") ? "[\(host)]" : host
    return port == (tls ? 443 : 80) ? name : "\(name):\(port)"
  }

  var current: Resolution { resolution.withLock { $0 } }
  var needsResolver: Bool { !names.isEmpty }

  /// Asks the system's resolver; blocks. Returns true when loops must be told.
  func resolve() -> Bool {
    var found = fixed
    var failure = ""
    for name in names {
      switch Self.lookUp(name.host, name.port) {
      case .success(let addresses):
        found += addresses.map {
          ResolvedEndpoint(
            address: $0, host: Self.host(name.host, name.port, tls: tls != nil), weight: name.weight)
        }
      case .failure(let error): failure = "`\(name.host)` does not resolve: \(error.text)"
      }
    }
    failures.withLock { $0.last = failure }
    return resolution.withLock { state in
      if case .ready(let old) = state {
        // The last good answer is kept when a name fails.
        if !failure.isEmpty || old == found { return false }
        state = .ready(found)
        return true
      }
      state = found.isEmpty ? .failed(failure) : .ready(found)
      return true
    }
  }

  /// What the last resolution did not find; nil when that was said already.
  func newFailure() -> String? {
    failures.withLock { failures in
      guard failures.last != failures.said else { return nil }
      failures.said = failures.last
      return failures.last.isEmpty ? nil : failures.last
    }
  }

  private struct LookUpError: Error { var text: String }

  private static func lookUp(_ host: String, _ port: Int) -> Result<[SocketAddress], LookUpError> {
    var hints = addrinfo()
    hints.ai_family = AF_UNSPEC
    #if canImport(Glibc)
      hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
    #else
      hints.ai_socktype = SOCK_STREAM
    #endif
    var list: UnsafeMutablePointer<addrinfo>?
    let code = getaddrinfo(host, String(port), &hints, &list)
    guard code == 0 else { return .failure(LookUpError(text: String(cString: gai_strerror(code)))) }
    defer { freeaddrinfo(list) }
    var addresses: [SocketAddress] = []
    var entry = list
    while let info = entry {
      if let raw = UnsafeRawPointer(info.pointee.ai_addr) {
        if info.pointee.ai_family == AF_INET {
          addresses.append(SocketAddress(raw.loadUnaligned(as: sockaddr_in.self)))
        } else if info.pointee.ai_family == AF_INET6 {
          addresses.append(SocketAddress(raw.loadUnaligned(as: sockaddr_in6.self)))
        }
      }
      entry = info.pointee.ai_next
    }
    return addresses.isEmpty ? .failure(LookUpError(text: "no addresses")) : .success(addresses)
  }
}
