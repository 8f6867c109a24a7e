/// A request's path as rules read it: every octet that is percent-encoded decoded once, empty segments, `.` and `..`
/// resolved (RFC 3986 section 5.2.4), a last slash kept. What servers read differently is ambiguous: then a rule that
/// looks at paths cannot be trusted to mean what the server does, and the request is to be refused.
package struct NormalPath: Sendable, Equatable {
  /// Begins with `/`, but for targets that are no path (`*`, an authority), which stay as they are.
  package private(set) var octets: [UInt8] = []
  /// It holds an encoded `/`, `\`, NUL or control, a plain `\`, `;` (servers cut parameters off segments), an escape
  /// that is broken or encoded twice, or it climbs above the root.
  package private(set) var isAmbiguous = false

  /// Of a path without its query.
  package init(_ path: some Collection<UInt8>) {
    guard let first = path.first else {
      octets = [0x2F]
      return
    }
    guard first == 0x2F else {
      octets = Array(path)
      return
    }
    resolve(decode(Array(path)))
  }

  package init(_ text: String) { self.init(text.utf8) }

  private mutating func decode(_ path: [UInt8]) -> [UInt8] {
    var decoded: [UInt8] = []
    decoded.reserveCapacity(path.count)
    var index = 0
    while index < path.count {
      var octet = path[index]
      index += 1
      if octet == 0x25 {
        guard index + 1 < path.count, let high = Self.digit(path[index]), let low = Self.digit(path[index + 1]) else {
          isAmbiguous = true
          decoded.append(octet)
          continue
        }
        octet = high << 4 | low
        index += 2
        if octet == 0x2F || octet < 0x20 || octet == 0x7F { isAmbiguous = true }
      }
      if octet == 0x5C || octet == 0x3B { isAmbiguous = true }
      decoded.append(octet)
    }
    for place in decoded.indices.dropLast(2) where decoded[place] == 0x25 {
      if Self.digit(decoded[place + 1]) != nil, Self.digit(decoded[place + 2]) != nil { isAmbiguous = true }
    }
    return decoded
  }

  /// One pass, whatever the number of segments: strangers choose it.
  private mutating func resolve(_ path: [UInt8]) {
    var ends: [Int] = []
    var endsWithSlash = true
    octets.reserveCapacity(path.count)
    var start = 1
    while start <= path.count {
      var end = start
      while end < path.count, path[end] != 0x2F { end &+= 1 }
      let count = end - start
      let isDots = count == 1 || count == 2 ? path[start] == 0x2E && path[end - 1] == 0x2E : false
      endsWithSlash = count == 0 || isDots
      if isDots, count == 2 {
        if let place = ends.popLast() { octets.removeSubrange(place...) } else { isAmbiguous = true }
      } else if !endsWithSlash {
        ends.append(octets.count)
        octets.append(0x2F)
        octets += path[start..<end]
      }
      start = end + 1
    }
    if endsWithSlash || octets.isEmpty { octets.append(0x2F) }
  }

  private static func digit(_ octet: UInt8) -> UInt8? {
    switch octet {
    case 0x30...0x39: octet - 0x30
    case 0x41...0x46: octet - 0x41 + 10
    case 0x61...0x66: octet - 0x61 + 10
    default: nil
    }
  }

  /// Whether a path is its own normal form, which is told without memory of its own.
  package static func isNormal(_ path: UnsafeRawBufferPointer) -> Bool {
    guard path.first == 0x2F else { return path.count > 0 }
    var index = 0
    while index < path.count {
      switch path[index] {
      case 0x25, 0x3B, 0x5C: return false
      case 0x2F where index + 1 < path.count && (path[index + 1] == 0x2F || path[index + 1] == 0x2E): return false
      default: index &+= 1
      }
    }
    return true
  }
}
