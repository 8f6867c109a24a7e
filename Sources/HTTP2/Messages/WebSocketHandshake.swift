/// What a WebSocket handshake has in HTTP/1.1 alone (RFC 6455 section 4): extended CONNECT (RFC 8441) leaves it out, so
/// whoever translates between the two makes and answers it.
package enum WebSocketHandshake {
  /// Writes 24 octets: 128 bits in Base64.
  static func putKey(_ key: (UInt64, UInt64), _ cursor: inout HeadCursor) {
    var octets = InlineOctets()
    for index in 0..<8 {
      octets[index] = UInt8(truncatingIfNeeded: key.0 >> UInt64(56 - 8 * index))
      octets[8 + index] = UInt8(truncatingIfNeeded: key.1 >> UInt64(56 - 8 * index))
    }
    putBase64(octets, count: 16, &cursor)
  }

  /// Writes Sec-WebSocket-Accept for the value of Sec-WebSocket-Key: 28 octets into `output`. RFC 6455 section 4.2.2.
  package static func accept(_ key: UnsafeRawBufferPointer, into output: UnsafeMutableRawBufferPointer) {
    precondition(output.count >= 28)
    var hash = SHA1()
    for octet in key { hash.add(octet) }
    for octet in "258EAFA5-E914-47DA-95CA-C5AB0DC85B11".utf8 { hash.add(octet) }
    var cursor = HeadCursor(output)
    putBase64(hash.finish(), count: 20, &cursor)
  }

  private static func putBase64(_ octets: InlineOctets, count: Int, _ cursor: inout HeadCursor) {
    let alphabet: StaticString = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    var index = 0
    while index < count {
      let left = count - index
      let group =
        UInt32(octets[index]) << 16 | (left > 1 ? UInt32(octets[index + 1]) << 8 : 0)
        | (left > 2 ? UInt32(octets[index + 2]) : 0)
      for place in 0..<4 {
        let isPadding = place > left
        let digit = Int(group >> UInt32(18 - 6 * place) & 63)
        cursor.put(isPadding ? 0x3D : alphabet.utf8Start[digit])
      }
      index += 3
    }
  }

}

/// Twenty octets without a heap.
struct InlineOctets {
  private var words: (UInt64, UInt64, UInt64) = (0, 0, 0)

  subscript(index: Int) -> UInt8 {
    get {
      let word = index < 8 ? words.0 : index < 16 ? words.1 : words.2
      return UInt8(truncatingIfNeeded: word >> UInt64(8 * (index & 7)))
    }
    set {
      let shift = UInt64(8 * (index & 7))
      func put(_ word: inout UInt64) { word = word & ~(0xFF << shift) | UInt64(newValue) << shift }
      if index < 8 { put(&words.0) } else if index < 16 { put(&words.1) } else { put(&words.2) }
    }
  }
}

/// SHA-1 (RFC 3174), for the WebSocket handshake alone, where nothing depends on its strength.
struct SHA1 {
  private var state: (UInt32, UInt32, UInt32, UInt32, UInt32) =
    (0x6745_2301, 0xEFCD_AB89, 0x98BA_DCFE, 0x1032_5476, 0xC3D2_E1F0)
  private var words = ContiguousArray<UInt32>(repeating: 0, count: 80)
  private var count: UInt64 = 0

  init() {}

  mutating func add(_ octet: UInt8) {
    let place = Int(count & 63)
    if place & 3 == 0 { words[place >> 2] = 0 }
    words[place >> 2] |= UInt32(octet) << UInt32(24 - 8 * (place & 3))
    count += 1
    if count & 63 == 0 { mix() }
  }

  mutating func finish() -> InlineOctets {
    let bits = count * 8
    add(0x80)
    while count & 63 != 56 { add(0) }
    for index in 0..<8 { add(UInt8(truncatingIfNeeded: bits >> UInt64(56 - 8 * index))) }
    var octets = InlineOctets()
    let parts = [state.0, state.1, state.2, state.3, state.4]
    for index in 0..<20 { octets[index] = UInt8(truncatingIfNeeded: parts[index >> 2] >> UInt32(24 - 8 * (index & 3))) }
    return octets
  }

  private mutating func mix() {
    func rotated(_ word: UInt32, _ by: UInt32) -> UInt32 { word << by | word >> (32 - by) }
    for index in 16..<80 {
      words[index] = rotated(words[index - 3] ^ words[index - 8] ^ words[index - 14] ^ words[index - 16], 1)
    }
    var (a, b, c, d, e) = state
    for index in 0..<80 {
      let (choice, constant): (UInt32, UInt32) =
        switch index {
        case 0..<20: (b & c | ~b & d, 0x5A82_7999)
        case 20..<40: (b ^ c ^ d, 0x6ED9_EBA1)
        case 40..<60: (b & c | b & d | c & d, 0x8F1B_BCDC)
        default: (b ^ c ^ d, 0xCA62_C1D6)
        }
      let next = rotated(a, 5) &+ choice &+ e &+ constant &+ words[index]
      (e, d, c, b, a) = (d, c, rotated(b, 30), a, next)
    }
    state.0 &+= a
    state.1 &+= b
    state.2 &+= c
    state.3 &+= d
    state.4 &+= e
  }
}
