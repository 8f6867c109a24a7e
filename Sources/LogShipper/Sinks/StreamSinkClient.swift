import Logs
import NIOCore
import NIOSSL
import Synchronization
import Vocabulary

/// Sends to one of several servers of a stream protocol over a connection that stays, to the next one after a failure.
final class StreamSinkClient: SinkTransport {
  enum Speech: Sendable {
    case syslog
    case forward(LogSinkConfiguration.ForwardOutput, host: String)
  }

  private let speech: Speech
  private let addresses: [Address]
  private let tls: NIOSSLContext?
  private let gzip: Bool
  private let group: any EventLoopGroup
  private let secrets: LogPipeline.SecretResolver
  private let current = Mutex<(connection: StreamConnection, address: Int, credentials: [UInt8])?>(nil)

  /// Throws when a file of `tls` cannot be used.
  init(
    _ speech: Speech, _ addresses: [Address], usesTLS: Bool, _ sink: LogSinkConfiguration, group: any EventLoopGroup,
    secrets: @escaping LogPipeline.SecretResolver
  ) throws {
    self.speech = speech
    self.addresses = addresses
    tls = usesTLS ? try NIOSSLContext(configuration: SinkTLS.configuration(sink.tls)) : nil
    gzip = sink.gzip
    self.group = group
    self.secrets = secrets
  }

  /// At most 30 s, and 5 s for a connection.
  func send(_ body: [UInt8], items: Int, attempt: Int) async -> SinkAnswer {
    let index = attempt % addresses.count
    do {
      let connection = try await connected(index)
      let timer = connection.closes(after: .seconds(30))
      defer { timer.cancel() }
      try await withTaskCancellationHandler {
        try await deliver(body, items, over: connection)
      } onCancel: {
        connection.close()
      }
      return .acknowledged
    } catch {
      drop()
      return .failed("\(addresses[index]): \(ClientTLSConfiguration.explanation(ofError: "\(error)") ?? "\(error)")")
    }
  }

  private func deliver(_ body: [UInt8], _ items: Int, over connection: StreamConnection) async throws {
    guard case .forward(let options, _) = speech else {
      try await connection.write(body)
      return try await connection.settle()
    }
    let packed = gzip ? body.withUnsafeBytes { Gzip.compress($0) } : nil
    let chunk =
      options.acknowledges ? String(decoding: Base64Text.encode(Self.random(), padded: true), as: UTF8.self) : nil
    try await connection.write(
      ForwardRequest.packed(
        tag: options.tag, entries: packed ?? body, size: items, chunk: chunk, compressed: packed != nil))
    guard let chunk else { return try await connection.settle() }
    let answer = try await value(from: connection)
    guard answer.member("ack")?.octets == Array(chunk.utf8) else {
      throw StreamConnection.Failure(description: "the server acknowledged another chunk than the one that was sent")
    }
  }

  private static func random() -> [UInt8] { (0..<16).map { _ in UInt8.random(in: .min ... .max) } }

  private func value(from connection: StreamConnection) async throws -> ForwardValue {
    var bytes: [UInt8] = []
    while true {
      bytes += try await connection.read()
      switch bytes.withUnsafeBytes({ ForwardValue.read($0) }) {
      case .value(let value, bytes.count): return value
      case .value, .invalid:
        throw StreamConnection.Failure(description: "the server's answer is none of the forward protocol")
      case .incomplete: continue
      }
    }
  }

  /// The open connection to that address, or a new one that is logged in.
  private func connected(_ index: Int) async throws -> StreamConnection {
    let shown = credentials()
    if let current = current.withLock({ $0 }), current.address == index, current.connection.isOpen,
      current.credentials == shown
    {
      return current.connection
    }
    drop()
    let connection = try await StreamConnection.open(addresses[index], tls: tls, group: group)
    current.withLock { $0 = (connection, index, shown) }
    if case .forward(let options, let host) = speech, let key = options.sharedKey {
      let timer = connection.closes(after: .seconds(10))
      defer { timer.cancel() }
      try await login(connection, options, key, host)
    }
    return connection
  }

  private func login(
    _ connection: StreamConnection, _ options: LogSinkConfiguration.ForwardOutput, _ key: SecretTemplate, _ host: String
  ) async throws {
    guard let key = secrets(key), let password = options.password.map({ secrets($0) }) ?? [] else {
      throw StreamConnection.Failure(description: "the secret of the login is not there yet")
    }
    guard let helo = try await value(from: connection).helo else {
      throw StreamConnection.Failure(description: "the server does not begin with HELO; does it have a shared key?")
    }
    let salt = Self.random()
    try await connection.write(
      ForwardRequest.ping(
        host: host, salt: salt, nonce: helo.nonce, key: key, user: options.user, password: password, auth: helo.auth))
    if let problem = try await value(from: connection).problemOfPong(salt: salt, nonce: helo.nonce, key: key) {
      throw StreamConnection.Failure(description: problem)
    }
  }

  private func drop() {
    let old = current.withLock { current in
      defer { current = nil }
      return current
    }
    old?.connection.close()
  }

  func credentials() -> [UInt8] {
    guard case .forward(let options, _) = speech else { return [] }
    return [options.sharedKey, options.password].flatMap { [0x0A] + ($0.flatMap { secrets($0) } ?? []) }
  }

  func shutdown() async { drop() }
}
