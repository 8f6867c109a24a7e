import AsyncHTTPClient
import NIOCore
import NIOPosix
import NIOSSL
import Synchronization

/// Who signs the certificates of those who are asked.
enum OutsideTrust: Sendable {
  case system
  case given(TLSConfiguration)
  /// The file cannot be used: nobody is trusted. Why.
  case unusable(String)

  /// Reads a PEM file; nil = the system's.
  init(_ file: String?) {
    guard let file else {
      self = .system
      return
    }
    do {
      var tls = TLSConfiguration.makeClientConfiguration()
      tls.trustRoots = .certificates(try NIOSSLCertificate.fromPEMBytes(try MaterialSource.read(file)))
      self = .given(tls)
    } catch {
      let reason = (error as? TLSMaterialError)?.description ?? "\(file) holds no certificate that can be read"
      self = .unusable(reason)
    }
  }
}

/// The client for what the checks ask others: key sets and authorization services. Made when first needed.
final class OutsideClient: Sendable {
  private enum State {
    /// Nobody has asked for it. Next: open, closed.
    case none
    case open(HTTPClient)
    case closed
  }

  private let group: MultiThreadedEventLoopGroup
  private let state = Mutex(State.none)

  init(group: MultiThreadedEventLoopGroup) { self.group = group }

  /// Nil once it was shut down.
  var client: HTTPClient? {
    state.withLock { state in
      switch state {
      case .open(let client): return client
      case .closed: return nil
      case .none:
        var configuration = HTTPClient.Configuration()
        configuration.redirectConfiguration = .disallow
        configuration.timeout.connect = .seconds(5)
        configuration.connectionPool.retryConnectionEstablishment = false
        configuration.connectionPool.concurrentHTTP1ConnectionsPerHostSoftLimit = 128
        let client = HTTPClient(eventLoopGroupProvider: .shared(group), configuration: configuration)
        state = .open(client)
        return client
      }
    }
  }

  func shutdown() async {
    let client: HTTPClient? = state.withLock { state in
      defer { state = .closed }
      if case .open(let client) = state { return client }
      return nil
    }
    try? await client?.shutdown()
  }
}
