import Vocabulary

/// The ASCII armor of age: strict PEM (RFC 7468) with one label, 64 columns and canonical padded base64.
/// Whitespace is allowed before and after, LF or CRLF between lines. Source: C2SP age.md, "ASCII armor".
package enum AgeArmor {
  private static let begin = Array("-----BEGIN AGE ENCRYPTED FILE-----".utf8)
  private static let end = Array("-----END AGE ENCRYPTED FILE-----".utf8)

  /// True when the first bytes after whitespace are the armor's first line.
  package static func isArmored(_ file: [UInt8]) -> Bool {
    file.drop(while: isSpace).starts(with: begin)
  }

  package static func write(_ file: [UInt8]) -> [UInt8] {
    var text = begin + [0x0A]
    let body = Base64Text.encode(file, padded: true)
    var index = 0
    while index < body.count {
      let next = min(index + 64, body.count)
      text += body[index..<next]
      text.append(0x0A)
      index = next
    }
    return text + end + [0x0A]
  }

  package static func read(_ text: [UInt8]) throws(AgeError) -> [UInt8] {
    var rest = text.drop(while: isSpace)
    guard takeLine(&rest) == begin else { throw .armorFailure("the first line is not the BEGIN marker") }
    var bytes: [UInt8] = []
    var isShort = false
    while let line = takeLine(&rest) {
      if line == end {
        guard rest.allSatisfy(isSpace) else { throw .armorFailure("there is text after the END marker") }
        return bytes
      }
      guard !isShort else { throw .armorFailure("a line before the last one is shorter than 64 characters") }
      guard !line.isEmpty, line.count <= 64 else { throw .armorFailure("a line is empty or longer than 64 characters") }
      guard let decoded = Base64Text.decode(line, padded: true) else {
        throw .armorFailure("a line is not canonical base64")
      }
      isShort = line.count < 64 || decoded.count < 48
      bytes += decoded
    }
    throw .armorFailure("the END marker is missing")
  }

  private static func takeLine(_ rest: inout ArraySlice<UInt8>) -> [UInt8]? {
    guard !rest.isEmpty else { return nil }
    let feed = rest.firstIndex(of: 0x0A) ?? rest.endIndex
    var line = rest[rest.startIndex..<feed]
    rest = feed < rest.endIndex ? rest[(feed + 1)...] : rest[feed...]
    if line.last == 0x0D { line = line.dropLast() }
    return Array(line)
  }

  private static func isSpace(_ byte: UInt8) -> Bool { byte == 0x20 || (0x09...0x0D).contains(byte) }
}
