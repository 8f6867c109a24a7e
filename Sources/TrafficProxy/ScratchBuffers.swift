import NIOCore

/// Buffers that heads are written into, each used again once what it held has left.
struct ScratchBuffers {
  /// Octets that a buffer has room for at first.
  static let size = 2 << 10
  private static let limit = 256
  /// A buffer that grew beyond this for one head is not kept.
  private static let largest = 16 << 10

  private var buffers: ContiguousArray<ByteBuffer> = []
  private var oldest = 0

  /// Keeps `buffer`, which is still in use, and leaves an empty one there.
  mutating func exchange(_ buffer: inout ByteBuffer) {
    if !buffers.isEmpty, buffers[oldest].modifyIfUniquelyOwned({ $0.clear() }) != nil {
      swap(&buffers[oldest], &buffer)
      if buffer.capacity > Self.largest { buffer = Self.fresh() }
    } else {
      // In front of the oldest, which has its turn next; beyond the limit it is left to those who have it.
      if buffers.count < Self.limit {
        buffers.insert(buffer, at: oldest)
      } else {
        buffers[oldest] = buffer
      }
      buffer = Self.fresh()
    }
    oldest = oldest + 1 == buffers.count ? 0 : oldest + 1
  }

  private static func fresh() -> ByteBuffer { ByteBufferAllocator().buffer(capacity: size) }
}
