/// The parameters of a request's query: `name=value`, joined by `&`, with `%XX` for an octet and `+` for a space
/// (WHATWG URL section 5.1). A `%` that no two hexadecimal digits follow stands for itself.
package enum QueryText {
  /// Longer queries, and those of more parameters, are not looked into.
  package static let longest = 8 << 10
  package static let mostParameters = 256

  /// Calls `found` with the decoded value of each parameter of that name, in order, until it returns false.
  /// False when the query is beyond the limits; then nothing was called. `room` is where values are decoded.
  package static func values(
    of name: [UInt8], in query: UnsafeRawBufferPointer, _ room: inout [UInt8],
    _ found: (UnsafeRawBufferPointer) -> Bool
  ) -> Bool {
    guard query.count <= longest else { return false }
    var ends = 1
    for octet in query where octet == 0x26 { ends += 1 }
    guard ends <= mostParameters else { return false }
    var start = 0
    while start < query.count {
      var end = start
      var equals = -1
      while end < query.count, query[end] != 0x26 {
        if query[end] == 0x3D, equals < 0 { equals = end }
        end += 1
      }
      let nameEnd = equals < 0 ? end : equals
      if isName(UnsafeRawBufferPointer(rebasing: query[start..<nameEnd]), name) {
        room.removeAll(keepingCapacity: true)
        if equals >= 0 { decode(UnsafeRawBufferPointer(rebasing: query[equals + 1..<end])) { room.append($0) } }
        if !room.withUnsafeBytes(found) { return true }
      }
      start = end + 1
    }
    return true
  }

  private static func isName(_ text: UnsafeRawBufferPointer, _ name: [UInt8]) -> Bool {
    // An empty piece between two `&` is no parameter.
    guard text.count >= name.count, text.count > 0 else { return false }
    var index = 0
    var isSame = true
    decode(text) { octet in
      isSame = isSame && index < name.count && name[index] == octet
      index += 1
    }
    return isSame && index == name.count
  }

  private static func decode(_ text: UnsafeRawBufferPointer, _ octet: (UInt8) -> Void) {
    var index = 0
    while index < text.count {
      if text[index] == 0x25, index + 2 < text.count, let high = digit(text[index + 1]),
        let low = digit(text[index + 2])
      {
        octet(high << 4 | low)
        index += 3
      } else {
        octet(text[index] == 0x2B ? 0x20 : text[index])
        index += 1
      }
    }
  }

  private static func digit(_ octet: UInt8) -> UInt8? {
    switch octet {
    case 0x30...0x39: octet - 0x30
    case 0x41...0x46: octet - 0x37
    case 0x61...0x66: octet - 0x57
    default: nil
    }
  }
}
