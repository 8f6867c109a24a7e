/// The `key=value key="quoted value" flag` lines that Go programs and Heroku made common.
package enum Logfmt {
  /// A pair of ranges; a quoted value's range lies between the quotes and still holds its backslash escapes.
  package struct Pair: Equatable {
    package var key: Range<Int>
    package var value: Range<Int>
    package var quoted: Bool
  }

  /// Reads the whole line into `pairs`. False when it is no logfmt: it holds a token that is not `key=value`, a key of
  /// unusual characters, an open quote, a key twice, or fewer than `minimum` pairs.
  package static func parse(_ line: Bytes, minimum: Int, into pairs: inout [Pair]) -> Bool {
    pairs.removeAll(keepingCapacity: true)
    var index = 0
    while true {
      while index < line.count, line[index] == 0x20 || line[index] == 0x09 { index += 1 }
      guard index < line.count else { break }
      guard pairs.count < 128, let pair = pair(line, &index) else { return false }
      let key = line.part(pair.key)
      for other in pairs where line.part(other.key).equals(key) { return false }
      pairs.append(pair)
    }
    return pairs.count >= minimum
  }

  private static func pair(_ line: Bytes, _ index: inout Int) -> Pair? {
    let start = index
    while index < line.count, isKey(line[index]) { index += 1 }
    guard index > start, index < line.count, line[index] == 0x3D else { return nil }
    let key = start..<index
    index += 1
    guard index < line.count, line[index] == 0x22 else {
      let from = index
      while index < line.count, line[index] > 0x20 {
        guard line[index] != 0x22, line[index] != 0x3D || index > from else { return nil }
        index += 1
      }
      return Pair(key: key, value: from..<index, quoted: false)
    }
    index += 1
    let from = index
    while index < line.count, line[index] != 0x22 { index += line[index] == 0x5C ? 2 : 1 }
    guard index < line.count else { return nil }
    let to = index
    index += 1
    guard index == line.count || line[index] == 0x20 || line[index] == 0x09 else { return nil }
    return Pair(key: key, value: from..<to, quoted: true)
  }

  private static func isKey(_ byte: UInt8) -> Bool {
    switch byte {
    case 0x30...0x39, 0x41...0x5A, 0x61...0x7A, 0x5F, 0x2D, 0x2E, 0x40, 0x2F: true
    default: false
    }
  }
}
