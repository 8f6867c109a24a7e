import AsyncHTTPClient
import NIOCore
import NIOHTTP1
import NIOPosix
import NIOSSL
import Secrets
import Vocabulary

/// Requests to one Vault or OpenBao server.
struct VaultClient: Sendable {
  /// A reply longer than this many bytes is an error.
  static let limit = 4 << 20

  let http: HTTPClient
  let address: String
  let namespace: String?
  let timeout: Duration

  /// Throws when a file named by `tls` cannot be used.
  init(
    _ configuration: VaultConfiguration, _ absolute: (String) -> String, group: any EventLoopGroup, timeout: Duration
  ) throws(FileFailure) {
    var client = HTTPClient.Configuration(tlsConfiguration: try Self.tls(configuration.tls, absolute))
    client.redirectConfiguration = .disallow
    client.timeout.connect = .nanoseconds(timeout.inNanoseconds / 2)
    client.timeout.read = .nanoseconds(timeout.inNanoseconds)
    client.connectionPool.retryConnectionEstablishment = false
    http = HTTPClient(eventLoopGroupProvider: .shared(group), configuration: client)
    address = configuration.address
    namespace = configuration.namespace
    self.timeout = timeout
  }

  /// `path` comes after `/v1/` and is escaped here. The body is JSON.
  func request(
    _ method: HTTPMethod, _ path: String, token: SecretBytes? = nil, body: [UInt8]? = nil
  ) async throws(VaultFailure) -> JSONNode {
    var request = HTTPClientRequest(url: "\(address)/v1/\(Self.escape(path))")
    request.method = method
    if let namespace { request.headers.add(name: "X-Vault-Namespace", value: namespace) }
    if let token { request.headers.add(name: "X-Vault-Token", value: String(decoding: token.copy(), as: UTF8.self)) }
    request.headers.add(name: "X-Vault-Request", value: "true")
    if let body {
      request.headers.add(name: "Content-Type", value: "application/json")
      request.body = .bytes(ByteBuffer(bytes: body))
    }
    let (status, bytes) = try await exchange(request)
    defer { bytes.erase() }
    return try VaultReply.decode(status: status, bytes)
  }

  func shutdown() async { try? await http.shutdown() }

  private func exchange(_ request: HTTPClientRequest) async throws(VaultFailure) -> (Int, [UInt8]) {
    let (http, timeout) = (http, timeout)
    let outcome: Result<(Int, [UInt8]), VaultFailure> = await withTaskGroup(
      of: Result<(Int, [UInt8]), VaultFailure>.self
    ) { group in
      group.addTask {
        do {
          let response = try await http.execute(request, timeout: .nanoseconds(timeout.inNanoseconds))
          var body = ErasingText(capacity: 4096)
          for try await piece in response.body {
            guard body.bytes.count + piece.readableBytes <= Self.limit else {
              body.bytes.erase()
              return .failure(.malformed("the reply is larger than 4 MiB"))
            }
            body.append(piece.readableBytesView)
            piece.withUnsafeReadableBytes { $0.erase() }
          }
          return .success((Int(response.status.code), body.bytes))
        } catch {
          return .failure(Self.failure(error, timeout))
        }
      }
      group.addTask {
        try? await Task.sleep(for: timeout)
        return .failure(.unreachable("no whole reply within \(DurationText.format(timeout))"))
      }
      defer { group.cancelAll() }
      return await group.next() ?? .failure(.unreachable("no reply"))
    }
    return try outcome.get()
  }

  private static func failure(_ error: any Error, _ timeout: Duration) -> VaultFailure {
    let text = "\(error)"
    if let explanation = ClientTLSConfiguration.explanation(ofError: text) { return .unreachable(explanation) }
    if text.contains("Connection refused") { return .unreachable("connection refused") }
    if let failure = error as? NIOConnectionError, failure.connectionErrors.isEmpty {
      return .unreachable("the name \(failure.host) cannot be resolved")
    }
    if text.contains("imeout") || text.contains("deadlineExceeded") {
      return .unreachable("no reply within \(DurationText.format(timeout))")
    }
    return .unreachable(String(text.prefix(200)))
  }

  /// RFC 3986 section 3.3: what may not stand in a path is escaped; slashes stay.
  static func escape(_ path: String) -> String {
    let digits = Array("0123456789ABCDEF".utf8)
    let bytes = path.utf8.flatMap { byte -> [UInt8] in
      switch byte {
      case 0x30...0x39, 0x41...0x5A, 0x61...0x7A, 0x2D, 0x2E, 0x2F, 0x5F, 0x7E: [byte]
      default: [0x25, digits[Int(byte >> 4)], digits[Int(byte & 15)]]
      }
    }
    return String(decoding: bytes, as: UTF8.self)
  }

  private static func tls(
    _ configuration: ClientTLSConfiguration, _ absolute: (String) -> String
  ) throws(FileFailure) -> TLSConfiguration {
    var tls = TLSConfiguration.makeClientConfiguration()
    do {
      if let ca = configuration.ca {
        tls.trustRoots = .certificates(try NIOSSLCertificate.fromPEMFile(absolute(ca)))
      }
      if let certificate = configuration.certificate {
        tls.certificateChain = try NIOSSLCertificate.fromPEMFile(absolute(certificate)).map { .certificate($0) }
      }
      if let key = configuration.key ?? configuration.certificate {
        tls.privateKey = .privateKey(try NIOSSLPrivateKey(file: absolute(key), format: .pem))
      }
    } catch {
      let files = [configuration.ca, configuration.certificate, configuration.key].compactMap(\.self)
      throw FileFailure("cannot use the PEM files \(files.joined(separator: ", ")) of a store's `tls`: \(error)")
    }
    if !configuration.verify { tls.certificateVerification = .none }
    return tls
  }
}
