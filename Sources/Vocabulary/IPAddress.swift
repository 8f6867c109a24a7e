#if canImport(Glibc)
  import Glibc
#else
  import Musl
#endif

/// An IPv4 or IPv6 address. An IPv4 address mapped into IPv6 (`::ffff:1.2.3.4`) is the IPv4 address.
package struct IPAddress: Sendable, Hashable, CustomStringConvertible {
  /// The upper and lower half of the 16 octets; an IPv4 address stands in them as a mapped one.
  package let high: UInt64
  package let low: UInt64

  private static let mapped: UInt64 = 0xFFFF_0000_0000

  package init(high: UInt64, low: UInt64) {
    self.high = high
    self.low = low
  }

  package init(v4 word: UInt32) {
    high = 0
    low = Self.mapped | UInt64(word)
  }

  /// 4 or 16 octets in network order; nil for any other count.
  package init?(octets: some Collection<UInt8>) {
    switch octets.count {
    case 4: self.init(v4: octets.reduce(0) { $0 << 8 | UInt32($1) })
    case 16:
      self.init(
        high: octets.prefix(8).reduce(0) { $0 << 8 | UInt64($1) },
        low: octets.dropFirst(8).reduce(0) { $0 << 8 | UInt64($1) })
    default: return nil
    }
  }

  /// `1.2.3.4` without leading zeros, or an IPv6 address without brackets and zone (RFC 4291 section 2.2).
  package init?(_ text: String) {
    var octets: [UInt8]
    if text.utf8.contains(0x3A) {
      octets = [UInt8](repeating: 0, count: 16)
      guard inet_pton(AF_INET6, text, &octets) == 1 else { return nil }
    } else {
      octets = [UInt8](repeating: 0, count: 4)
      guard inet_pton(AF_INET, text, &octets) == 1 else { return nil }
    }
    self.init(octets: octets)
  }

  package var isV4: Bool { high == 0 && low >> 32 == 0xFFFF }

  /// In network order: 4 octets of an IPv4 address, else 16.
  package var octets: [UInt8] { isV4 ? Array(mappedOctets.suffix(4)) : mappedOctets }

  /// In network order, always 16.
  package var mappedOctets: [UInt8] {
    (0..<8).map { UInt8(truncatingIfNeeded: high >> (56 - 8 * UInt64($0))) }
      + (0..<8).map { UInt8(truncatingIfNeeded: low >> (56 - 8 * UInt64($0))) }
  }

  /// 127.0.0.0/8 or `::1`.
  package var isLoopback: Bool { isV4 ? low >> 24 & 0xFF == 127 : high == 0 && low == 1 }
  /// `0.0.0.0` or `::`, which a connect takes for this machine.
  package var isUnspecified: Bool { high == 0 && (low == 0 || low == Self.mapped) }

  package var description: String {
    var text = [CChar](repeating: 0, count: 46)
    let octets = octets
    guard inet_ntop(octets.count == 4 ? AF_INET : AF_INET6, octets, &text, 46) != nil else { return "?" }
    return String(decoding: text.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
  }
}

/// The addresses that share a prefix: `10.0.0.0/8`, `fd00::/8`, or one address.
package struct AddressRange: Sendable, Hashable, CustomStringConvertible {
  package let base: IPAddress
  /// Bits that count, of 32 for IPv4 and of 128 for IPv6.
  package let length: Int

  package init?(_ text: String) {
    let parts = text.split(separator: "/", omittingEmptySubsequences: false)
    guard parts.count <= 2, let address = IPAddress(String(parts[0])) else { return nil }
    let most = address.isV4 ? 32 : 128
    var length = most
    if parts.count == 2 {
      guard (1...3).contains(parts[1].utf8.count), parts[1].utf8.allSatisfy({ (48...57).contains($0) }),
        let number = Int(parts[1]), number <= most
      else { return nil }
      length = number
    }
    self.length = length
    let masks = Self.masks(length + 128 - most)
    base = IPAddress(high: address.high & masks.high, low: address.low & masks.low)
    // A range wider than the mapped part would be of another family.
    guard base.isV4 == address.isV4 else { return nil }
  }

  private static func masks(_ bits: Int) -> (high: UInt64, low: UInt64) {
    func mask(_ bits: Int) -> UInt64 { bits <= 0 ? 0 : bits >= 64 ? .max : ~(UInt64.max >> UInt64(bits)) }
    return (mask(bits), mask(bits - 64))
  }

  package var isV4: Bool { base.isV4 }

  package func contains(_ address: IPAddress) -> Bool {
    guard address.isV4 == base.isV4 else { return false }
    let masks = Self.masks(length + (isV4 ? 96 : 0))
    return address.high & masks.high == base.high && address.low & masks.low == base.low
  }

  package var description: String { length == (isV4 ? 32 : 128) ? "\(base)" : "\(base)/\(length)" }
}
