import AsyncHTTPClient
import Logs
import NIOCore
import NIOHTTP1
import NIOSSL
import Synchronization
import Vocabulary

/// Sends `_bulk` requests to one of several addresses, the next one after a failure.
final class BulkClient: Sendable {
  enum Answer {
    case status(Int, [UInt8])
    /// Nothing is known of what became of the request.
    case failed(String)
  }

  /// Of an answer, bytes.
  static let responseLimit = 64 << 20

  private let client = Mutex<HTTPClient?>(nil)
  private let configuration: HTTPClient.Configuration
  private let group: any EventLoopGroup
  private let urls: [String]
  private let options: LogSinkConfiguration.ElasticsearchOutput
  private let gzip: Bool
  private let secrets: LogPipeline.SecretResolver

  init(
    _ options: LogSinkConfiguration.ElasticsearchOutput, _ sink: LogSinkConfiguration, group: any EventLoopGroup,
    secrets: @escaping LogPipeline.SecretResolver
  ) throws {
    self.options = options
    self.secrets = secrets
    gzip = sink.gzip
    let suffix = "/_bulk" + (options.pipeline.map { "?pipeline=\($0)" } ?? "")
    urls = options.urls.map { url in
      var url = url
      while url.hasSuffix("/") { url.removeLast() }
      return url + suffix
    }
    var configuration = HTTPClient.Configuration(
      tlsConfiguration: try Self.tls(sink.tls), redirectConfiguration: .disallow,
      timeout: .init(connect: .seconds(5), read: .seconds(30)))
    configuration.connectionPool.retryConnectionEstablishment = false
    self.configuration = configuration
    self.group = group
  }

  private static func tls(_ settings: ClientTLSConfiguration) throws -> TLSConfiguration {
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

  /// One request, at most 30 s, to the address that `attempt` chooses.
  func send(_ body: [UInt8], attempt: Int) async -> Answer {
    guard !urls.isEmpty else { return .failed("no url is configured") }
    let url = urls[attempt % urls.count]
    var request = HTTPClientRequest(url: url)
    request.method = .POST
    request.headers.add(name: "content-type", value: "application/x-ndjson")
    request.headers.add(name: "accept", value: "application/json")
    if let problem = authorize(&request) { return .failed(problem) }
    if gzip, let packed = body.withUnsafeBytes({ Gzip.compress($0) }) {
      request.headers.add(name: "content-encoding", value: "gzip")
      request.body = .bytes(packed)
    } else {
      request.body = .bytes(body)
    }
    do {
      let response = try await opened().execute(request, timeout: .seconds(30))
      let answer = try await response.body.collect(upTo: Self.responseLimit)
      return .status(Int(response.status.code), Array(answer.readableBytesView))
    } catch {
      return .failed("\(url): \(ClientTLSConfiguration.explanation(ofError: "\(error)") ?? "\(error)")")
    }
  }

  private func authorize(_ request: inout HTTPClientRequest) -> String? {
    switch options.authorization {
    case .none: return nil
    case .basic(let user, let password):
      guard let value = secrets(password) else { return "the secret of \(password) is not there yet" }
      let pair = Array(user.utf8) + [0x3A] + value
      request.headers.add(
        name: "authorization", value: "Basic " + String(decoding: Base64Text.encode(pair, padded: true), as: UTF8.self))
    case .apiKey(let key):
      guard let value = secrets(key) else { return "the secret of \(key) is not there yet" }
      request.headers.add(name: "authorization", value: "ApiKey " + String(decoding: value, as: UTF8.self))
    }
    return nil
  }

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
