import NIOCore

/// Small writes of one connection, put together until the flush: a response's head and its small body are one TLS
/// record, sealed and written once. One a loop, because a connection flushes before another one writes.
struct RecordGathering {
  /// The plaintext of a record (RFC 8446 section 5.1).
  static let limit = 16 << 10

  fileprivate var owner: DownstreamHandler?
  fileprivate var bytes = ByteBuffer()
}

extension DownstreamHandler {
  func gather(_ buffer: ByteBuffer) {
    if loop.gathering.owner !== self {
      loop.gathering.owner?.releaseGathered()
      loop.gathering.owner = self
      // Unique again: what was in it has been sealed.
      loop.gathering.bytes.clear()
    }
    if loop.gathering.bytes.readableBytes + buffer.readableBytes <= RecordGathering.limit {
      loop.gathering.bytes.writeImmutableBuffer(buffer)
    } else {
      releaseGathered()
      context?.write(wrapOutboundOut(buffer), promise: nil)
    }
  }

  /// Hands what was gathered to the TLS engine, which seals it at the flush.
  func releaseGathered() {
    guard loop.gathering.owner === self else { return }
    loop.gathering.owner = nil
    guard loop.gathering.bytes.readableBytes > 0 else { return }
    context?.write(wrapOutboundOut(loop.gathering.bytes), promise: nil)
  }
}
