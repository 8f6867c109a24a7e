import HTTP1
import NIOCore

/// Writes octets into a buffer whose room was asked for once: one capacity check a head or a record instead of one a field.
/// Every write is checked against that room.
struct OctetWriter {
  private var position: UnsafeMutableRawPointer
  private let end: UnsafeMutableRawPointer

  private init(_ room: UnsafeMutableRawBufferPointer) {
    // A buffer with room for at least one octet always has an address.
    position = room.baseAddress.unsafelyUnwrapped
    end = position + room.count
  }

  /// Appends to `buffer` what `body` writes: at most `room` octets, more is a programming error and traps.
  @inline(__always)
  static func append(to buffer: inout ByteBuffer, room: Int, _ body: (inout OctetWriter) -> Void) {
    buffer.writeWithUnsafeMutableBytes(minimumWritableBytes: max(1, room)) { room in
      var writer = OctetWriter(room)
      let start = writer.position
      body(&writer)
      return writer.position - start
    }
  }

  @inline(__always)
  private mutating func take(_ count: Int) -> UnsafeMutableRawPointer {
    precondition(count <= end - position, "what is written outgrew the room that was computed for it")
    let start = position
    position += count
    return start
  }

  @inline(__always)
  mutating func bytes(_ source: UnsafeRawBufferPointer) {
    guard let base = source.baseAddress, source.count > 0 else { return }
    take(source.count).copyMemory(from: base, byteCount: source.count)
  }

  @inline(__always)
  mutating func bytes(_ source: [UInt8]) { source.withUnsafeBytes { bytes($0) } }

  @inline(__always)
  mutating func text(_ source: StaticString) {
    take(source.utf8CodeUnitCount).copyMemory(from: source.utf8Start, byteCount: source.utf8CodeUnitCount)
  }

  @inline(__always)
  mutating func octet(_ value: UInt8) { take(1).storeBytes(of: value, as: UInt8.self) }

  /// Sixteen lower-case hexadecimal digits.
  @inline(__always)
  mutating func hex(_ word: UInt64) {
    let (high, low) = Hex.digits(word)
    let start = take(16)
    start.storeBytes(of: high.bigEndian, as: UInt64.self)
    (start + 8).storeBytes(of: low.bigEndian, as: UInt64.self)
  }

  /// Up to twenty digits.
  @inline(__always)
  mutating func decimal(_ number: UInt64) {
    if number < 10 { return octet(UInt8(truncatingIfNeeded: 48 + number)) }
    var count = 1
    var rest = number / 10
    while rest > 0 {
      count += 1
      rest /= 10
    }
    let start = take(count)
    rest = number
    while count > 0 {
      count -= 1
      start.storeBytes(of: UInt8(truncatingIfNeeded: 48 + rest % 10), toByteOffset: count, as: UInt8.self)
      rest /= 10
    }
  }

  /// A number below a thousand with its leading zeros.
  @inline(__always)
  mutating func threeDigits(_ number: UInt64) {
    let start = take(3)
    start.storeBytes(of: UInt8(truncatingIfNeeded: 48 + number / 100 % 10), as: UInt8.self)
    start.storeBytes(of: UInt8(truncatingIfNeeded: 48 + number / 10 % 10), toByteOffset: 1, as: UInt8.self)
    start.storeBytes(of: UInt8(truncatingIfNeeded: 48 + number % 10), toByteOffset: 2, as: UInt8.self)
  }

  /// Nanoseconds as milliseconds with three decimals: up to 18 octets.
  @inline(__always)
  mutating func milliseconds(_ nanoseconds: UInt64) {
    let microseconds = nanoseconds / 1000
    decimal(microseconds / 1000)
    octet(0x2E)
    threeDigits(microseconds % 1000)
  }
}

/// Lower-case hexadecimal digits, eight at a time.
enum Hex {
  /// The ASCII digits of the upper and the lower half of `word`, most significant first.
  @inline(__always)
  static func digits(_ word: UInt64) -> (UInt64, UInt64) {
    (digits(half: word >> 32), digits(half: word & 0xffff_ffff))
  }

  @inline(__always)
  private static func digits(half: UInt64) -> UInt64 {
    // Spread eight nibbles over eight octets, then add '0', and 39 more where a nibble is above 9.
    var spread = (half | half << 16) & 0x0000_ffff_0000_ffff
    spread = (spread | spread << 8) & 0x00ff_00ff_00ff_00ff
    spread = (spread | spread << 4) & 0x0f0f_0f0f_0f0f_0f0f
    let letters = ((spread &+ 0x0606_0606_0606_0606) >> 4) & 0x0101_0101_0101_0101
    return spread &+ 0x3030_3030_3030_3030 &+ letters &* 39
  }
}

extension ByteBuffer {
  /// Sixteen lower-case hexadecimal digits.
  mutating func writeHex(_ word: UInt64) {
    let (high, low) = Hex.digits(word)
    writeMultipleIntegers(high, low)
  }
}
