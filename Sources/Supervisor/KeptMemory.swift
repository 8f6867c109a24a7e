import CLinux
import Glibc

/// Memory that the supervisor keeps for its workers, without looking into it: the configuration in use, so that a worker
/// that takes over begins with what its predecessor had applied and not with what happens to stand on disk.
///
/// The bytes are valid when the header is: length (8 bytes), checksum of the bytes (8). It is written last.
package struct KeptMemory: Sendable {
  package static let limit = 64 << 20
  private static let header = 16
  let descriptor: CInt

  /// New memory; nil when the system has none to give.
  init?() {
    descriptor = outrider_memory()
    if descriptor < 0 { return nil }
  }

  /// Memory that was handed over; nil when the descriptor is something else.
  package init?(descriptor: CInt) {
    guard outrider_is_memory(descriptor) == 1 else { return nil }
    self.descriptor = descriptor
    _ = fcntl(descriptor, F_SETFD, FD_CLOEXEC)
  }

  /// Keeps the bytes in place of the former ones; on failure nothing is kept.
  package func write(_ bytes: [UInt8]) {
    guard bytes.count <= Self.limit else { return clear() }
    clear()
    guard put(bytes, at: Self.header) else { return clear() }
    var fields = (UInt64(bytes.count), Self.checksum(bytes))
    _ = put(withUnsafeBytes(of: &fields) { Array($0) }, at: 0)
  }

  package func clear() { _ = ftruncate(descriptor, 0) }

  /// What was kept; nil when there is nothing, or a part of something.
  package func read() -> [UInt8]? {
    guard let start = take(Self.header, at: 0) else { return nil }
    let fields = start.withUnsafeBytes { ($0.load(as: UInt64.self), $0.load(fromByteOffset: 8, as: UInt64.self)) }
    guard fields.0 <= Self.limit, let bytes = take(Int(fields.0), at: Self.header), Self.checksum(bytes) == fields.1
    else { return nil }
    return bytes
  }

  private func put(_ bytes: [UInt8], at offset: Int) -> Bool {
    var done = 0
    while done < bytes.count {
      let count = bytes[done...].withUnsafeBytes { pwrite(descriptor, $0.baseAddress, $0.count, off_t(offset + done)) }
      if count <= 0 { return false }
      done += count
    }
    return true
  }

  private func take(_ count: Int, at offset: Int) -> [UInt8]? {
    var bytes = [UInt8](repeating: 0, count: count)
    var done = 0
    while done < count {
      let got = bytes[done...].withUnsafeMutableBytes {
        pread(descriptor, $0.baseAddress, $0.count, off_t(offset + done))
      }
      if got <= 0 { return nil }
      done += got
    }
    return bytes
  }

  /// FNV-1a: a part that was never written shows.
  private static func checksum(_ bytes: [UInt8]) -> UInt64 {
    bytes.reduce(0xcbf2_9ce4_8422_2325) { ($0 ^ UInt64($1)) &* 0x100_0000_01b3 }
  }
}
