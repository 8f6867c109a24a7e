import Glibc
import Logs

/// The local store: NDJSON segments in a directory, named by the arrival of their first record, the oldest deleted when
/// all together exceed `keep` bytes.
final class StoreWriter {
  private let path: String
  private let keep: Int
  private let segmentLimit: Int
  private let arena = ByteArena()
  private var segments: [(name: String, size: Int)] = []
  private var descriptor: CInt = -1

  init(path: String, keep: Int) throws {
    self.path = path
    self.keep = max(keep, 128 << 10)
    segmentLimit = min(16 << 20, self.keep / 8)
    try StateFile.makeDirectory(path)
    for name in StateFile.names(in: path) where name.hasSuffix(".ndjson") {
      segments.append((name, StateFile.size(path + "/" + name) ?? 0))
    }
    try resume()
  }

  deinit { if descriptor >= 0 { close(descriptor) } }

  /// Goes on in the newest segment, without a line that a crash cut short: the spool still has it.
  private func resume() throws {
    guard let last = segments.last else { return }
    let file = path + "/" + last.name
    descriptor = open(file, O_RDWR | O_CLOEXEC)
    guard descriptor >= 0 else {
      throw LogStorageError("cannot open the log store's segment", file, errno, "check its permissions")
    }
    var end = last.size
    var byte: UInt8 = 0
    while end > 0, pread(descriptor, &byte, 1, off_t(end - 1)) == 1, byte != 0x0A { end -= 1 }
    if end < last.size { ftruncate(descriptor, off_t(end)) }
    segments[segments.count - 1].size = end
  }

  func add(_ record: SpooledRecord) { arena.append(record.bytes) }

  /// nil, or errno; then nothing of the batch was kept.
  func flush(time: Int64) -> CInt? {
    defer {
      arena.removeAll()
      arena.release(above: 1 << 20)
    }
    if segments.isEmpty || segments[segments.count - 1].size >= segmentLimit, let code = rotate(time) { return code }
    let size = segments[segments.count - 1].size
    guard lseek(descriptor, off_t(size), SEEK_SET) >= 0, StateFile.writeAll(descriptor, arena.bytes) else {
      let code = errno
      ftruncate(descriptor, off_t(size))
      return code
    }
    segments[segments.count - 1].size += arena.count
    return nil
  }

  private func rotate(_ time: Int64) -> CInt? {
    // Names ascend even when the clock does not.
    var stamp = time / 1_000_000
    if let last = segments.last, let before = StoreSegment.start(last.name) { stamp = max(stamp, before + 1) }
    let name = StoreSegment.name(stamp)
    let fd = open(path + "/" + name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
    guard fd >= 0 else { return errno }
    if descriptor >= 0 { close(descriptor) }
    descriptor = fd
    segments.append((name, 0))
    var total = segments.reduce(0) { $0 + $1.size } + segmentLimit
    while total > keep, segments.count > 1 {
      total -= segments[0].size
      unlink(path + "/" + segments.removeFirst().name)
    }
    return nil
  }
}

/// The names of the store's segments.
enum StoreSegment {
  /// `stamp` is in milliseconds since 1970.
  static func name(_ stamp: Int64) -> String {
    let digits = String(max(0, stamp))
    return String(repeating: "0", count: max(0, 16 - digits.utf8.count)) + digits + ".ndjson"
  }

  static func start(_ name: String) -> Int64? { name.hasSuffix(".ndjson") ? Int64(name.dropLast(7)) : nil }
}
