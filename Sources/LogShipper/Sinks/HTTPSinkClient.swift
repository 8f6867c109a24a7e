import AsyncHTTPClient
import Logs
import NIOCore
import NIOHTTP1
import NIOSSL
import Synchronization
import Vocabulary

/// Takes a request's body to where a sink sends, and brings back what was said to it.
protocol SinkTransport: Sendable {
  /// One request with so many records to the address that `attempt` chooses. Ends early when its task is cancelled.
  func send(_ body: [UInt8], items: Int, attempt: Int) async -> SinkAnswer
  /// What the sink shows itself with, now: a sink that was refused for good tries again when it changes.
  func credentials() -> [UInt8]
  func shutdown() async
}

/// Sends requests by HTTP to one of several addresses, the next one after a failure.
final class HTTPSinkClient: SinkTransport {
  /// What all requests of a sink have in common.
  struct Plan: Sendable {
    var urls: [String]
    var contentType = "application/json"
    var accept = "application/json"
    var headers: [SinkHeader] = []
    /// Fields with a value that is no secret.
    var plain: [(name: String, value: String)] = []
  }

  /// Of an answer, bytes.
  static let responseLimit = 64 << 20

  private let client = Mutex<HTTPClient?>(nil)
  private let configuration: HTTPClient.Configuration
  private let group: any EventLoopGroup
  private let plan: Plan
  private let gzip: Bool
  private let secrets: LogPipeline.SecretResolver

  init(
    _ plan: Plan, _ sink: LogSinkConfiguration, group: any EventLoopGroup,
    secrets: @escaping LogPipeline.SecretResolver
  ) throws {
    self.plan = plan
    self.secrets = secrets
    gzip = sink.gzip
    var configuration = HTTPClient.Configuration(
      tlsConfiguration: try SinkTLS.configuration(sink.tls), redirectConfiguration: .disallow,
      timeout: .init(connect: .seconds(5), read: .seconds(30)))
    configuration.connectionPool.retryConnectionEstablishment = false
    self.configuration = configuration
    self.group = group
  }

  /// One request, at most 30 s.
  func send(_ body: [UInt8], items: Int, attempt: Int) async -> SinkAnswer {
    guard !plan.urls.isEmpty else { return .failed("no url is configured") }
    return await post(body, to: plan.urls[attempt % plan.urls.count])
  }

  func post(_ body: [UInt8], to url: String) async -> SinkAnswer {
    var request = HTTPClientRequest(url: url)
    request.method = .POST
    request.headers.add(name: "content-type", value: plan.contentType)
    request.headers.add(name: "accept", value: plan.accept)
    for field in plan.plain { request.headers.replaceOrAdd(name: field.name, value: field.value) }
    for header in plan.headers {
      guard let value = value(of: header) else {
        return .failed("a secret of the field \(header.name) is not there yet")
      }
      // The client would say the value in its error.
      guard value.allSatisfy({ $0 >= 0x20 && $0 != 0x7F || $0 == 0x09 }) else {
        return .failed(
          "a secret of the field \(header.name) holds a control character (a line end?); use `| trim` in its place")
      }
      request.headers.replaceOrAdd(name: header.name, value: String(decoding: value, as: UTF8.self))
    }
    if gzip, let packed = body.withUnsafeBytes({ Gzip.compress($0) }) {
      request.headers.add(name: "content-encoding", value: "gzip")
      request.body = .bytes(packed)
    } else {
      request.body = .bytes(body)
    }
    do {
      let response = try await opened().execute(request, timeout: .seconds(30))
      let answer = try await response.body.collect(upTo: Self.responseLimit)
      let asked = response.headers.first(name: "retry-after").flatMap { Int($0) }
      return .reply(
        status: Int(response.status.code), retryAfter: asked.map { .seconds(min(max(0, $0), 300)) },
        body: Array(answer.readableBytesView))
    } catch {
      return .failed("\(url): \(ClientTLSConfiguration.explanation(ofError: "\(error)") ?? "\(error)")")
    }
  }

  private func value(of header: SinkHeader) -> [UInt8]? {
    switch header.value {
    case .secret(let template, let prefix): return secrets(template).map { Array(prefix.utf8) + $0 }
    case .basic(let user, let password):
      guard let value = secrets(password) else { return nil }
      return Array("Basic ".utf8) + Base64Text.encode(Array(user.utf8) + [0x3A] + value, padded: true)
    }
  }

  func credentials() -> [UInt8] { plan.headers.flatMap { [0x0A] + (value(of: $0) ?? []) } }

  private func opened() -> HTTPClient {
    client.withLock { client in
      if let client { return client }
      let fresh = HTTPClient(eventLoopGroupProvider: .shared(group), configuration: configuration)
      client = fresh
      return fresh
    }
  }

  func shutdown() async {
    let client = client.withLock { client in
      defer { client = nil }
      return client
    }
    try? await client?.shutdown()
  }
}

enum SinkTLS {
  /// Throws an error that names the files.
  static func configuration(_ settings: ClientTLSConfiguration) throws -> TLSConfiguration {
    var tls = TLSConfiguration.makeClientConfiguration()
    do {
      if let ca = settings.ca { tls.trustRoots = .certificates(try NIOSSLCertificate.fromPEMFile(ca)) }
      if let certificate = settings.certificate {
        tls.certificateChain = try NIOSSLCertificate.fromPEMFile(certificate).map { .certificate($0) }
      }
      if let key = settings.key { tls.privateKey = .privateKey(try NIOSSLPrivateKey(file: key, format: .pem)) }
    } catch {
      let files = [settings.ca, settings.certificate, settings.key].compactMap(\.self).joined(separator: ", ")
      throw LogStorageError(description: "cannot use the PEM files \(files) of a sink's `tls`: \(error)")
    }
    if !settings.verify { tls.certificateVerification = .none }
    return tls
  }
}
