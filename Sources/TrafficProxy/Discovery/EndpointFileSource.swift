import Traffic

#if canImport(Glibc)
  import Glibc
#else
  import Musl
#endif

/// Reads a file of endpoints when it has changed.
struct EndpointFileSource: Sendable {
  /// A larger file is an error.
  static let maxBytes = 4 << 20

  /// What tells two contents of a path apart.
  struct Signature: Sendable, Equatable {
    var device: UInt64
    var inode: UInt64
    var size: Int
    var seconds: Int
    var nanoseconds: Int
  }

  let decode: EndpointFileDecoder

  /// Nil = there is no such file. Follows symbolic links, so that a changed link is a change.
  static func signature(_ path: String) -> Signature? {
    var status = stat()
    guard stat(path, &status) == 0 else { return nil }
    return Signature(
      device: UInt64(status.st_dev), inode: UInt64(status.st_ino), size: Int(status.st_size),
      seconds: status.st_mtim.tv_sec, nanoseconds: status.st_mtim.tv_nsec)
  }

  func read(_ path: String) -> Result<[EndpointConfiguration], EndpointFileProblem> {
    let descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
    guard descriptor >= 0 else { return failure(path) }
    defer { close(descriptor) }
    var status = stat()
    guard fstat(descriptor, &status) == 0, status.st_mode & S_IFMT == S_IFREG else {
      return .failure(EndpointFileProblem("cannot read \(path): it is not a regular file"))
    }
    var content: [UInt8] = []
    var chunk = [UInt8](repeating: 0, count: 64 << 10)
    while true {
      #if canImport(Glibc)
        let count = Glibc.read(descriptor, &chunk, chunk.count)
      #else
        let count = Musl.read(descriptor, &chunk, chunk.count)
      #endif
      if count < 0, errno == EINTR { continue }
      if count < 0 { return failure(path) }
      if count == 0 { return decode(content, path) }
      content += chunk[..<count]
      if content.count > Self.maxBytes {
        return .failure(EndpointFileProblem("cannot read \(path): it is larger than \(Self.maxBytes >> 20) MiB"))
      }
    }
  }

  private func failure(_ path: String) -> Result<[EndpointConfiguration], EndpointFileProblem> {
    .failure(EndpointFileProblem("cannot read \(path): \(String(cString: strerror(errno)))"))
  }
}
