import Glibc
import Logs
import Telemetry

/// Where a sink's refused records are kept, one a line with the reason.
struct DeadLetterFile: Sendable {
  let path: String
  let sink: String

  var hasReplay: Bool { access(DeadLetterReplay.path(of: path), F_OK) == 0 }

  /// Nil when all were written, else what is wrong; then nothing of them was.
  func append(_ records: [(record: Bytes, reason: String)]) -> String? {
    let arena = ByteArena()
    for (record, reason) in records {
      BulkResponse.deadLetter(reason: reason, sink: sink, time: Clock.now(), record: record, into: arena)
    }
    let fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0o600)
    guard fd >= 0 else { return problem(errno) }
    defer { close(fd) }
    let before = lseek(fd, 0, SEEK_END)
    guard StateFile.writeAll(fd, arena.bytes) else {
      let code = errno
      ftruncate(fd, before)
      return problem(code)
    }
    return nil
  }

  private func problem(_ code: CInt) -> String {
    "cannot write the dead-letter file '\(path)': \(String(cString: strerror(code)))"
  }
}
