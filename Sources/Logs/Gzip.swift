import CZlib

/// gzip (RFC 1952) in one piece.
package enum Gzip {
  /// Compresses at level 1, made for logs on their way; nil only when memory is out.
  package static func compress(_ bytes: Bytes) -> [UInt8]? {
    var stream = z_stream()
    let made = deflateInit2_(
      &stream, 1, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY, ZLIB_VERSION, Int32(MemoryLayout<z_stream>.size))
    guard made == Z_OK else { return nil }
    defer { deflateEnd(&stream) }
    let bound = Int(deflateBound(&stream, UInt(bytes.count))) + 32
    var status = Z_OK
    let result = [UInt8](unsafeUninitializedCapacity: bound) { output, count in
      stream.next_in = UnsafeMutablePointer(
        mutating: bytes.baseAddress?.assumingMemoryBound(to: UInt8.self))
      stream.avail_in = UInt32(bytes.count)
      stream.next_out = output.baseAddress
      stream.avail_out = UInt32(bound)
      status = deflate(&stream, Z_FINISH)
      count = bound - Int(stream.avail_out)
    }
    return status == Z_STREAM_END ? result : nil
  }

  /// Decompresses members that follow each other, as Fluent's senders write them; nil as below.
  package static func decompressAll(_ bytes: Bytes, limit: Int) -> [UInt8]? {
    var result: [UInt8] = []
    var rest = bytes
    while !rest.isEmpty {
      var used = 0
      guard let part = decompress(rest, limit: limit - result.count, used: &used), used > 0 else { return nil }
      result += part
      rest = rest.part(used..<rest.count)
    }
    return result
  }

  /// Decompresses at most `limit` bytes; nil when the bytes are no whole gzip member or hold more.
  package static func decompress(_ bytes: Bytes, limit: Int) -> [UInt8]? {
    var used = 0
    return decompress(bytes, limit: limit, used: &used)
  }

  private static func decompress(_ bytes: Bytes, limit: Int, used: inout Int) -> [UInt8]? {
    var stream = z_stream()
    guard inflateInit2_(&stream, 15 + 16, ZLIB_VERSION, Int32(MemoryLayout<z_stream>.size)) == Z_OK else { return nil }
    defer { inflateEnd(&stream) }
    stream.next_in = UnsafeMutablePointer(mutating: bytes.baseAddress?.assumingMemoryBound(to: UInt8.self))
    stream.avail_in = UInt32(bytes.count)
    var result: [UInt8] = []
    var status = Z_OK
    while status == Z_OK, result.count <= limit {
      let piece = [UInt8](unsafeUninitializedCapacity: 64 << 10) { output, count in
        stream.next_out = output.baseAddress
        stream.avail_out = UInt32(output.count)
        status = inflate(&stream, Z_NO_FLUSH)
        count = output.count - Int(stream.avail_out)
      }
      if piece.isEmpty && status == Z_OK { return nil }
      result += piece
    }
    used = bytes.count - Int(stream.avail_in)
    return status == Z_STREAM_END && result.count <= limit ? result : nil
  }
}
