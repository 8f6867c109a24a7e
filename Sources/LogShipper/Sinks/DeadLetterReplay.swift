import Glibc
import Logs
import Telemetry

/// The dead letters that a sink was asked to send again: `outrider logs dead-letter replay` moves the file there, and what is
/// refused once more goes to a fresh dead-letter file. The file is removed when all of it is settled.
final class DeadLetterReplay {
  /// Where the letters of that file wait.
  static func path(of deadLetters: String) -> String { deadLetters + ".replay" }

  let path: String
  private let descriptor: CInt
  private let arena = ByteArena(capacity: 64 << 10)
  private var isEnd = false

  /// Nil when there is nothing to send again.
  init?(of deadLetters: String) {
    path = Self.path(of: deadLetters)
    descriptor = open(path, O_RDONLY | O_CLOEXEC)
    if descriptor < 0 { return nil }
  }

  deinit { close(descriptor) }

  /// Fills a batch with the next letters, up to so many bytes and records; false when there are no more. Returns lines that
  /// are no letters through `damaged`, by number.
  func fill(_ batch: SinkBatch, bytes: Int, records: Int, damaged: inout UInt64) -> Bool {
    while batch.items.count < records, batch.bytes < bytes {
      guard let end = arena.bytes.firstOffset(of: 0x0A) else {
        if isEnd { break }
        let n = read(descriptor, arena.reserve(64 << 10), 64 << 10)
        if n > 0 { arena.advance(n) } else { isEnd = true }
        continue
      }
      let line = arena.bytes.part(0..<end)
      if let letter = DeadLetter(line) { add(line.part(letter.record), to: batch) } else { damaged += 1 }
      arena.removeFirst(end + 1)
    }
    // A last line without its end was never whole.
    return !batch.items.isEmpty
  }

  private func add(_ record: Bytes, to batch: SinkBatch) {
    let (mark, source) = DeadLetter.mark(of: record, now: Clock.now())
    let line = Array(record) + [0x0A]
    line.withUnsafeBytes { bytes in
      let index = Array(source.utf8).withUnsafeBytes { batch.index(ofSource: $0) }
      // The same letter has the same identity each time, so that deterministic ids store it once.
      batch.add(
        copyOf: SpooledRecord(mark: mark, bytes: bytes, offset: 0), source: index, identity: Checksum.fnv64(bytes))
    }
  }

  func remove() { unlink(path) }
}
