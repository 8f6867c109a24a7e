/// How far a sink has come in the spool.
package struct SpoolPosition: Sendable, Equatable, Comparable {
  package var segment: UInt64
  /// Of the next batch's head in the segment, bytes.
  package var offset: Int
  /// Number of the next record.
  package var sequence: UInt64

  package init(segment: UInt64, offset: Int, sequence: UInt64) {
    self.segment = segment
    self.offset = offset
    self.sequence = sequence
  }

  package static func < (a: SpoolPosition, b: SpoolPosition) -> Bool {
    a.segment != b.segment ? a.segment < b.segment : a.offset < b.offset
  }

  /// One line: `v1 SEGMENT OFFSET SEQUENCE`.
  package var text: String { "v1 \(segment) \(offset) \(sequence)\n" }

  package init?(text: String) {
    let words = text.split(whereSeparator: { $0 == " " || $0 == "\n" })
    guard words.count == 4, words[0] == "v1", let segment = UInt64(words[1]), let offset = Int(words[2]), offset >= 0,
      let sequence = UInt64(words[3])
    else { return nil }
    self.init(segment: segment, offset: offset, sequence: sequence)
  }
}

/// What is remembered of a followed file: who it is and how far it was read into the spool.
package struct FileCheckpoint: Sendable, Equatable {
  package var device: UInt64
  package var inode: UInt64
  /// Names this content of the file; a truncated or replaced file gets a new one. The base of deterministic ids.
  package var identity: UInt64
  /// FNV-64 of the first `headLength` bytes; the configuration says how many at most, never more than `headLimit`.
  package var headHash: UInt64
  package var headLength: Int
  package var offset: Int
  package var path: String

  package static let headLimit = 64 << 10

  package init(
    device: UInt64, inode: UInt64, identity: UInt64, headHash: UInt64, headLength: Int, offset: Int, path: String
  ) {
    self.device = device
    self.inode = inode
    self.identity = identity
    self.headHash = headHash
    self.headLength = headLength
    self.offset = offset
    self.path = path
  }

  package enum Continuity: Sendable, Equatable { case same, replaced }

  /// Whether a file of this device and inode still holds what was read: it is no shorter than the position, and its head
  /// is the one seen. `head` is the file's beginning as it is now, up to `headLength` bytes.
  package func continuity(size: Int, head: Bytes) -> Continuity {
    guard size >= offset, head.count >= headLength else { return .replaced }
    return Checksum.fnv64(head.part(0..<headLength)) == headHash ? .same : .replaced
  }

  /// The checkpoint file of a source: `v1`, then a line for each file; the path comes last and goes to the line's end.
  package static func encode(_ files: [FileCheckpoint]) -> String {
    var text = "v1\n"
    for f in files where !f.path.contains("\n") {
      text += "\(f.device) \(f.inode) \(f.identity) \(f.headHash) \(f.headLength) \(f.offset) \(f.path)\n"
    }
    return text
  }

  /// nil when the text is no checkpoint file of this version; lines that cannot be read are left out.
  package static func decode(_ text: String) -> [FileCheckpoint]? {
    let lines = text.split(separator: "\n", omittingEmptySubsequences: true)
    guard lines.first == "v1" else { return nil }
    return lines.dropFirst().compactMap { line in
      let words = line.split(separator: " ", maxSplits: 6, omittingEmptySubsequences: false)
      guard words.count == 7, let device = UInt64(words[0]), let inode = UInt64(words[1]),
        let identity = UInt64(words[2]), let hash = UInt64(words[3]), let length = Int(words[4]),
        let offset = Int(words[5]), length >= 0, length <= headLimit, offset >= 0
      else { return nil }
      return FileCheckpoint(
        device: device, inode: inode, identity: identity, headHash: hash, headLength: length, offset: offset,
        path: String(words[6]))
    }
  }
}

/// Waiting between attempts: exponential with full jitter (AWS Architecture Blog, "Exponential Backoff And Jitter").
package enum RetryDelay {
  /// A random wait in `0...min(maximum, initial * 2^attempt)`; the first retry has `attempt` 0. `random` is in 0..<1.
  package static func next(attempt: Int, initial: Duration, maximum: Duration, random: Double) -> Duration {
    var ceiling = initial
    for _ in 0..<min(attempt, 40) where ceiling < maximum { ceiling *= 2 }
    return min(ceiling, maximum) * random
  }
}
