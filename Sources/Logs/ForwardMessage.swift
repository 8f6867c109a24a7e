/// A message of the Fluent forward protocol, version 1 (github.com/fluent/fluentd/wiki/Forward-Protocol-Specification-v1):
/// Message, Forward, PackedForward and CompressedPackedForward modes.
package struct ForwardMessage {
  /// A message may be this long, and so may what a compressed one holds.
  package static let longest = 16 << 20

  package struct Event: Sendable, Equatable {
    /// Of the event's JSON object in the arena.
    package var range: Range<Int>
    /// Nanoseconds since 1970.
    package var time: Int64?
  }

  package enum Outcome {
    /// The message ends at `end`; its sender waits for `chunk` when there is one.
    case message(events: [Event], chunk: [UInt8]?, end: Int)
    case incomplete
    case invalid
  }

  /// Reads the message at `start`, writing each event's record as one JSON object, with `tag`, into `arena`.
  package static func read(_ bytes: Bytes, from start: Int, into arena: ByteArena) -> Outcome {
    let before = arena.count
    var reader = MessagePack(bytes, from: start)
    do throws(MessagePack.Problem) {
      try reader.skip()
      return try read(bytes.part(start..<reader.index), end: reader.index, arena)
    } catch {
      arena.truncate(to: before)
      return error == .incomplete && bytes.count - start <= longest ? .incomplete : .invalid
    }
  }

  private static func read(_ message: Bytes, end: Int, _ arena: ByteArena) throws(MessagePack.Problem) -> Outcome {
    guard message.count <= longest else { throw .invalid }
    // A heartbeat.
    if message.count == 1, message[0] == 0xC0 { return .message(events: [], chunk: nil, end: end) }
    var reader = MessagePack(message)
    guard case .array(let count) = try reader.head(), (2...4).contains(count),
      case .text(let length) = try reader.head()
    else { throw .invalid }
    let tag = try reader.take(length)
    var events: [Event] = []
    let second = reader.index
    switch try reader.head() {
    case .array(let entries):
      for _ in 0..<entries { events.append(try event(&reader, tag, arena)) }
      return .message(events: events, chunk: try option(&reader, count - 2).chunk, end: end)
    case .binary(let length), .text(let length):
      let packed = try reader.take(length)
      let option = try option(&reader, count - 2)
      if option.isCompressed {
        guard let plain = Gzip.decompressAll(packed, limit: longest) else { throw .invalid }
        let copy = ByteArena(capacity: plain.count)
        copy.append(plain)
        try unpack(copy.bytes, tag, arena, &events)
      } else {
        try unpack(packed, tag, arena, &events)
      }
      return .message(events: events, chunk: option.chunk, end: end)
    default:
      // Message mode: [tag, time, record, option?].
      guard count >= 3 else { throw .invalid }
      reader = MessagePack(message, from: second)
      let time = try time(&reader)
      events.append(try record(&reader, tag, time, arena))
      return .message(events: events, chunk: try option(&reader, count - 3).chunk, end: end)
    }
  }

  private static func unpack(
    _ packed: Bytes, _ tag: Bytes, _ arena: ByteArena, _ events: inout [Event]
  ) throws(MessagePack.Problem) {
    var reader = MessagePack(packed)
    do throws(MessagePack.Problem) {
      while !reader.isAtEnd { events.append(try event(&reader, tag, arena)) }
    } catch {
      // The message is here whole: what it lacks will not come.
      throw .invalid
    }
  }

  private static func event(
    _ reader: inout MessagePack, _ tag: Bytes, _ arena: ByteArena
  ) throws(MessagePack.Problem) -> Event {
    guard case .array(2) = try reader.head() else { throw .invalid }
    let time = try time(&reader)
    return try record(&reader, tag, time, arena)
  }

  /// Seconds, or EventTime: extension 0 of 32 bits of seconds and 32 of nanoseconds. 0 is no time.
  private static func time(_ reader: inout MessagePack) throws(MessagePack.Problem) -> Int64? {
    switch try reader.head() {
    case .integer(let seconds): return seconds > 0 && seconds < 9_000_000_000 ? seconds * 1_000_000_000 : nil
    case .unsigned(let seconds):
      return seconds > 0 && seconds < 9_000_000_000 ? Int64(seconds) * 1_000_000_000 : nil
    case .float(let seconds):
      return seconds > 0 && seconds < 9_000_000_000 ? Int64(seconds * 1_000_000_000) : nil
    case .extended(0, 8):
      let octets = try reader.take(8)
      let seconds = Int64(UInt32(bigEndian: octets.loadUnaligned(as: UInt32.self)))
      let nanoseconds = Int64(UInt32(bigEndian: octets.loadUnaligned(fromByteOffset: 4, as: UInt32.self)))
      guard nanoseconds < 1_000_000_000 else { throw .invalid }
      return seconds > 0 ? seconds * 1_000_000_000 + nanoseconds : nil
    case .null: return nil
    default: throw .invalid
    }
  }

  private static func record(
    _ reader: inout MessagePack, _ tag: Bytes, _ time: Int64?, _ arena: ByteArena
  ) throws(MessagePack.Problem) -> Event {
    guard case .map(let count) = try reader.head() else { throw .invalid }
    let start = arena.count
    arena.append("{\"tag\":\"")
    JSONText.escape(tag, into: arena)
    arena.append(0x22 as UInt8)
    if count > 0 { arena.append(0x2C as UInt8) }
    try reader.writeMembers(count, into: arena)
    arena.append(0x7D as UInt8)
    return Event(range: start..<arena.count, time: time)
  }

  private static func option(
    _ reader: inout MessagePack, _ count: Int
  ) throws(MessagePack.Problem) -> (chunk: [UInt8]?, isCompressed: Bool) {
    guard count > 0 else { return (nil, false) }
    guard count == 1 else { throw .invalid }
    let pairs: Int
    switch try reader.head() {
    case .null: return (nil, false)
    case .map(let count): pairs = count
    default: throw .invalid
    }
    var chunk: [UInt8]?
    var isCompressed = false
    for _ in 0..<pairs {
      guard case .text(let length) = try reader.head() else { throw .invalid }
      let name = try reader.take(length)
      let value = reader.index
      if name.equals("chunk") || name.equals("compressed"), case .text(let length) = try reader.head() {
        let text = try reader.take(length)
        if name.equals("chunk") { chunk = Array(text) } else { isCompressed = text.equals("gzip") }
        if name.equals("compressed"), !isCompressed, !text.equals("text") { throw .invalid }
      } else {
        // Not a text: something that we need not know.
        reader.move(to: value)
        try reader.skip()
      }
    }
    return (chunk, isCompressed)
  }

  /// The answer to a message with a chunk: `{"ack": chunk}`.
  package static func acknowledgement(_ chunk: [UInt8]) -> [UInt8] {
    let head: [UInt8] =
      chunk.count < 32
      ? [0xA0 | UInt8(chunk.count)]
      : chunk.count < 256
        ? [0xD9, UInt8(chunk.count)]
        : [0xDA, UInt8(truncatingIfNeeded: chunk.count >> 8), UInt8(truncatingIfNeeded: chunk.count)]
    return [0x81, 0xA3, 0x61, 0x63, 0x6B] + head + chunk
  }
}
