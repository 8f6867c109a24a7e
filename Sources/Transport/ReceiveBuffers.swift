import NIOCore

/// The buffers that sockets are read into, for a whole loop. Handlers keep what they were given for a while, such as the
/// head of a request until it was answered; a buffer is used again once nobody has it any more: the latest, else the
/// oldest. There come to be about as many of them as are in use at a time.
struct ReceiveBuffers {
  /// Octets: of the first read of a connection, and of those of one that always fills its buffer.
  static let least = 2 << 10
  static let most = 64 << 10
  /// Octets in the buffers of one size.
  private static let limit = 512 << 10

  private struct Ring {
    var buffers: ContiguousArray<ByteBuffer> = []
    var oldest = 0
    /// Used last: its memory is near.
    var latest = 0
  }

  private let allocator = ByteBufferAllocator()
  private var rings = ContiguousArray(repeating: Ring(), count: 6)

  private static func index(_ size: Int) -> Int { (size / least).trailingZeroBitCount }

  /// Has `body` fill room for `size` octets, which is a power of two in `least...most`, and return how many it has
  /// filled; they are the buffer's.
  @inline(__always)
  mutating func fill(_ size: Int, _ body: (UnsafeMutableRawPointer) -> Int) -> ByteBuffer {
    let index = Self.index(size)
    let place = free(index, size)
    _ = rings[index].buffers[place].writeWithUnsafeMutableBytes(minimumWritableBytes: size) { room in
      room.baseAddress.map(body) ?? 0
    }
    return rings[index].buffers[place]
  }

  /// Where a buffer stands that nobody has.
  private mutating func free(_ index: Int, _ size: Int) -> Int {
    let count = rings[index].buffers.count
    let oldest = rings[index].oldest
    if count > 0 {
      let latest = rings[index].latest
      if rings[index].buffers[latest].modifyIfUniquelyOwned({ $0.clear() }) != nil { return latest }
      if rings[index].buffers[oldest].modifyIfUniquelyOwned({ $0.clear() }) != nil {
        rings[index].oldest = oldest + 1 == count ? 0 : oldest + 1
        rings[index].latest = oldest
        return oldest
      }
    }
    rings[index].latest = oldest
    let fresh = allocator.buffer(capacity: size)
    guard count < max(2, Self.limit / size) else {
      rings[index].buffers[oldest] = fresh
      rings[index].oldest = oldest + 1 == count ? 0 : oldest + 1
      return oldest
    }
    // In front of the oldest, which has its turn next.
    rings[index].buffers.insert(fresh, at: oldest)
    rings[index].oldest = oldest == count ? 0 : oldest + 1
    return oldest
  }
}
