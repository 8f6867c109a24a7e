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
      arena.append(JSONText.hexDigits[Int(byte >> 4)])
      arena.append(JSONText.hexDigits[Int(byte & 15)])
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
    var at = 0
    do {
      let value = try read(bytes, &at, depth: 4)
      return .value(value, at)
    } catch { return error == .short && bytes.count < limit ? .incomplete : .invalid }
  }

  private enum Failure: Error { case short, wrong }

  private static func take(_ bytes: Bytes, _ at: inout Int, _ count: Int) throws(Failure) -> Bytes {
    guard count <= limit else { throw .wrong }
    guard at + count <= bytes.count else { throw .short }
    defer { at += count }
    return bytes.part(at..<at + count)
  }

  private static func number(_ bytes: Bytes, _ at: inout Int, _ width: Int) throws(Failure) -> UInt64 {
    try take(bytes, &at, width).reduce(0) { $0 << 8 | UInt64($1) }
  }

  private static func read(_ bytes: Bytes, _ at: inout Int, depth: Int) throws(Failure) -> ForwardValue {
    guard depth > 0 else { throw .wrong }
    let head = try take(bytes, &at, 1)[0]
    switch head {
    case 0x00...0x7F: return .number(Int64(head))
    case 0xE0...0xFF: return .number(Int64(Int8(bitPattern: head)))
    case 0x80...0x8F: return .map(try values(bytes, &at, 2 * Int(head & 15), depth))
    case 0x90...0x9F: return .list(try values(bytes, &at, Int(head & 15), depth))
    case 0xA0...0xBF: return .bytes(Array(try take(bytes, &at, Int(head & 31))))
    case 0xC0: return .empty
    case 0xC2: return .flag(false)
    case 0xC3: return .flag(true)
    case 0xC4, 0xD9: return .bytes(Array(try take(bytes, &at, Int(try number(bytes, &at, 1)))))
    case 0xC5, 0xDA: return .bytes(Array(try take(bytes, &at, Int(try number(bytes, &at, 2)))))
    case 0xCC...0xCF:
      let value = try number(bytes, &at, 1 << Int(head - 0xCC))
      guard value <= UInt64(Int64.max) else { throw .wrong }
      return .number(Int64(value))
    default: throw .wrong
    }
  }

  private static func values(_ bytes: Bytes, _ at: inout Int, _ count: Int, _ depth: Int) throws(Failure)
    -> [ForwardValue]
  {
    var values: [ForwardValue] = []
    for _ in 0..<count { values.append(try read(bytes, &at, depth: depth - 1)) }
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
