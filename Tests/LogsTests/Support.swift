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
