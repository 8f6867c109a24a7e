import Telemetry
import Traffic

/// What says how requests are traced and recorded.
enum ObservingTargets {
  /// A field of strangers: what is taken is what its text says, in lower-case hexadecimal digits.
  static func traceparent(_ bytes: UnsafeRawBufferPointer) -> String? {
    guard let parent = TraceParent(bytes) else { return nil }
    let id = bytes.part(TraceParent.traceIDOffset..<(TraceParent.traceIDOffset + TraceParent.traceIDCount))
    func hex(_ word: UInt64) -> String {
      let digits = String(word, radix: 16)
      return String(repeating: "0", count: 16 - digits.utf8.count) + digits
    }
    guard hex(parent.traceID.high) + hex(parent.traceID.low) == id.shown else {
      return "another trace than \(id.shown)"
    }
    guard hex(parent.parentID) == bytes.part(36..<52).shown else { return "another parent than its text" }
    return parent.parentID == 0 ? "a parent that is none" : nil
  }

  /// A user's format: flat, and never with a field that holds a credential.
  static func accessFormat(_ bytes: UnsafeRawBufferPointer) -> String? {
    guard let format = try? AccessFormat(String(decoding: bytes, as: UTF8.self)) else { return nil }
    for segment in format.segments {
      guard case .value(let value, let limit) = segment else { continue }
      guard (1...AccessFormat.longest).contains(limit) else { return "a limit of \(limit)" }
      let names: [[UInt8]] =
        switch value {
        case .response(let name): [name]
        case .request(.field(let name), or: .field(let other)): [name, other]
        case .request(.field(let name), _), .request(_, or: .field(let name)): [name]
        default: []
        }
      for name in names where AccessFormat.sensitiveFields.contains(String(decoding: name, as: UTF8.self)) {
        return "a credential is recorded"
      }
    }
    return nil
  }
}
