import Glibc
import NIOSSL
import Synchronization

/// The certificate of the webhook, from files that something else renews (a mounted Secret): read again when they have
/// changed, at the next connection. What cannot be read leaves the last good one in use.
final class ServerCertificate: Sendable {
  private struct State {
    var context: NIOSSLContext
    var stamp: [Int]
  }
  private let chain: String
  private let key: String
  private let state: Mutex<State>
  private let note: @Sendable (String) -> Void

  init(chain: String, key: String, note: @escaping @Sendable (String) -> Void) throws {
    self.chain = chain
    self.key = key
    self.note = note
    state = Mutex(State(context: try Self.load(chain, key), stamp: Self.stamp(chain, key)))
  }

  /// The newest that can be used.
  var context: NIOSSLContext {
    state.withLock { state in
      let stamp = Self.stamp(chain, key)
      guard stamp != state.stamp else { return state.context }
      state.stamp = stamp
      do {
        state.context = try Self.load(chain, key)
        note("the certificate in \(chain) has changed and is in use")
      } catch {
        note("the certificate in \(chain) has changed and cannot be used (\(error)); the one before stays")
      }
      return state.context
    }
  }

  private static func load(_ chain: String, _ key: String) throws -> NIOSSLContext {
    let certificates = try NIOSSLCertificate.fromPEMFile(chain).map { NIOSSLCertificateSource.certificate($0) }
    var configuration = TLSConfiguration.makeServerConfiguration(
      certificateChain: certificates, privateKey: .privateKey(try NIOSSLPrivateKey(file: key, format: .pem)))
    configuration.minimumTLSVersion = .tlsv12
    configuration.applicationProtocols = ["http/1.1"]
    return try NIOSSLContext(configuration: configuration)
  }

  /// Changes whenever a file is written or replaced.
  private static func stamp(_ paths: String...) -> [Int] {
    paths.flatMap { path -> [Int] in
      var info = Glibc.stat()
      guard stat(path, &info) == 0 else { return [-1] }
      return [Int(info.st_ino), Int(info.st_size), info.st_mtim.tv_sec, info.st_mtim.tv_nsec]
    }
  }
}
