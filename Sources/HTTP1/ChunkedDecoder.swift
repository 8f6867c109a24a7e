/// The chunked transfer coding (RFC 9112 section 7.1), checked octet by octet; content itself is skipped in one step.
package struct ChunkedDecoder: Sendable {
  private enum State: Sendable {
    /// Before the first digit of a size.
    case sizeStart
    /// After at least one digit; next: a digit, `;` or CR.
    case size
    /// In a chunk extension; next: CR.
    case chunkExtension
    /// The CR of a size line was seen; next: LF.
    case sizeEnd
    /// Inside content; `remaining` octets are to come.
    case content
    /// Content is over; next: CR, then LF.
    case contentCR, contentLF
    /// At the first octet of a trailer line or of the last empty line.
    case trailerStart
    case trailerName, trailerValue, trailerEnd
    /// The CR of the last empty line was seen; next: LF, then complete.
    case lastLF
    /// Nothing more belongs to this body.
    case complete
  }

  /// Octets of all extensions of a body, and of all its trailer lines.
  package static let extensionLimit = 16 << 10
  package static let trailerLimit = 16 << 10
  private static let lineLimit = 4096

  private var state = State.sizeStart
  private var remaining: UInt64 = 0
  private var line = 0
  private var extensions = 0
  private var trailers = 0

  package init() {}

  package var isComplete: Bool {
    if case .complete = state { true } else { false }
  }

  /// How many octets belong to the body; `content` is told the ranges that are not framing, `trailer` those of the
  /// trailer section, the empty line at its end included.
  package mutating func consume(
    _ bytes: UnsafeRawBufferPointer, content: (Range<Int>) -> Void, trailer: (Range<Int>) -> Void
  ) throws(HeadError) -> Int {
    var position = 0
    var trailerStart = -1
    defer { if trailerStart >= 0 { trailer(trailerStart..<position) } }
    while position < bytes.count {
      switch state {
      case .content:
        let taken = Int(min(remaining, UInt64(bytes.count - position)))
        content(position..<(position + taken))
        remaining -= UInt64(taken)
        position += taken
        if remaining == 0 { state = .contentCR }
        continue
      case .complete: return position
      case .trailerStart, .trailerName, .trailerValue, .trailerEnd, .lastLF:
        if trailerStart < 0 { trailerStart = position }
        try takeTrailer(bytes[position])
      default: try frame(bytes[position])
      }
      position += 1
    }
    return position
  }

  private mutating func frame(_ octet: UInt8) throws(HeadError) {
    switch state {
    case .sizeStart:
      guard let digit = Self.digit(octet) else { throw .invalidChunkSize }
      remaining = digit
      line = 1
      state = .size
    case .size:
      if let digit = Self.digit(octet) {
        guard remaining < 1 << 56 else { throw .chunkTooLarge }
        remaining = remaining << 4 | digit
        line += 1
        if line > Self.lineLimit { throw .invalidChunkSize }
      } else if octet == Octets.carriageReturn {
        state = .sizeEnd
      } else if octet == 0x3B {
        state = .chunkExtension
      } else {
        throw .invalidChunkSize
      }
    case .chunkExtension:
      if octet == Octets.carriageReturn {
        state = .sizeEnd
        return
      }
      guard octet >= 32 && octet != 127 || octet == Octets.tab else { throw .invalidChunkExtension }
      extensions += 1
      if extensions > Self.extensionLimit { throw .chunkExtensionTooLong }
    case .sizeEnd:
      guard octet == Octets.lineFeed else { throw .invalidChunkSize }
      state = remaining == 0 ? .trailerStart : .content
    case .contentCR:
      guard octet == Octets.carriageReturn else { throw .invalidChunkEnd }
      state = .contentLF
    case .contentLF:
      guard octet == Octets.lineFeed else { throw .invalidChunkEnd }
      state = .sizeStart
    default: break
    }
  }

  private mutating func takeTrailer(_ octet: UInt8) throws(HeadError) {
    trailers += 1
    if trailers > Self.trailerLimit { throw .trailerTooLarge }
    switch state {
    case .trailerStart:
      if octet == Octets.carriageReturn {
        state = .lastLF
      } else if Octets.isToken(octet) {
        state = .trailerName
      } else {
        throw .invalidTrailer
      }
    case .trailerName:
      if octet == 0x3A {
        state = .trailerValue
      } else if !Octets.isToken(octet) {
        throw .invalidTrailer
      }
    case .trailerValue:
      if octet == Octets.carriageReturn {
        state = .trailerEnd
      } else if octet < 32 && octet != Octets.tab || octet == 127 {
        throw .invalidTrailer
      }
    case .trailerEnd:
      guard octet == Octets.lineFeed else { throw .invalidTrailer }
      state = .trailerStart
    default:
      guard octet == Octets.lineFeed else { throw .invalidTrailer }
      state = .complete
    }
  }

  @inline(__always)
  private static func digit(_ octet: UInt8) -> UInt64? {
    switch octet {
    case 48...57: UInt64(octet - 48)
    case 65...70: UInt64(octet - 55)
    case 97...102: UInt64(octet - 87)
    default: nil
    }
  }
}
