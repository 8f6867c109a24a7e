import NIOCore

@testable import HTTP2

/// Octets of frames, written and read plainly: what the engine is compared with.
enum Wire {
  static let preface = Array("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".utf8)

  struct Frame: Equatable {
    var type: UInt8
    var flags: UInt8 = 0
    var stream: UInt32 = 0
    var payload: [UInt8] = []

    var bytes: [UInt8] {
      let count = payload.count
      return [UInt8(count >> 16 & 255), UInt8(count >> 8 & 255), UInt8(count & 255), type, flags]
        + Wire.number(stream) + payload
    }
  }

  static func number(_ value: UInt32) -> [UInt8] {
    [UInt8(value >> 24), UInt8(value >> 16 & 255), UInt8(value >> 8 & 255), UInt8(value & 255)]
  }

  static func frame(_ type: UInt8, _ flags: UInt8 = 0, _ stream: UInt32 = 0, _ payload: [UInt8] = []) -> [UInt8] {
    Frame(type: type, flags: flags, stream: stream, payload: payload).bytes
  }

  static func settings(_ values: [(UInt16, UInt32)] = []) -> [UInt8] {
    frame(4, 0, 0, values.flatMap { [UInt8($0.0 >> 8), UInt8($0.0 & 255)] + number($0.1) })
  }

  static let settingsAck = frame(4, 1)

  static func window(_ stream: UInt32, _ increment: UInt32) -> [UInt8] { frame(8, 0, stream, number(increment)) }
  static func reset(_ stream: UInt32, _ code: UInt32 = 8) -> [UInt8] { frame(3, 0, stream, number(code)) }
  static func data(_ stream: UInt32, _ text: String, end: Bool = false) -> [UInt8] {
    frame(0, end ? 1 : 0, stream, Array(text.utf8))
  }

  /// A block of literals without indexing and without Huffman code.
  static func block(_ fields: [(String, String)]) -> [UInt8] {
    fields.flatMap { field in [0x00] + string(Array(field.0.utf8)) + string(Array(field.1.utf8)) }
  }

  static func string(_ octets: [UInt8]) -> [UInt8] { integer(octets.count, prefix: 7, flags: 0) + octets }

  static func integer(_ value: Int, prefix: Int, flags: UInt8) -> [UInt8] {
    let mask = 1 << prefix - 1
    if value < mask { return [flags | UInt8(value)] }
    var octets = [flags | UInt8(mask)]
    var rest = value - mask
    while rest >= 128 {
      octets.append(UInt8(rest & 127) | 128)
      rest >>= 7
    }
    return octets + [UInt8(rest)]
  }

  static func headers(_ stream: UInt32, _ fields: [(String, String)], end: Bool = true) -> [UInt8] {
    frame(1, end ? 5 : 4, stream, block(fields))
  }

  static let get: [(String, String)] = [
    (":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "a.test"),
  ]
  static let post: [(String, String)] = [
    (":method", "POST"), (":scheme", "http"), (":path", "/"), (":authority", "a.test"),
  ]

  /// Cuts octets into frames; what is left over is an error of the test.
  static func frames(_ bytes: [UInt8]) -> [Frame] {
    var frames: [Frame] = []
    var rest = bytes[...]
    if rest.starts(with: preface) { rest = rest.dropFirst(preface.count) }
    while rest.count >= 9 {
      let head = Array(rest.prefix(9))
      let count = Int(head[0]) << 16 | Int(head[1]) << 8 | Int(head[2])
      let stream = head[5...].reduce(UInt32(0)) { $0 << 8 | UInt32($1) }
      rest = rest.dropFirst(9)
      frames.append(Frame(type: head[3], flags: head[4], stream: stream, payload: Array(rest.prefix(count))))
      rest = rest.dropFirst(count)
    }
    return frames
  }
}

/// A small generator with a seed (SplitMix64).
struct Seeded: RandomNumberGenerator {
  var state: UInt64
  init(_ seed: UInt64) { state = seed }
  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var mixed = state
    mixed = (mixed ^ mixed >> 30) &* 0xBF58_476D_1CE4_E5B9
    mixed = (mixed ^ mixed >> 27) &* 0x94D0_49BB_1331_11EB
    return mixed ^ mixed >> 31
  }
}
