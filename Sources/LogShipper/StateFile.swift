import CLinux
import Glibc
import Logs

/// A failure of the log pipeline's files, with the place and the way out.
package struct LogStorageError: Error, CustomStringConvertible {
  package var description: String

  init(description: String) { self.description = description }

  init(_ what: String, _ path: String, _ code: CInt, _ wayOut: String) {
    description = "\(what) '\(path)': \(String(cString: strerror(code))); \(wayOut)"
  }
}

/// The few file operations that the pipeline is built of.
enum StateFile {
  /// Makes the directory and its parents, mode 0700.
  static func makeDirectory(_ path: String) throws {
    var made = path.hasPrefix("/") ? "/" : ""
    for part in path.split(separator: "/") {
      made += part + "/"
      if mkdir(made, 0o700) != 0, errno != EEXIST {
        throw LogStorageError("cannot make the directory", made, errno, "check its parent's permissions or use --state")
      }
    }
  }

  /// Names in a directory, sorted; empty when it cannot be read.
  static func names(in path: String) -> [String] {
    guard let directory = opendir(path) else { return [] }
    defer { closedir(directory) }
    var names: [String] = []
    while let entry = readdir(directory) {
      let name = withUnsafeBytes(of: &entry.pointee.d_name) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
      if name != ".", name != ".." { names.append(name) }
    }
    return names.sorted()
  }

  /// The whole file, nil when it cannot be read or is longer than `limit` bytes.
  static func contents(_ path: String, limit: Int = 64 << 20) -> [UInt8]? {
    let fd = open(path, O_RDONLY | O_CLOEXEC)
    guard fd >= 0 else { return nil }
    defer { close(fd) }
    var all: [UInt8] = []
    while all.count <= limit {
      let piece = [UInt8](unsafeUninitializedCapacity: 64 << 10) { buffer, count in
        count = max(0, read(fd, buffer.baseAddress, buffer.count))
      }
      if piece.isEmpty { return all }
      all += piece
    }
    return nil
  }

  /// Puts `bytes` in the file's place in one step; the old content stands until then. False and errno on failure.
  static func replace(_ path: String, _ bytes: Bytes) -> Bool {
    let fresh = path + ".new"
    let fd = open(fresh, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
    guard fd >= 0 else { return false }
    let written = writeAll(fd, bytes)
    let code = errno
    close(fd)
    guard written, rename(fresh, path) == 0 else {
      if !written { errno = code }
      unlink(fresh)
      return false
    }
    return true
  }

  static func replace(_ path: String, _ text: String) -> Bool {
    Array(text.utf8).withUnsafeBytes { replace(path, $0) }
  }

  /// Puts a line in the place of the one that the file has, in one write of `width` bytes: whoever is killed leaves the
  /// old one or the new one, and nothing is allocated. False and errno on failure.
  static func overwrite(_ path: String, _ line: String, width: Int = 96) -> Bool {
    var bytes = Array(line.utf8)
    while bytes.last == 0x0A { bytes.removeLast() }
    while bytes.count < width - 1 { bytes.append(0x20) }
    bytes.append(0x0A)
    let fd = open(path, O_WRONLY | O_CLOEXEC)
    if fd >= 0 {
      defer { close(fd) }
      if lseek(fd, 0, SEEK_END) == off_t(bytes.count) {
        return bytes.withUnsafeBytes { pwrite(fd, $0.baseAddress, $0.count, 0) } == bytes.count
      }
    }
    return bytes.withUnsafeBytes { replace(path, $0) }
  }

  /// Writes everything at the descriptor's position; false and errno when it did not all go.
  static func writeAll(_ fd: CInt, _ bytes: Bytes) -> Bool {
    var done = 0
    while done < bytes.count {
      let n = write(fd, bytes.baseAddress! + done, bytes.count - done)
      if n > 0 { done += n } else if n == 0 || errno != EINTR { return false }
    }
    return true
  }

  static func size(_ path: String) -> Int? {
    var info = stat()
    return stat(path, &info) == 0 ? Int(info.st_size) : nil
  }
}

enum Clock {
  /// Nanoseconds since 1970.
  static func now() -> Int64 {
    var time = timespec()
    clock_gettime(CLOCK_REALTIME, &time)
    return Int64(time.tv_sec) * 1_000_000_000 + Int64(time.tv_nsec)
  }

  /// Nanoseconds of a clock that never jumps.
  static func monotonic() -> Int64 {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return Int64(time.tv_sec) * 1_000_000_000 + Int64(time.tv_nsec)
  }
}
