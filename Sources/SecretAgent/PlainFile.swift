import Glibc
import Vocabulary

/// What went wrong with a file, with its path and the way out. Never holds content.
package struct FileFailure: Error, Equatable, CustomStringConvertible {
  package var description: String
  /// The system's error number, 0 when there is none.
  package var code: Int32 = 0

  init(_ description: String, code: Int32 = 0) {
    self.description = description
    self.code = code
  }

  static func system(_ action: String, _ path: String, _ code: Int32, hint: String = "") -> FileFailure {
    FileFailure("cannot \(action) \(path): \(String(cString: strerror(code)))\(hint)", code: code)
  }
}

/// Whole small files, read at once and replaced atomically.
enum PlainFile {
  /// What tells two versions of a file apart without reading it.
  struct Signature: Equatable, Sendable {
    var inode: UInt64
    var size: Int64
    var seconds: Int
    var nanoseconds: Int
  }

  /// Content larger than this many bytes is an error.
  static let limit = 16 << 20

  static func read(_ path: String) throws(FileFailure) -> [UInt8] {
    let file = open(path, O_RDONLY | O_CLOEXEC)
    guard file >= 0 else { throw .system("read", path, errno) }
    defer { close(file) }
    var text = ErasingText()
    var buffer = [UInt8](repeating: 0, count: 65536)
    defer { buffer.erase() }
    while true {
      let count = Glibc.read(file, &buffer, buffer.count)
      if count == 0 { return text.bytes }
      if count < 0 {
        if errno == EINTR { continue }
        throw .system("read", path, errno)
      }
      text.append(buffer[..<count])
      guard text.bytes.count <= limit else { throw FileFailure("\(path) is larger than 16 MiB") }
    }
  }

  static func signature(_ path: String) -> Signature? {
    var status = stat()
    guard stat(path, &status) == 0 else { return nil }
    return Signature(
      inode: UInt64(status.st_ino), size: Int64(status.st_size), seconds: status.st_mtim.tv_sec,
      nanoseconds: status.st_mtim.tv_nsec)
  }

  /// Permission bits; nil when there is no such file.
  static func mode(_ path: String) -> UInt32? {
    var status = stat()
    return stat(path, &status) == 0 ? status.st_mode & 0o7777 : nil
  }

  static func isDirectory(_ path: String) -> Bool {
    var status = stat()
    return stat(path, &status) == 0 && status.st_mode & S_IFMT == S_IFDIR
  }

  /// Names in a directory without hidden ones, sorted.
  static func list(_ path: String) throws(FileFailure) -> [String] {
    guard let directory = opendir(path) else { throw .system("read the directory", path, errno) }
    defer { closedir(directory) }
    return names(directory).filter { !$0.hasPrefix(".") }.sorted()
  }

  /// Hidden names in a directory; none when it cannot be read.
  static func hiddenNames(_ path: String) -> [String] {
    guard let directory = opendir(path) else { return [] }
    defer { closedir(directory) }
    return names(directory).filter { $0.hasPrefix(".") && $0 != "." && $0 != ".." }
  }

  private static func names(_ directory: OpaquePointer) -> [String] {
    var names: [String] = []
    while let entry = readdir(directory) {
      let name = withUnsafePointer(to: &entry.pointee.d_name) {
        $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
      }
      names.append(name)
    }
    return names
  }

  /// Whether the file has these octets; nothing of it is left in memory.
  static func holds(_ path: String, _ bytes: [UInt8]) -> Bool {
    let file = open(path, O_RDONLY | O_CLOEXEC)
    guard file >= 0 else { return false }
    defer { close(file) }
    var buffer = [UInt8](repeating: 0, count: Swift.min(bytes.count, 65536) + 1)
    defer { buffer.erase() }
    var at = 0
    while true {
      let count = Glibc.read(file, &buffer, buffer.count)
      if count < 0, errno == EINTR { continue }
      if count <= 0 { return count == 0 && at == bytes.count }
      guard at + count <= bytes.count, buffer[..<count].elementsEqual(bytes[at..<(at + count)]) else { return false }
      at += count
    }
  }

  /// Replaces `path` by a new file: an exclusive temporary in the same directory, mode and owner before content,
  /// fsync, rename. Readers see the old or the new file, never a part.
  static func replace(
    _ path: String, _ bytes: [UInt8], mode: UInt32, owner: uid_t? = nil, group: gid_t? = nil
  ) throws(FileFailure) {
    let directory = parent(of: path)
    let temporary = "\(directory)/.outrider-\(getpid())-\(String(UInt64.random(in: .min ... .max), radix: 36))"
    let file = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0o600)
    guard file >= 0 else {
      let code = errno
      let hint = code == ENOENT ? ": the directory \(directory) does not exist; create it first" : ""
      throw .system("write", path, code, hint: hint)
    }
    var isDone = false
    defer {
      close(file)
      if !isDone { unlink(temporary) }
    }
    guard fchmod(file, mode) == 0 else { throw .system("set the mode of", path, errno) }
    if owner != nil || group != nil {
      guard fchown(file, owner ?? uid_t.max, group ?? gid_t.max) == 0 else {
        throw .system("set the owner of", path, errno, hint: "; only root may give files away")
      }
    }
    try write(file, bytes, path)
    guard fsync(file) == 0, rename(temporary, path) == 0 else { throw .system("write", path, errno) }
    isDone = true
    synchronize(directory)
  }

  /// Has a directory's entries on the disk.
  static func synchronize(_ directory: String) {
    let folder = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    if folder >= 0 {
      fsync(folder)
      close(folder)
    }
  }

  static func parent(of path: String) -> String {
    guard let slash = path.lastIndex(of: "/") else { return "." }
    return slash == path.startIndex ? "/" : String(path[..<slash])
  }

  private static func write(_ file: Int32, _ bytes: [UInt8], _ path: String) throws(FileFailure) {
    var index = 0
    while index < bytes.count {
      let count = bytes[index...].withUnsafeBytes { Glibc.write(file, $0.baseAddress, $0.count) }
      if count < 0 {
        if errno == EINTR { continue }
        throw .system("write", path, errno)
      }
      index += count
    }
  }
}

/// User and group names to numbers.
enum Account {
  static func user(_ text: String) throws(FileFailure) -> uid_t {
    if let number = uid_t(text) { return number }
    var entry = passwd()
    var result: UnsafeMutablePointer<passwd>?
    var buffer = [CChar](repeating: 0, count: 16384)
    guard getpwnam_r(text, &entry, &buffer, buffer.count, &result) == 0, result != nil else {
      throw FileFailure("there is no user `\(text)`; use a name of /etc/passwd or a number")
    }
    return entry.pw_uid
  }

  static func group(_ text: String) throws(FileFailure) -> gid_t {
    if let number = gid_t(text) { return number }
    var entry = GroupEntry()
    var result: UnsafeMutablePointer<GroupEntry>?
    var buffer = [CChar](repeating: 0, count: 16384)
    guard getgrnam_r(text, &entry, &buffer, buffer.count, &result) == 0, result != nil else {
      throw FileFailure("there is no group `\(text)`; use a name of /etc/group or a number")
    }
    return entry.gr_gid
  }

  private typealias GroupEntry = Glibc.group
}
