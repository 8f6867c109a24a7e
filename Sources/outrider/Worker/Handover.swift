import CLinux
import ConfigurationFile
import Glibc
import Logging
import NIOCore
import SecretAgent
import Secrets
import Synchronization
import Telemetry
import Threads
import Vocabulary

/// What one worker hands to the next through a socket of their own. Lines, the first octet of each is its kind:
/// `s` secrets and logins, `m` metrics (both JSON), `.` the giver has let go of spool, secrets and state directory;
/// then, until the giver ends, `a` access records and `m` what was counted since.
enum HandoverLine {
  static let secrets = UInt8(ascii: "s")
  static let metrics = UInt8(ascii: "m")
  static let released = UInt8(ascii: ".")
  static let access = UInt8(ascii: "a")
  /// Octets of a line: a secret may have some MiB.
  static let limit = 64 << 20
}

/// The taker's side.
final class Handover: Sendable {
  private struct State {
    var secrets: [JSONNode] = []
    var metrics: [MetricRegistry.Retained] = []
    var access: [UInt8] = []
    var registry: MetricRegistry?
    var events: EventStream?
    var waiting: CheckedContinuation<Void, Never>?
    var isReleased = false
  }

  private let state = Mutex(State())

  /// Returns when the giver has let go, or is gone. Takes ownership of the socket.
  static func receive(_ socket: CInt) async -> Handover {
    let handover = Handover()
    await withCheckedContinuation { continuation in
      handover.state.withLock { $0.waiting = continuation }
      let started = WorkThread.start {
        handover.read(socket)
        handover.release()
      }
      if !started {
        close(socket)
        handover.release()
      }
    }
    return handover
  }

  /// What was counted and what the giver still counts and records goes there.
  func follow(metrics: MetricRegistry, events: EventStream) {
    let (early, access) = state.withLock { state in
      state.registry = metrics
      state.events = events
      defer { (state.metrics, state.access) = ([], []) }
      return (state.metrics, state.access)
    }
    for entry in early { metrics.adopt(entry) }
    if !access.isEmpty { access.withUnsafeBytes { events.publish(.access, $0) } }
  }

  func secrets(
    _ configuration: SecretsConfiguration, input: ConfigurationInput, metrics: MetricRegistry,
    group: any EventLoopGroup, logger: Logger, logins: KeptLogins?
  ) async throws -> SecretInheritance {
    let nodes = state.withLock { state in
      defer { state.secrets = [] }
      return state.secrets
    }
    return try await SecretAgent.inheritance(
      from: nodes, configuration: configuration, baseDirectory: input.workingDirectory, metrics: metrics,
      group: group, logger: logger, logins: logins)
  }

  private func release() {
    state.withLock { state in
      state.isReleased = true
      defer { state.waiting = nil }
      return state.waiting
    }?.resume()
  }

  private func read(_ socket: CInt) {
    defer { close(socket) }
    var line: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 64 << 10)
    while true {
      let count = Glibc.read(socket, &buffer, buffer.count)
      if count < 0, errno == EINTR { continue }
      guard count > 0 else { return }
      var rest = buffer[..<count]
      while let end = rest.firstIndex(of: 10) {
        line += rest[..<end]
        take(line)
        line = []
        rest = rest[(end + 1)...]
      }
      line += rest
      if line.count > HandoverLine.limit { return }
    }
  }

  private func take(_ line: [UInt8]) {
    guard let kind = line.first else { return }
    switch kind {
    case HandoverLine.released: release()
    case HandoverLine.secrets:
      if let node = try? JSONParser.parse(Array(line.dropFirst())) { state.withLock { $0.secrets.append(node) } }
    case HandoverLine.metrics:
      guard let node = try? JSONParser.parse(Array(line.dropFirst())), let entry = MetricRegistry.Retained(node) else {
        return
      }
      let registry = state.withLock { state in
        if state.registry == nil { state.metrics.append(entry) }
        return state.registry
      }
      registry?.adopt(entry)
    case HandoverLine.access:
      let record = Array(line.dropFirst()) + [10]
      let events = state.withLock { state in
        if state.events == nil { state.access += record }
        return state.events
      }
      if let events { record.withUnsafeBytes { events.publish(.access, $0) } }
    default: return
    }
  }
}

/// The giver's side. Writing waits for the taker, so that it happens on threads of its own.
final class HandoverWriter: Sendable {
  private let socket: CInt
  private let sending = Mutex<Void>(())

  /// Takes ownership of the socket.
  init(_ socket: CInt) { self.socket = socket }

  deinit { close(socket) }

  /// One line of each text. False when the taker is gone.
  @discardableResult
  func write(_ kind: UInt8, _ lines: [some Sequence<UInt8>]) -> Bool {
    var bytes: [UInt8] = []
    for line in lines {
      bytes.append(kind)
      bytes.append(contentsOf: line)
      bytes.append(10)
    }
    return sending.withLock { _ in
      var sent = 0
      while sent < bytes.count {
        let count = bytes[sent...].withUnsafeBytes { outrider_send(socket, $0.baseAddress, $0.count, nil, 0) }
        guard count > 0 else { return false }
        sent += count
      }
      return true
    }
  }

  /// Runs `body` on a thread of its own and waits for it.
  func use(_ body: @escaping @Sendable (HandoverWriter) -> Void) async {
    await withCheckedContinuation { continuation in
      let started = WorkThread.start { [self] in
        body(self)
        continuation.resume()
      }
      if !started { continuation.resume() }
    }
  }
}

extension MetricRegistry.Retained {
  var json: String {
    func numbers(_ values: [UInt64]) -> JSONNode { .array(values.map { .number("\($0)") }) }
    return JSONNode.object([
      ("name", .string(name)), ("help", .string(help)),
      ("labels", .array(labels.map { .array([.string($0.name), .string($0.value)]) })), ("bounds", numbers(bounds)),
      ("values", numbers(values)),
    ]).json
  }

  init?(_ node: JSONNode) {
    func numbers(_ node: JSONNode?) -> [UInt64]? {
      guard case .array(let items)? = node else { return nil }
      return items.compactMap { if case .number(let text) = $0 { UInt64(text) } else { nil } }
    }
    guard let name = node["name"]?.string, let help = node["help"]?.string, case .array(let pairs)? = node["labels"],
      let bounds = numbers(node["bounds"]), let values = numbers(node["values"]),
      values.count == (bounds.isEmpty ? 1 : bounds.count + 2)
    else { return nil }
    let labels = pairs.compactMap { pair -> Label? in
      guard case .array(let words) = pair, words.count == 2, let name = words[0].string, let value = words[1].string
      else { return nil }
      return Label(name, value)
    }
    self.init(name: name, help: help, labels: labels, bounds: bounds, values: values)
  }
}
