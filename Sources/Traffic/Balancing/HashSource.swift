/// What of a request is the key of `ring_hash` and `maglev`.
package enum HashSource: Sendable, Equatable {
  /// The client's address, without its port.
  case source
  /// The path, without the query.
  case path
  case header(String)
  case cookie(String)
  case query(String)
}

/// Finding a key's value in parts of a request, without copying.
package enum RequestKey {
  /// The value of a cookie in the value of a Cookie field (RFC 6265 section 4.2.1); nil when it is not there.
  package static func cookie(_ name: UnsafeRawBufferPointer, in field: UnsafeRawBufferPointer)
    -> UnsafeRawBufferPointer?
  {
    value(of: name, in: field, separator: 0x3B, skipsSpaces: true)
  }

  /// The value of a parameter in what follows the `?` of a target, as it is written; nil when it is not there.
  package static func query(_ name: UnsafeRawBufferPointer, in query: UnsafeRawBufferPointer) -> UnsafeRawBufferPointer?
  {
    value(of: name, in: query, separator: 0x26, skipsSpaces: false)
  }

  private static func value(
    of name: UnsafeRawBufferPointer, in bytes: UnsafeRawBufferPointer, separator: UInt8, skipsSpaces: Bool
  ) -> UnsafeRawBufferPointer? {
    var start = 0
    while start < bytes.count {
      var end = start
      while end < bytes.count, bytes[end] != separator { end += 1 }
      while skipsSpaces, start < end, bytes[start] == 0x20 || bytes[start] == 0x09 { start += 1 }
      let equals = start + name.count
      if equals < end, bytes[equals] == 0x3D,
        UnsafeRawBufferPointer(rebasing: bytes[start..<equals]).elementsEqual(name)
      {
        return UnsafeRawBufferPointer(rebasing: bytes[(equals + 1)..<end])
      }
      start = end + 1
    }
    return nil
  }
}
