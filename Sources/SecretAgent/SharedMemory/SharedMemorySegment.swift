import CLinux
import Glibc
import Secrets

/// One mapped segment of layout v1 and its only writer.
///
/// Order of a publication: seq becomes odd, release fence, records, zeros over the rest of the former ones, header,
/// seq becomes even (release), wake. A reader that sees the same even seq before and after has a whole publication.
final class SharedMemorySegment {
  let length: Int
  let descriptor: CInt
  private let memory: UnsafeMutableRawBufferPointer
  private var used = 0
  private(set) var generation: UInt64 = 0

  /// Maps the descriptor, which holds `length` zero octets and becomes this segment's, and writes the header.
  init?(descriptor: CInt, length: Int) {
    let address = mmap(nil, length, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0)
    guard let address, address != MAP_FAILED else { return nil }
    madvise(address, length, MADV_DONTDUMP)
    self.descriptor = descriptor
    self.length = length
    memory = UnsafeMutableRawBufferPointer(start: address, count: length)
    SharedMemoryLayout.put(UInt32(SharedMemoryLayout.headerLength), memory, SharedMemoryLayout.Offset.headerLength)
    SharedMemoryLayout.put(UInt32(length), memory, SharedMemoryLayout.Offset.segmentLength)
    memory.copyBytes(from: SharedMemoryLayout.magic)
  }

  deinit {
    munmap(memory.baseAddress, length)
    close(descriptor)
  }

  private var word: UnsafeMutablePointer<UInt32>? {
    (memory.baseAddress.map { $0 + SharedMemoryLayout.Offset.sequence })?.assumingMemoryBound(to: UInt32.self)
  }

  /// False when the records do not fit.
  func publish(
    _ records: [SharedMemoryLayout.Record], _ flags: SharedMemoryLayout.Flags, milliseconds: UInt64
  ) -> Bool {
    guard SharedMemoryLayout.headerLength + SharedMemoryLayout.length(of: records) <= length else { return false }
    write(flags, milliseconds: milliseconds, records)
    return true
  }

  private func write(
    _ flags: SharedMemoryLayout.Flags, milliseconds: UInt64, _ records: [SharedMemoryLayout.Record]
  ) {
    guard let word else { return }
    let sequence = outrider_load_acquire(word) & ~1
    outrider_store_release(word, sequence &+ 1)
    outrider_release_fence()
    let payload = UnsafeMutableRawBufferPointer(rebasing: memory[SharedMemoryLayout.headerLength...])
    let fresh = SharedMemoryLayout.write(records, into: payload)
    if fresh < used, let base = payload.baseAddress { memset(base + fresh, 0, used - fresh) }
    used = fresh
    let checksum = CRC32.checksum(UnsafeRawBufferPointer(rebasing: payload[..<used]))
    SharedMemoryLayout.put(UInt32(used), memory, SharedMemoryLayout.Offset.used)
    SharedMemoryLayout.put(checksum, memory, SharedMemoryLayout.Offset.checksum)
    SharedMemoryLayout.put(UInt32(records.count), memory, SharedMemoryLayout.Offset.count)
    SharedMemoryLayout.put(milliseconds, memory, SharedMemoryLayout.Offset.published)
    generation += 1
    SharedMemoryLayout.put(generation, memory, SharedMemoryLayout.Offset.generation)
    SharedMemoryLayout.put(flags.rawValue, memory, SharedMemoryLayout.Offset.flags)
    outrider_store_release(word, sequence &+ 2)
    outrider_wake_waiters(word)
  }
}

extension SharedMemorySegment {
  /// Sealed anonymous memory.
  static func anonymous(length: Int) throws(FileFailure) -> SharedMemorySegment {
    let descriptor = outrider_secret_memory(length)
    guard descriptor >= 0 else { throw .system("make", "anonymous memory for secrets", errno) }
    guard let segment = SharedMemorySegment(descriptor: descriptor, length: length) else {
      let code = errno
      close(descriptor)
      throw .system("map", "anonymous memory for secrets", code)
    }
    guard outrider_seal_memory(descriptor) == 0 else {
      throw .system("seal", "anonymous memory for secrets", errno, hint: "; shared memory needs Linux 5.1 or later")
    }
    return segment
  }

  /// A file of mode 0600 beside `path`, to be renamed once it holds something.
  static func file(
    at path: String, length: Int, owner: uid_t?
  ) throws(FileFailure) -> (segment: SharedMemorySegment, temporary: String) {
    let temporary = "\(path).\(getpid())"
    unlink(temporary)
    let descriptor = open(temporary, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0o600)
    guard descriptor >= 0 else { throw .system("write", path, errno) }
    do throws(FileFailure) {
      if let owner, owner != geteuid(), fchown(descriptor, owner, gid_t.max) != 0 {
        throw .system("set the owner of", path, errno, hint: "; only root may give files away")
      }
      // Every page is there from now on: no full file system interrupts a writer.
      let code = posix_fallocate(descriptor, 0, off_t(length))
      guard code == 0 else { throw .system("write", path, code) }
      guard let segment = SharedMemorySegment(descriptor: descriptor, length: length) else {
        throw .system("map", path, errno)
      }
      return (segment, temporary)
    } catch {
      unlink(temporary)
      close(descriptor)
      throw error
    }
  }

  /// Tells the readers of a segment that an earlier worker left at `path` that nothing comes there any more.
  static func closeLeftover(at path: String, owner: uid_t) {
    let descriptor = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW)
    guard descriptor >= 0 else { return }
    defer { close(descriptor) }
    var status = stat()
    guard fstat(descriptor, &status) == 0, status.st_mode & S_IFMT == S_IFREG, status.st_uid == owner,
      status.st_size >= SharedMemoryLayout.headerLength, status.st_size <= SharedMemoryLayout.limit
    else { return }
    let length = Int(status.st_size)
    let address = mmap(nil, length, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0)
    guard let address, address != MAP_FAILED else { return }
    defer { munmap(address, length) }
    let memory = UnsafeMutableRawBufferPointer(start: address, count: length)
    guard memory.starts(with: SharedMemoryLayout.magic) else { return }
    let word = (address + SharedMemoryLayout.Offset.sequence).assumingMemoryBound(to: UInt32.self)
    let sequence = outrider_load_acquire(word) & ~1
    outrider_store_release(word, sequence &+ 1)
    outrider_release_fence()
    memset(address + SharedMemoryLayout.headerLength, 0, length - SharedMemoryLayout.headerLength)
    for offset in [
      SharedMemoryLayout.Offset.used, SharedMemoryLayout.Offset.checksum, SharedMemoryLayout.Offset.count,
    ] { SharedMemoryLayout.put(UInt32(0), memory, offset) }
    SharedMemoryLayout.put(SharedMemoryLayout.Flags.closed.rawValue, memory, SharedMemoryLayout.Offset.flags)
    outrider_store_release(word, sequence &+ 2)
    outrider_wake_waiters(word)
  }
}
