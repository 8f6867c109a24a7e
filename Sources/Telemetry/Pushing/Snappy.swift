/// Snappy's block format (github.com/google/snappy, format_description.txt), the writing side: literals and copies with
/// offsets of two octets. Remote write wants it.
package enum Snappy {
  /// So far back a copy can reach.
  private static let window = 65_535
  private static let slots = 1 << 13

  package static func compressed(_ input: [UInt8]) -> [UInt8] {
    var out: [UInt8] = []
    out.reserveCapacity(input.count / 4 + 16)
    var length = input.count
    while length >= 0x80 {
      out.append(UInt8(truncatingIfNeeded: length) | 0x80)
      length >>= 7
    }
    out.append(UInt8(length))
    // Where four octets with this hash stood last, counted from one.
    var seen = [Int](repeating: 0, count: slots)
    var literal = 0
    var at = 0
    while at + 4 <= input.count {
      let word = four(input, at)
      let slot = Int(truncatingIfNeeded: (word &* 0x1E35_A7BD) >> 19)
      let before = seen[slot] - 1
      seen[slot] = at + 1
      guard before >= 0, at - before <= window, four(input, before) == word else {
        at += 1
        continue
      }
      var match = 4
      while at + match < input.count, input[before + match] == input[at + match] { match += 1 }
      write(input[literal..<at], into: &out)
      copy(match, from: at - before, into: &out)
      at += match
      literal = at
    }
    write(input[literal...], into: &out)
    return out
  }

  private static func four(_ input: [UInt8], _ at: Int) -> UInt32 {
    UInt32(input[at]) | UInt32(input[at + 1]) << 8 | UInt32(input[at + 2]) << 16 | UInt32(input[at + 3]) << 24
  }

  private static func write(_ literal: ArraySlice<UInt8>, into out: inout [UInt8]) {
    guard !literal.isEmpty else { return }
    var last = literal.count - 1
    if last < 60 {
      out.append(UInt8(last << 2))
    } else {
      // 60 to 63: the length stands in the next one to four octets.
      let tag = out.count
      out.append(0)
      var octets = 0
      while last > 0 {
        out.append(UInt8(truncatingIfNeeded: last))
        last >>= 8
        octets += 1
      }
      out[tag] = UInt8((59 + octets) << 2)
    }
    out.append(contentsOf: literal)
  }

  private static func copy(_ length: Int, from offset: Int, into out: inout [UInt8]) {
    var left = length
    while left > 0 {
      let part = min(left, 64)
      out.append(UInt8(part - 1) << 2 | 2)
      out.append(UInt8(truncatingIfNeeded: offset))
      out.append(UInt8(truncatingIfNeeded: offset >> 8))
      left -= part
    }
  }
}
