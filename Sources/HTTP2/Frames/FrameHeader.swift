/// The frame types of RFC 9113 section 6.
enum FrameType {
  static let data: UInt8 = 0x0
  static let headers: UInt8 = 0x1
  static let priority: UInt8 = 0x2
  static let resetStream: UInt8 = 0x3
  static let settings: UInt8 = 0x4
  static let pushPromise: UInt8 = 0x5
  static let ping: UInt8 = 0x6
  static let goAway: UInt8 = 0x7
  static let windowUpdate: UInt8 = 0x8
  static let continuation: UInt8 = 0x9
}

enum FrameFlags {
  static let none: UInt8 = 0
  static let endStream: UInt8 = 0x1
  static let acknowledge: UInt8 = 0x1
  static let endHeaders: UInt8 = 0x4
  static let padded: UInt8 = 0x8
  static let priority: UInt8 = 0x20
}

/// The nine octets before each payload (RFC 9113 section 4.1).
struct FrameHeader: Sendable, Equatable {
  static let count = 9
  /// The largest payload that every endpoint takes (RFC 9113 section 4.2); we offer and send no more.
  static let largestPayload = 16 << 10

  var length: Int
  var type: UInt8
  var flags: UInt8
  /// 31 bits: the reserved one is ignored.
  var stream: UInt32

  /// `bytes` holds nine octets at least.
  @inline(__always)
  init(_ bytes: UnsafeRawBufferPointer) {
    let word = UInt64(bigEndian: bytes.loadUnaligned(as: UInt64.self))
    length = Int(word >> 40)
    type = UInt8(truncatingIfNeeded: word >> 32)
    flags = UInt8(truncatingIfNeeded: word >> 24)
    stream = (UInt32(truncatingIfNeeded: word & 0xFF_FFFF) << 8 | UInt32(bytes[8])) & 0x7FFF_FFFF
  }

  init(length: Int, type: UInt8, flags: UInt8, stream: UInt32) {
    self.length = length
    self.type = type
    self.flags = flags
    self.stream = stream
  }

  @inline(__always)
  func has(_ flag: UInt8) -> Bool { flags & flag != 0 }

  /// What is wrong with a frame as its header alone shows, or nil (RFC 9113 sections 4.2 and 6). `PRIORITY` of a
  /// wrong length is left out: it is an error of the stream.
  func problem() -> ConnectionProblem? {
    if length > Self.largestPayload { return .frameTooLarge }
    switch type {
    case FrameType.data, FrameType.headers, FrameType.priority, FrameType.continuation:
      return stream == 0 ? .streamZero : nil
    case FrameType.resetStream:
      if stream == 0 { return .streamZero }
      return length == 4 ? nil : .frameSize
    case FrameType.settings:
      if stream != 0 { return .streamNotZero }
      return has(FrameFlags.acknowledge) ? (length == 0 ? nil : .frameSize) : (length % 6 == 0 ? nil : .frameSize)
    case FrameType.pushPromise: return .pushPromise
    case FrameType.ping:
      if stream != 0 { return .streamNotZero }
      return length == 8 ? nil : .frameSize
    case FrameType.goAway:
      if stream != 0 { return .streamNotZero }
      return length >= 8 ? nil : .frameSize
    case FrameType.windowUpdate: return length == 4 ? nil : .frameSize
    default: return nil
    }
  }
}
