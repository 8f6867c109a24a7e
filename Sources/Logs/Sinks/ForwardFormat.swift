import Crypto

/// Fluentd's forward protocol, PackedForward mode (Fluentd, "Forward Protocol Specification v1"): the entries of a message.
package struct ForwardFormat: SinkFormat {
  static let maximumDepth = 32

  package init() {}

  package var keepsOrder: Bool { true }

  package func encode(_ batch: SinkBatch, _ chosen: [Int]) -> [UInt8] {
    let arena = ByteArena(capacity: chosen.reduce(64) { $0 + batch.items[$1].record.count + 16 })
    for position in chosen {
      arena.append(messagePackArray: 2)
      arena.append(eventTime: batch.items[position].mark.time)
      arena.append(messagePackOf: batch.content(position), depth: Self.maximumDepth)
    }
    return Array(arena.bytes)
  }

  package func judge(_ answer: SinkAnswer, items: Int) -> SinkJudgement { SinkStatus.judge(answer) }
}

/// The messages around the entries, and the login with a shared key.
package enum ForwardRequest {
  /// `[tag, entries, {"size":…, "chunk":…, "compressed":"gzip"}]`; `chunk` asks for an acknowledgement.
  package static func packed(tag: String, entries: [UInt8], size: Int, chunk: String?, compressed: Bool) -> [UInt8] {
    let arena = ByteArena(capacity: entries.count + 128)
    arena.append(messagePackArray: 3)
    arena.append(messagePackText: tag)
    arena.append(messagePackBytes: entries)
    arena.append(messagePackMap: 1 + (chunk == nil ? 0 : 1) + (compressed ? 1 : 0))
    arena.append(messagePackText: "size")
    arena.append(messagePackInteger: Int64(size))
    if let chunk {
      arena.append(messagePackText: "chunk")
      arena.append(messagePackText: chunk)
    }
    if compressed {
      arena.append(messagePackText: "compressed")
      arena.append(messagePackText: "gzip")
    }
    return Array(arena.bytes)
  }

  /// `["PING", host, salt, digest, user, password digest]`, the answer to HELO.
  package static func ping(
    host: String, salt: [UInt8], nonce: [UInt8], key: [UInt8], user: String, password: [UInt8], auth: [UInt8]
  ) -> [UInt8] {
    let arena = ByteArena()
    arena.append(messagePackArray: 6)
    arena.append(messagePackText: "PING")
    arena.append(messagePackText: host)
    arena.append(messagePackBytes: salt)
    arena.append(messagePackText: digest(salt, Array(host.utf8), nonce, key))
    arena.append(messagePackText: auth.isEmpty ? "" : user)
    arena.append(messagePackText: auth.isEmpty ? "" : digest(auth, Array(user.utf8), password, []))
    return Array(arena.bytes)
  }

  /// Lower-case hexadecimal SHA-512 of the four parts, one behind the other.
  package static func digest(_ a: [UInt8], _ b: [UInt8], _ c: [UInt8], _ d: [UInt8]) -> String {
    let arena = ByteArena(capacity: 128)
    for byte in SHA512.hash(data: a + b + c + d) {
      arena.append(JSONText.hexDigit(of: byte >> 4))
      arena.append(JSONText.hexDigit(of: byte & 15))
    }
    return arena.bytes.text
  }
}

/// A message that a forward server sends: small, flat, and read strictly.
package indirect enum ForwardValue: Sendable, Equatable {
  case empty
  case flag(Bool)
  case number(Int64)
  /// Text or bytes.
  case bytes([UInt8])
  case list([ForwardValue])
  case map([ForwardValue])

  /// Of one message, bytes; more is no answer of this protocol.
  package static let limit = 64 << 10

  package enum Reading: Equatable {
    /// The value, and how many bytes it took.
    case value(ForwardValue, Int)
    case incomplete
    case invalid
  }

  package static func read(_ bytes: Bytes) -> Reading {
    var reader = MessagePack(bytes)
    do {
      let value = try read(&reader, depth: 4)
      return .value(value, reader.index)
    } catch { return error == .incomplete && bytes.count < limit ? .incomplete : .invalid }
  }

  private static func read(_ reader: inout MessagePack, depth: Int) throws(MessagePack.Problem) -> ForwardValue {
    guard depth > 0 else { throw .invalid }
    switch try reader.head() {
    case .null: return .empty
    case .boolean(let flag): return .flag(flag)
    case .integer(let number): return .number(number)
    case .unsigned(let number) where number <= UInt64(Int64.max): return .number(Int64(number))
    case .text(let count) where count <= limit, .binary(let count) where count <= limit:
      return .bytes(Array(try reader.take(count)))
    case .array(let count) where count <= limit: return .list(try values(&reader, count, depth))
    case .map(let count) where count <= limit: return .map(try values(&reader, 2 * count, depth))
    default: throw .invalid
    }
  }

  private static func values(_ reader: inout MessagePack, _ count: Int, _ depth: Int) throws(MessagePack.Problem)
    -> [ForwardValue]
  {
    var values: [ForwardValue] = []
    for _ in 0..<count { values.append(try read(&reader, depth: depth - 1)) }
    return values
  }

  package var octets: [UInt8]? { if case .bytes(let bytes) = self { bytes } else { nil } }
  package var isTrue: Bool { self == .flag(true) }

  package func member(_ name: String) -> ForwardValue? {
    guard case .map(let entries) = self else { return nil }
    for index in stride(from: 0, to: entries.count - 1, by: 2) where entries[index].octets == Array(name.utf8) {
      return entries[index + 1]
    }
    return nil
  }

  /// The nonce and the salt for the user's password of `["HELO", {…}]`; nil when it is none.
  package var helo: (nonce: [UInt8], auth: [UInt8])? {
    guard case .list(let parts) = self, parts.count == 2, parts[0].octets == Array("HELO".utf8),
      let nonce = parts[1].member("nonce")?.octets
    else { return nil }
    return (nonce, parts[1].member("auth")?.octets ?? [])
  }

  /// Nil when `["PONG", true, "", host, digest]` proves that the server knows the key, else what is wrong.
  package func problemOfPong(salt: [UInt8], nonce: [UInt8], key: [UInt8]) -> String? {
    guard case .list(let parts) = self, parts.count == 5, parts[0].octets == Array("PONG".utf8) else {
      return "the server's answer to the login is none of the forward protocol"
    }
    guard parts[1].isTrue else {
      let reason = String(decoding: (parts[2].octets ?? []).prefix(200), as: UTF8.self)
      return "the server refused the login: \(reason)"
    }
    let digest = ForwardRequest.digest(salt, parts[3].octets ?? [], nonce, key)
    return parts[4].octets == Array(digest.utf8) ? nil : "the server does not know the shared key"
  }
}
