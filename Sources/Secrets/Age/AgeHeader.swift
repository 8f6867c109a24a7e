import Vocabulary

/// One recipient's line and body in the header.
package struct AgeStanza: Equatable, Sendable {
  package var type: String
  package var arguments: [String]
  package var body: [UInt8]
}

/// The text header of an age v1 file. Source: C2SP age.md, "File format".
package struct AgeHeader: Equatable, Sendable {
  package static let version = Array("age-encryption.org/v1\n".utf8)
  /// A header longer than this many bytes is refused before it is parsed.
  package static let limit = 1 << 20

  package var stanzas: [AgeStanza]
  package var mac: [UInt8] = []
  /// What the HMAC covers: everything up to and with `---`.
  package var authenticated: [UInt8] = []
  /// Where the payload starts in the file.
  package var length = 0

  package init(stanzas: [AgeStanza]) {
    self.stanzas = stanzas
    authenticated = Self.version
    for stanza in stanzas {
      authenticated += Array(("-> " + ([stanza.type] + stanza.arguments).joined(separator: " ") + "\n").utf8)
      let text = Base64Text.encode(stanza.body)
      var index = 0
      while index + 64 <= text.count {
        authenticated += text[index..<(index + 64)] + [0x0A]
        index += 64
      }
      authenticated += text[index...] + [0x0A]
    }
    authenticated += Array("---".utf8)
  }

  /// Parses the header at the start of `file`.
  package init(parsing file: [UInt8]) throws(AgeError) {
    guard file.starts(with: Self.version) else {
      throw .headerFailure("the first line is not `age-encryption.org/v1`; this is not an age v1 file")
    }
    stanzas = []
    var cursor = Cursor(bytes: file, index: Self.version.count)
    while true {
      let start = cursor.index
      let line = try cursor.line()
      if line.starts(with: Array("-> ".utf8)) {
        stanzas.append(try Self.stanza(line.dropFirst(3), &cursor))
      } else if line.starts(with: Array("--- ".utf8)) {
        guard !stanzas.isEmpty else { throw .headerFailure("there is no recipient stanza") }
        guard let mac = Base64Text.decode(line.dropFirst(4)), mac.count == 32 else {
          throw .headerFailure("the HMAC is not 32 bytes of canonical base64")
        }
        self.mac = mac
        authenticated = Array(file[..<(start + 3)])
        length = cursor.index
        return
      } else {
        throw .headerFailure("a line is neither a stanza nor the HMAC")
      }
    }
  }

  private static func stanza(_ line: ArraySlice<UInt8>, _ cursor: inout Cursor) throws(AgeError) -> AgeStanza {
    let words = line.split(separator: 0x20, omittingEmptySubsequences: false)
    guard words.allSatisfy({ !$0.isEmpty && $0.allSatisfy { (33...126).contains($0) } }) else {
      throw .headerFailure("a stanza has an empty argument or a character that is not printable ASCII")
    }
    let texts = words.map { String(decoding: $0, as: UTF8.self) }
    var body: [UInt8] = []
    while true {
      let text = try cursor.line()
      guard text.count <= 64, let bytes = Base64Text.decode(text) else {
        throw .headerFailure("a stanza's body is not canonical base64 in lines of 64 characters")
      }
      body += bytes
      if text.count < 64 { return AgeStanza(type: texts[0], arguments: Array(texts[1...]), body: body) }
    }
  }

  private struct Cursor {
    let bytes: [UInt8]
    var index: Int

    /// The next line without its LF. A header has no line that ends with the file.
    mutating func line() throws(AgeError) -> ArraySlice<UInt8> {
      let bound = min(bytes.count, AgeHeader.limit)
      guard let feed = bytes[index..<max(index, bound)].firstIndex(of: 0x0A) else {
        throw .headerFailure("it ends in the middle of a line, or is longer than 1 MiB")
      }
      defer { index = feed + 1 }
      return bytes[index..<feed]
    }
  }
}
