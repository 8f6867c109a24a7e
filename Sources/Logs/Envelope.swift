/// What a container runtime wraps around each line of a container.
package enum Envelope: Sendable, Equatable {
  case none
  /// `2026-01-31T12:00:00.000000000Z stdout F the line`: the log format of the Kubernetes Container Runtime Interface
  /// (kubernetes/design-proposals, "CRI logging"); `P` marks a part of a line that goes on.
  case cri
  /// `{"log":"the line\n","stream":"stdout","time":"…"}`, Docker's json-file; a part of a line has no `\n` at its end.
  case docker

  package struct Content {
    package var stream: LogStream
    /// Nanoseconds since 1970.
    package var time: Int64?
    package var text: Bytes
    /// The line goes on in the next one of this stream.
    package var isPartial: Bool
  }

  /// What the line holds, nil when it is not in this form. Docker's text stands in `arena`, which must not change while
  /// it is used.
  package func open(_ line: Bytes, _ arena: ByteArena) -> Content? {
    switch self {
    case .none: nil
    case .cri: Self.cri(line)
    case .docker: Self.docker(line, arena)
    }
  }

  private static func stream(_ name: Bytes) -> LogStream? {
    name.equals("stdout") ? .stdout : name.equals("stderr") ? .stderr : nil
  }

  private static func cri(_ line: Bytes) -> Content? {
    guard let first = line.firstOffset(of: 0x20), let time = LogTime.parse(line.part(0..<first)),
      let second = line.firstOffset(of: 0x20, from: first + 1), let stream = stream(line.part(first + 1..<second))
    else { return nil }
    let third = line.firstOffset(of: 0x20, from: second + 1) ?? line.count
    // Tags are parted by `:`; the first is P or F, the others are reserved.
    let tags = line.part(second + 1..<third)
    guard let tag = tags.first, tags.count == 1 || tags[1] == 0x3A, tag == 0x50 || tag == 0x46 else { return nil }
    return Content(
      stream: stream, time: time, text: line.part(min(third + 1, line.count)..<line.count), isPartial: tag == 0x50)
  }

  private static func docker(_ line: Bytes, _ arena: ByteArena) -> Content? {
    var log: Range<Int>?
    var name: Range<Int>?
    var time: Range<Int>?
    let whole = JSONScanner.object(line) { key, value in
      // Strings, without their quotes.
      guard value.count >= 2, line[value.lowerBound] == 0x22 else { return }
      let inside = value.lowerBound + 1..<value.upperBound - 1
      let key = line.part(key)
      if key.equals("log") { log = inside } else if key.equals("stream") { name = inside }
      if key.equals("time") { time = inside }
    }
    guard whole != nil, let log else { return nil }
    let start = arena.count
    JSONText.unescape(line.part(log), into: arena)
    var end = arena.count
    let isPartial = end == start || arena.bytes[end - 1] != 0x0A
    if !isPartial { end -= 1 }
    return Content(
      stream: name.flatMap { stream(line.part($0)) } ?? .none, time: time.flatMap { LogTime.parse(line.part($0)) },
      text: arena.bytes.part(start..<end), isPartial: isPartial)
  }
}
