import Glibc
import Logs
import Telemetry

/// Appends NDJSON to one file, which it rotates when it is told to; something else may as well: the file is opened for each
/// batch.
final class FileWriter {
  private let path: String
  private let rotation: FileRotation?
  private let arena = ByteArena()

  init(path: String, rotation: FileRotation?) {
    self.path = path
    self.rotation = rotation
  }

  func add(_ record: SpooledRecord) { arena.append(record.bytes) }

  /// nil, or errno; then nothing of the batch was kept.
  func flush() -> CInt? {
    defer { arena.removeAll() }
    if arena.count == 0 { return nil }
    if let rotation, let code = rotate(rotation) { return code }
    let fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0o640)
    guard fd >= 0 else { return errno }
    defer { close(fd) }
    let before = lseek(fd, 0, SEEK_END)
    guard StateFile.writeAll(fd, arena.bytes) else {
      let code = errno
      if before >= 0 { ftruncate(fd, before) }
      return code
    }
    return nil
  }

  /// Moves the files on by one when it is time; nil, or errno. What was moved when a step fails is found by the next call.
  private func rotate(_ rotation: FileRotation) -> CInt? {
    var status = stat()
    guard stat(path, &status) == 0 else { return errno == ENOENT ? nil : errno }
    let modified = Int64(status.st_mtim.tv_sec) * 1_000_000_000 + Int64(status.st_mtim.tv_nsec)
    let due = rotation.isDue(size: Int(status.st_size), adding: arena.count, modified: modified, now: Clock.now())
    // Something that is no file (a pipe, a terminal) cannot be rotated.
    guard due, status.st_mode & S_IFMT == S_IFREG else { return nil }
    for number in stride(from: rotation.keep - 1, through: 1, by: -1) {
      if rename("\(path).\(number)", "\(path).\(number + 1)") != 0, errno != ENOENT { return errno }
    }
    return rename(path, path + ".1") == 0 ? nil : errno
  }
}
