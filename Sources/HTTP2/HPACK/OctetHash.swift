#if canImport(Glibc)
  import Glibc
#else
  import Musl
#endif

/// A fast hash for tables of bounded size. It need not withstand crafted collisions: what it leads to is compared, and
/// no chain is longer than a table has entries.
enum OctetHash {
  @inline(__always)
  static func of(_ octets: UnsafeRawBufferPointer, seed: UInt64 = 0) -> UInt64 {
    let factor: UInt64 = 0x9E37_79B9_7F4A_7C15
    var hash = seed ^ UInt64(truncatingIfNeeded: octets.count) &* factor
    var position = 0
    while position &+ 8 <= octets.count {
      hash = (hash ^ octets.loadUnaligned(fromByteOffset: position, as: UInt64.self)) &* factor
      hash ^= hash >> 32
      position &+= 8
    }
    var rest: UInt64 = 0
    while position < octets.count {
      rest = rest << 8 | UInt64(octets[position])
      position &+= 1
    }
    hash = (hash ^ rest) &* factor
    return hash ^ hash >> 32
  }

  @inline(__always)
  static func equal(_ left: UnsafeRawBufferPointer, _ right: UnsafeRawBufferPointer) -> Bool {
    guard left.count == right.count, let first = left.baseAddress, let second = right.baseAddress else {
      return left.count == right.count
    }
    return memcmp(first, second, left.count) == 0
  }
}

/// Names whose fields came as never-indexed literals (RFC 7541 section 7.1.3), as a filter of 64 bits: what is in it
/// stays never-indexed on the next hop. A name that merely falls on the same bit is compressed less, and no more.
package struct SensitiveNames: Sendable, Equatable {
  private(set) var bits: UInt64 = 0
  package init() {}

  package var isEmpty: Bool { bits == 0 }

  /// `name` is lower case.
  mutating func insert(_ name: UnsafeRawBufferPointer) { bits |= 1 << (OctetHash.of(name) >> 58) }

  @inline(__always)
  func mayContain(hash: UInt64) -> Bool { bits >> (hash >> 58) & 1 == 1 }
}
