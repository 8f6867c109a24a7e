import NIOCore

/// Writes frames (RFC 9113 section 6).
enum FrameWriter {
  /// The client's part of the connection preface (RFC 9113 section 3.4).
  static let preface: StaticString = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

  @inline(__always)
  static func header(_ length: Int, _ type: UInt8, _ flags: UInt8, _ stream: UInt32, to out: inout ByteBuffer) {
    out.writeInteger(UInt64(length) << 40 | UInt64(type) << 32 | UInt64(flags) << 24 | UInt64(stream >> 8))
    out.writeInteger(UInt8(truncatingIfNeeded: stream))
  }

  /// Writes the nine octets at `output`.
  @inline(__always)
  static func header(
    _ length: Int, _ type: UInt8, _ flags: UInt8, _ stream: UInt32, at output: UnsafeMutableRawPointer
  ) {
    let word = UInt64(length) << 40 | UInt64(type) << 32 | UInt64(flags) << 24 | UInt64(stream >> 8)
    output.storeBytes(of: word.bigEndian, as: UInt64.self)
    output.storeBytes(of: UInt8(truncatingIfNeeded: stream), toByteOffset: 8, as: UInt8.self)
  }

  static func windowUpdate(_ stream: UInt32, _ increment: Int, to out: inout ByteBuffer) {
    header(4, FrameType.windowUpdate, FrameFlags.none, stream, to: &out)
    out.writeInteger(UInt32(increment))
  }

  static func resetStream(_ stream: UInt32, _ code: ErrorCode, to out: inout ByteBuffer) {
    header(4, FrameType.resetStream, FrameFlags.none, stream, to: &out)
    out.writeInteger(code.rawValue)
  }

  static func ping(_ data: UInt64, acknowledges: Bool, to out: inout ByteBuffer) {
    header(8, FrameType.ping, acknowledges ? FrameFlags.acknowledge : FrameFlags.none, 0, to: &out)
    out.writeInteger(data)
  }

  static func settingsAcknowledgement(to out: inout ByteBuffer) {
    header(0, FrameType.settings, FrameFlags.acknowledge, 0, to: &out)
  }

  static func goAway(last: UInt32, _ code: ErrorCode, _ text: StaticString = "", to out: inout ByteBuffer) {
    header(8 + text.utf8CodeUnitCount, FrameType.goAway, FrameFlags.none, 0, to: &out)
    out.writeInteger(last)
    out.writeInteger(code.rawValue)
    out.writeStaticString(text)
  }
}
