import Vocabulary

/// Bounds of the frame format. A frame is: payload length (4 bytes, little endian), kind (1), descriptor count (1),
/// payload. Integers are little endian; a string or list is a 4-byte count and its elements.
package enum FrameLimits {
  /// The version of the format; both ends must agree.
  package static let version: UInt32 = 1
  /// Bytes of payload: above the kernel's own limit for arguments and environment together (2 MiB by default).
  package static let payload = 4 << 20
  package static let header = 6
  /// Addresses of one `bind`, because each answers with a descriptor.
  package static let addresses = 200
}

/// Why a peer's bytes are no frame.
package struct FrameError: Error, Equatable, CustomStringConvertible {
  package let description: String
  init(_ description: String) { self.description = description }
}

/// Builds a payload.
struct FrameWriter {
  private(set) var bytes: [UInt8] = []

  mutating func write(_ value: UInt8) { bytes.append(value) }
  mutating func write(_ value: Bool) { bytes.append(value ? 1 : 0) }
  mutating func write(_ value: UInt32) {
    for shift in stride(from: UInt32(0), to: 32, by: 8) { bytes.append(UInt8(truncatingIfNeeded: value >> shift)) }
  }
  mutating func write(_ value: Int32) { write(UInt32(bitPattern: value)) }
  mutating func write(_ value: Int64) {
    write(UInt32(truncatingIfNeeded: value))
    write(UInt32(truncatingIfNeeded: value >> 32))
  }
  /// Whole milliseconds, rounded down.
  mutating func write(_ value: Duration) {
    write(min(max(value, .zero), .seconds(1 << 50)).inMilliseconds)
  }
  mutating func write(_ value: String) {
    write(UInt32(value.utf8.count))
    bytes.append(contentsOf: value.utf8)
  }
  mutating func write(_ value: String?) {
    write(value != nil)
    if let value { write(value) }
  }
  mutating func write(_ value: Address) { write(value.description) }
  mutating func write(_ values: [String]) {
    write(UInt32(values.count))
    for value in values { write(value) }
  }
  mutating func write(_ values: [Address]) { write(values.map(\.description)) }
  mutating func write(_ value: LifecycleState) { write(value.rawValue) }
  mutating func write(_ value: ProcessExit) {
    switch value {
    case .code(let code):
      write(UInt8(0))
      write(code)
    case .signal(let number):
      write(UInt8(1))
      write(number)
    }
  }
}

/// Takes a payload apart; every read checks its bounds.
struct FrameReader {
  private let bytes: ArraySlice<UInt8>
  private var position: Int

  init(_ bytes: ArraySlice<UInt8>) {
    self.bytes = bytes
    position = bytes.startIndex
  }

  private var left: Int { bytes.endIndex - position }

  mutating func byte() throws(FrameError) -> UInt8 {
    guard left >= 1 else { throw FrameError("a frame ends too early") }
    defer { position += 1 }
    return bytes[position]
  }
  mutating func bool() throws(FrameError) -> Bool {
    switch try byte() {
    case 0: return false
    case 1: return true
    default: throw FrameError("a truth value is neither 0 nor 1")
    }
  }
  mutating func uint32() throws(FrameError) -> UInt32 {
    guard left >= 4 else { throw FrameError("a frame ends too early") }
    var value: UInt32 = 0
    for index in 0..<4 { value |= UInt32(bytes[position + index]) << UInt32(8 * index) }
    position += 4
    return value
  }
  mutating func int32() throws(FrameError) -> Int32 { Int32(bitPattern: try uint32()) }
  mutating func duration() throws(FrameError) -> Duration {
    let low = UInt64(try uint32())
    let milliseconds = Int64(bitPattern: UInt64(try uint32()) << 32 | low)
    guard (0...(1 << 60)).contains(milliseconds) else { throw FrameError("a duration is out of range") }
    return .milliseconds(milliseconds)
  }
  mutating func string() throws(FrameError) -> String {
    let count = Int(try uint32())
    guard count <= left else { throw FrameError("a string is longer than its frame") }
    let text = bytes[position..<position + count]
    guard let value = String(validating: text, as: UTF8.self) else { throw FrameError("a string is not UTF-8") }
    position += count
    return value
  }
  mutating func optionalString() throws(FrameError) -> String? { try bool() ? try string() : nil }
  mutating func strings() throws(FrameError) -> [String] {
    let count = Int(try uint32())
    guard count <= left / 4 else { throw FrameError("a list is longer than its frame") }
    var values: [String] = []
    for _ in 0..<count { values.append(try string()) }
    return values
  }
  mutating func address() throws(FrameError) -> Address {
    guard let value = Address(try string()) else { throw FrameError("an address is malformed") }
    return value
  }
  mutating func addresses() throws(FrameError) -> [Address] {
    let count = Int(try uint32())
    guard count <= FrameLimits.addresses else { throw FrameError("more than \(FrameLimits.addresses) addresses") }
    var values: [Address] = []
    for _ in 0..<count { values.append(try address()) }
    return values
  }
  mutating func state() throws(FrameError) -> LifecycleState {
    guard let value = LifecycleState(rawValue: try string()) else { throw FrameError("a state is unknown") }
    return value
  }
  mutating func processExit() throws(FrameError) -> ProcessExit {
    try byte() == 0 ? .code(try int32()) : .signal(try int32())
  }
  func finish() throws(FrameError) {
    guard left == 0 else { throw FrameError("a frame has \(left) bytes too many") }
  }
}
