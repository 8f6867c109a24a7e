#if canImport(Glibc)
  import Glibc
#else
  import Musl
#endif

/// Finds the end of a head in bytes that arrive bit by bit; each octet is looked at once.
///
/// Feed it all received octets of the head each time, from the head's first.
package struct HeadScanner: Sendable {
  private var scanned = 0
  private var lineStart = 0
  private var lines = 0

  package init() {}

  /// The head's length including its empty line, or nil when more octets are needed.
  /// Throws at the first octet that no valid head can hold, or once a limit is passed.
  package mutating func scan(
    _ bytes: UnsafeRawBufferPointer, limits: HeadLimits
  ) throws(HeadError) -> Int? {
    guard let base = bytes.baseAddress, bytes.count > 0 else { return nil }
    if scanned == 0, !Octets.isToken(bytes[0]) { throw .invalidMethod }
    while scanned < bytes.count {
      guard let hit = memchr(base + scanned, 10, bytes.count - scanned) else { break }
      let at = UnsafeRawPointer(hit) - base
      guard at > lineStart, bytes[at - 1] == Octets.carriageReturn else { throw .bareLineFeed }
      if at >= limits.bytes { throw .headTooLarge }
      if at - 1 == lineStart { return at + 1 }
      lines += 1
      if lines > limits.fields + 1 { throw .tooManyFields }
      scanned = at + 1
      lineStart = at + 1
    }
    scanned = bytes.count
    if bytes.count > limits.bytes { throw .headTooLarge }
    return nil
  }

  /// How many octets of empty lines stand before a request line; a server ignores them (RFC 9112 section 2.2).
  package static func leadingBlank(_ bytes: UnsafeRawBufferPointer) -> Int {
    var position = 0
    while position + 1 < bytes.count, bytes[position] == 13, bytes[position + 1] == 10 { position += 2 }
    return position
  }
}
