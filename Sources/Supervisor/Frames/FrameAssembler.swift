/// Puts frames together from the bytes and descriptors of a stream socket.
///
/// Descriptors arrive no later than the first byte of their frame and in the order of the frames, so a frame takes
/// as many as its header says from the front of the queue.
struct FrameAssembler {
  struct Frame: Equatable {
    let kind: UInt8
    let payload: ArraySlice<UInt8>
    let descriptors: [CInt]
  }

  private var bytes: [UInt8] = []
  private var consumed = 0
  private(set) var descriptors: [CInt] = []

  /// Nothing of a frame has arrived that was not taken.
  var isEmpty: Bool { consumed == bytes.count && descriptors.isEmpty }

  mutating func append(_ more: some Sequence<UInt8>, descriptors: [CInt] = []) {
    if consumed == bytes.count {
      bytes.removeAll(keepingCapacity: bytes.capacity <= 64 << 10)
      consumed = 0
    } else if consumed > 64 << 10 {
      bytes.removeFirst(consumed)
      consumed = 0
    }
    bytes.append(contentsOf: more)
    self.descriptors += descriptors
  }

  /// The next whole frame, nil when more bytes are needed.
  mutating func next() throws(FrameError) -> Frame? {
    guard bytes.count - consumed >= FrameLimits.header else { return nil }
    var length = 0
    for index in 0..<4 { length |= Int(bytes[consumed + index]) << (8 * index) }
    guard length <= FrameLimits.payload else {
      throw FrameError("a frame of \(length) bytes is above the limit of \(FrameLimits.payload)")
    }
    let start = consumed + FrameLimits.header
    guard bytes.count - start >= length else { return nil }
    let count = Int(bytes[consumed + 5])
    guard count <= descriptors.count else { throw FrameError("a frame misses its descriptors") }
    let frame = Frame(
      kind: bytes[consumed + 4], payload: bytes[start..<start + length],
      descriptors: Array(descriptors.prefix(count)))
    descriptors.removeFirst(count)
    consumed = start + length
    return frame
  }

  /// The bytes of a frame, header first.
  static func bytes(kind: UInt8, payload: [UInt8], descriptorCount: Int) -> [UInt8] {
    var writer = FrameWriter()
    writer.write(UInt32(payload.count))
    writer.write(kind)
    writer.write(UInt8(descriptorCount))
    return writer.bytes + payload
  }
}
