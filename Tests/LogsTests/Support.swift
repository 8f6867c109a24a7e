import Logs

func withBytes<R>(_ text: String, _ body: (Bytes) throws -> R) rethrows -> R {
  try Array(text.utf8).withUnsafeBytes { try body($0) }
}

/// 2026-01-31T12:00:00Z
let noon: Int64 = 1_769_860_800_000_000_000

func encode(_ encoder: RecordEncoder, _ line: [UInt8], truncated: Bool = false, redactor: Redactor? = nil) -> (
  String, RecordMark
)? {
  let arena = ByteArena()
  let mark = line.withUnsafeBytes {
    encoder.encode($0, stream: .stdout, arrival: noon, truncated: truncated, redactor: redactor, into: arena)
  }
  return mark.map { (arena.bytes.text, $0) }
}

func encode(_ line: String, _ encoder: RecordEncoder = RecordEncoder(source: "app")) -> String? {
  encode(encoder, Array(line.utf8))?.0
}

func text(_ bytes: [UInt8]) -> String { String(decoding: bytes, as: UTF8.self) }

extension SinkBatch {
  /// Adds a record (without its LF) as the spool would give it.
  func add(
    _ record: String, source: String = "app", time: Int64 = noon, level: LogLevel = .info, identity: UInt64 = 1,
    offset: UInt64 = 0
  ) {
    let index = withBytes(source) { self.index(ofSource: $0) }
    withBytes(record + "\n") { bytes in
      let mark = RecordMark(stream: .stdout, kind: .json, level: level, time: time, body: 1, truncated: false)
      add(copyOf: SpooledRecord(mark: mark, bytes: bytes, offset: offset), source: index, identity: identity)
    }
  }
}
