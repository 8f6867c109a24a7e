/// What the first octets of a connection are: a TLS ClientHello with the name it asks for, or something else.
package enum ClientHello {
  package enum Reading: Equatable, Sendable {
    /// A TLS handshake whose ClientHello is not complete.
    case incomplete
    /// A TLS record of the type handshake; nil = no server name. Malformed ones have none: the TLS engine refuses them.
    case tls(serverName: String?)
    case other
  }

  /// A ClientHello longer than this is read without its name.
  package static let limit = 16 << 10

  /// The first octet of a TLS connection is that of a handshake record (RFC 8446 section 5.1).
  package static let handshakeOctet: UInt8 = 22

  /// RFC 8446 section 4.1.2 and RFC 6066 section 3. Records may split the message anywhere.
  package static func read(_ bytes: UnsafeRawBufferPointer) -> Reading {
    guard let first = bytes.first else { return .incomplete }
    guard first == handshakeOctet else { return .other }
    if bytes.count < 2 { return .incomplete }
    guard bytes[1] == 3 else { return .other }
    var message: [UInt8] = []
    var at = 0
    while at < bytes.count {
      guard at + 5 <= bytes.count else { return unfinished(message) }
      guard bytes[at] == handshakeOctet else { return .tls(serverName: nil) }
      let length = Int(bytes[at + 3]) << 8 | Int(bytes[at + 4])
      guard length > 0 else { return .tls(serverName: nil) }
      let end = min(at + 5 + length, bytes.count)
      message += bytes[(at + 5)..<end]
      at = at + 5 + length
      if message.count >= 4 {
        guard message[0] == 1 else { return .tls(serverName: nil) }
        let wanted = 4 + (Int(message[1]) << 16 | Int(message[2]) << 8 | Int(message[3]))
        if wanted > limit { return .tls(serverName: nil) }
        if message.count >= wanted { return .tls(serverName: serverName(Cursor(message[4..<wanted]))) }
      }
    }
    return unfinished(message)
  }

  private static func unfinished(_ message: [UInt8]) -> Reading {
    message.count > limit ? .tls(serverName: nil) : .incomplete
  }

  private static func serverName(_ hello: Cursor) -> String? {
    var hello = hello
    // Version and random, session id, cipher suites, compression methods.
    guard hello.skip(34), hello.skip(hello.integer(1)), hello.skip(hello.integer(2)), hello.skip(hello.integer(1)),
      var extensions = hello.slice(hello.integer(2))
    else { return nil }
    while let kind = extensions.integer(2), let body = extensions.slice(extensions.integer(2)) {
      guard kind == 0 else { continue }
      var body = body
      guard var list = body.slice(body.integer(2)) else { return nil }
      while let type = list.integer(1), let name = list.slice(list.integer(2)) {
        if type == 0 { return name.hostName }
      }
      return nil
    }
    return nil
  }

  /// Reads forward; nothing is read past the end.
  private struct Cursor {
    private var bytes: ArraySlice<UInt8>

    init(_ bytes: ArraySlice<UInt8>) { self.bytes = bytes }

    mutating func integer(_ width: Int) -> Int? {
      guard bytes.count >= width else { return nil }
      var value = 0
      for _ in 0..<width { value = value << 8 | Int(bytes.removeFirst()) }
      return value
    }

    mutating func skip(_ count: Int?) -> Bool { slice(count) != nil }

    mutating func slice(_ count: Int?) -> Cursor? {
      guard let count, bytes.count >= count else { return nil }
      let taken = bytes.prefix(count)
      bytes = bytes.dropFirst(count)
      return Cursor(taken)
    }

    /// The octets as a host name; nil when they are none.
    var hostName: String? {
      guard !bytes.isEmpty, bytes.count <= 255, bytes.allSatisfy({ $0 > 0x20 && $0 < 0x7F }) else { return nil }
      return String(decoding: bytes, as: UTF8.self)
    }
  }
}
