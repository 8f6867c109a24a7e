/// BIP 173 Bech32 without its length limit, as age uses it for identities and recipients.
package enum Bech32 {
  private static let alphabet = Array("qpzry9x8gf2tvdw0s3jn54khce6mua7l".utf8)

  /// Lower case text; the caller upper-cases identities.
  package static func encode(prefix: String, _ bytes: [UInt8]) -> String {
    let groups = regroup(bytes, from: 8, to: 5, pad: true) ?? []
    let human = Array(prefix.utf8)
    let remainder = polymod(expand(human) + groups + [0, 0, 0, 0, 0, 0]) ^ 1
    let checksum = (0..<6).map { UInt8(remainder >> UInt32(5 * (5 - $0)) & 31) }
    return prefix + "1" + String(decoding: (groups + checksum).map { alphabet[Int($0)] }, as: UTF8.self)
  }

  /// Nil for mixed case, characters outside the alphabet, a bad checksum or non-zero padding bits. The prefix comes
  /// back in lower case.
  package static func decode(_ text: String) -> (prefix: String, bytes: [UInt8])? {
    let characters = Array(text.utf8)
    let hasLower = characters.contains { (0x61...0x7A).contains($0) }
    let hasUpper = characters.contains { (0x41...0x5A).contains($0) }
    guard !(hasLower && hasUpper), characters.allSatisfy({ (33...126).contains($0) }) else { return nil }
    let lower = characters.map { (0x41...0x5A).contains($0) ? $0 + 32 : $0 }
    guard let separator = lower.lastIndex(of: 0x31), separator >= 1, lower.count - separator > 6 else { return nil }
    var values: [UInt8] = []
    for character in lower[(separator + 1)...] {
      guard let value = alphabet.firstIndex(of: character) else { return nil }
      values.append(UInt8(value))
    }
    let human = Array(lower[..<separator])
    guard polymod(expand(human) + values) == 1 else { return nil }
    guard let bytes = regroup(Array(values.dropLast(6)), from: 5, to: 8, pad: false) else { return nil }
    return (String(decoding: human, as: UTF8.self), bytes)
  }

  private static func expand(_ prefix: [UInt8]) -> [UInt8] {
    prefix.map { $0 >> 5 } + [0] + prefix.map { $0 & 31 }
  }

  private static func polymod(_ values: [UInt8]) -> UInt32 {
    let generator: [UInt32] = [0x3B6A_57B2, 0x2650_8E6D, 0x1EA1_19FA, 0x3D42_33DD, 0x2A14_62B3]
    var checksum: UInt32 = 1
    for value in values {
      let top = checksum >> 25
      checksum = (checksum & 0x1FF_FFFF) << 5 ^ UInt32(value)
      for index in 0..<5 where top >> UInt32(index) & 1 == 1 { checksum ^= generator[index] }
    }
    return checksum
  }

  private static func regroup(_ values: [UInt8], from: UInt32, to: UInt32, pad: Bool) -> [UInt8]? {
    var accumulator: UInt32 = 0
    var bits: UInt32 = 0
    var result: [UInt8] = []
    for value in values {
      accumulator = (accumulator << from | UInt32(value)) & 0xFFFF
      bits += from
      while bits >= to {
        bits -= to
        result.append(UInt8(accumulator >> bits & ((1 << to) - 1)))
      }
    }
    if pad {
      if bits > 0 { result.append(UInt8(accumulator << (to - bits) & ((1 << to) - 1))) }
    } else if bits >= from || accumulator & ((1 << bits) - 1) != 0 {
      return nil
    }
    return result
  }
}
