import NIOCore
import Secrets
import Synchronization
import Vocabulary

/// What the socket answers, apart from how it is carried.
///
/// `GET /v1/secrets` lists names; `GET /v1/secrets/NAME` has the fields of one, with an `ETag`. With `If-None-Match` an
/// unchanged secret is 304, and with `?wait=30s` that answer waits for a change. `GET /v1/memory` hands the shared memory
/// over as a descriptor.
final class SecretDesk: Sendable {
  struct Request {
    var isGet: Bool
    /// With its query.
    var target: String
    var ifNoneMatch: String?
  }

  enum Answer {
    case reply(status: Int, ByteBuffer, etag: String?)
    case unchanged(etag: String)
    /// Ask again when something changes, or answer `unchanged` after the time.
    case wait(etag: String, limit: Duration)
    case memory(SharedMemoryDelivery.Handle)
  }

  /// The longest wait for a change.
  static let longest = Duration.seconds(300)

  private struct State {
    /// Changes by name; an ETag tells nothing of the value.
    var changes: [String: UInt64] = [:]
    var followers: [ObjectIdentifier: @Sendable () -> Void] = [:]
  }

  private let state = Mutex(State())
  private let book: SecretBook
  private let ledger: SecretLedger
  private let memory: SharedMemoryDelivery
  /// ETags of another worker are never taken for ours.
  private let life = String(UInt64.random(in: .min ... .max), radix: 36)

  init(book: SecretBook, ledger: SecretLedger, memory: SharedMemoryDelivery) {
    self.book = book
    self.ledger = ledger
    self.memory = memory
  }

  func changed(_ names: [String]) {
    let followers = state.withLock { state in
      for name in names { state.changes[name, default: 0] += 1 }
      return Array(state.followers.values)
    }
    for follower in followers { follower() }
  }

  /// `follower` hears of every change, on the publisher's thread, until it is left out.
  func follow(_ id: ObjectIdentifier, _ follower: @escaping @Sendable () -> Void) {
    state.withLock { $0.followers[id] = follower }
  }

  func leave(_ id: ObjectIdentifier) { state.withLock { $0.followers[id] = nil } }

  func answer(_ request: Request) -> Answer {
    guard request.isGet else { return failure(405, "only GET is answered here") }
    let parts = request.target.split(separator: "?", maxSplits: 1, omittingEmptySubsequences: false)
    let path = parts[0]
    if path == "/v1/memory" {
      return memory.handle().map { .memory($0) }
        ?? failure(404, "shared memory is not configured: add `secrets.shared_memory`")
    }
    if path == "/v1/secrets" {
      let names = ledger.statuses.map(\.name)
      let list = JSONNode.object([("names", .array(names.map { .string($0) }))]).json
      return .reply(status: 200, ByteBuffer(string: list + "\n"), etag: nil)
    }
    guard path.hasPrefix("/v1/secrets/") else {
      return failure(404, "ask for /v1/secrets, /v1/secrets/NAME or /v1/memory")
    }
    var limit: Duration?
    if parts.count == 2, !parts[1].isEmpty {
      guard parts[1].hasPrefix("wait="), let wait = DurationText.parse(String(parts[1].dropFirst(5))) else {
        return failure(400, "the query is not `wait=DURATION`, for example `wait=30s`")
      }
      limit = min(max(wait, .zero), Self.longest)
    }
    return secret(String(path.dropFirst(12)), request.ifNoneMatch, limit)
  }

  private func secret(_ name: String, _ known: String?, _ limit: Duration?) -> Answer {
    // Before the value: a change in between makes the tag old, never the value.
    let etag = "\"\(life)-\(state.withLock { $0.changes[name] ?? 0 })\""
    let isKnown = ledger.statuses.contains { $0.name == name }
    guard isKnown, let fields = book.fields(name) else {
      return failure(
        404, isKnown ? "the secret `\(name)` is not there (yet)" : "there is no secret `\(name)` in the configuration")
    }
    if let known, known.split(separator: ",").contains(where: { $0.trimmed == etag || $0.trimmed == "W/" + etag }) {
      guard let limit, limit > .zero else { return .unchanged(etag: etag) }
      return .wait(etag: etag, limit: limit)
    }
    return .reply(status: 200, body(name, fields), etag: etag)
  }

  private func body(_ name: String, _ fields: [String: SecretBytes]) -> ByteBuffer {
    let version = book.version(name).map { JSONNode.quote($0) } ?? "null"
    let expires = book.expires(name).map(String.init) ?? "null"
    var buffer = ByteBuffer()
    // Room for all at once: a buffer that grows leaves copies behind.
    buffer.reserveCapacity(256 + fields.reduce(0) { $0 + $1.key.utf8.count * 6 + $1.value.count * 6 + 8 })
    buffer.writeString("{\"name\":\(JSONNode.quote(name)),\"version\":\(version),\"expires\":\(expires)")
    let sorted = fields.sorted { $0.key < $1.key }
    write(sorted.filter { $0.value.isText }, "data", into: &buffer) { $0.writeJSON($1) }
    let others = sorted.filter { !$0.value.isText }
    if !others.isEmpty {
      write(others, "data_base64", into: &buffer) { buffer, bytes in
        let text = Base64Text.encode(bytes, padded: true)
        buffer.writeInteger(UInt8(ascii: "\""))
        buffer.writeBytes(text)
        buffer.writeInteger(UInt8(ascii: "\""))
        text.erase()
      }
    }
    buffer.writeString("}\n")
    return buffer
  }

  private func write(
    _ fields: [(key: String, value: SecretBytes)], _ key: String, into buffer: inout ByteBuffer,
    _ value: (inout ByteBuffer, UnsafeRawBufferPointer) -> Void
  ) {
    buffer.writeString(",\"\(key)\":{")
    for (index, field) in fields.enumerated() {
      buffer.writeString((index == 0 ? "" : ",") + JSONNode.quote(field.key) + ":")
      field.value.withBytes { value(&buffer, $0) }
    }
    buffer.writeString("}")
  }

  private func failure(_ status: Int, _ reason: String) -> Answer {
    .reply(
      status: status, ByteBuffer(string: JSONNode.object([("error", .string(reason))]).json + "\n"), etag: nil)
  }
}

extension Substring {
  fileprivate var trimmed: Substring {
    var text = drop { $0 == " " }
    while text.last == " " { text.removeLast() }
    return text
  }
}

extension ByteBuffer {
  /// A JSON string of UTF-8 octets.
  fileprivate mutating func writeJSON(_ bytes: UnsafeRawBufferPointer) {
    writeInteger(UInt8(ascii: "\""))
    for byte in bytes {
      switch byte {
      case UInt8(ascii: "\""), UInt8(ascii: "\\"):
        writeInteger(UInt8(ascii: "\\"))
        writeInteger(byte)
      case 0x0A: writeString("\\n")
      case 0x0D: writeString("\\r")
      case 0x09: writeString("\\t")
      case 0..<0x20: writeString(byte < 16 ? "\\u000\(String(byte, radix: 16))" : "\\u00\(String(byte, radix: 16))")
      default: writeInteger(byte)
      }
    }
    writeInteger(UInt8(ascii: "\""))
  }
}
