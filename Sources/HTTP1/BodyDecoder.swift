/// How a message's body is delimited (RFC 9112 section 6.3).
package enum BodyFraming: Sendable, Equatable {
  case none
  /// At least 1, at most 2^63-1 octets.
  case length(UInt64)
  case chunked
  /// A response that ends when the connection does.
  case untilClose
}

/// Tells where a body ends, so that its octets can be forwarded untouched, framing included.
package struct BodyDecoder: Sendable {
  private enum State: Sendable {
    /// Exactly this many octets are to come; 0 = complete.
    case counting(UInt64)
    /// A chunked body in progress or complete.
    case chunked(ChunkedDecoder)
    /// Everything belongs to the body; complete only when the connection ends.
    case endless
  }
  private var state: State

  package init(_ framing: BodyFraming) {
    switch framing {
    case .none: state = .counting(0)
    case .length(let count): state = .counting(count)
    case .chunked: state = .chunked(ChunkedDecoder())
    case .untilClose: state = .endless
    }
  }

  package var isComplete: Bool {
    switch state {
    case .counting(let left): left == 0
    case .chunked(let decoder): decoder.isComplete
    case .endless: false
    }
  }

  package var endsWithConnection: Bool {
    if case .endless = state { true } else { false }
  }

  /// How many of `bytes` belong to this body. Fewer than given means that the body is complete.
  package mutating func consume(_ bytes: UnsafeRawBufferPointer) throws(HeadError) -> Int {
    switch state {
    case .counting(let left):
      let taken = Int(min(left, UInt64(bytes.count)))
      state = .counting(left - UInt64(taken))
      return taken
    case .endless: return bytes.count
    case .chunked(var decoder):
      let taken = try decoder.consume(bytes) { _ in
      } trailer: { _ in
      }
      state = .chunked(decoder)
      return taken
    }
  }

  package var isChunked: Bool {
    if case .chunked = state { true } else { false }
  }

  /// As `consume`, and hands out the ranges that are content without framing, and those of the trailer section, the
  /// empty line at its end included.
  package mutating func consume(
    _ bytes: UnsafeRawBufferPointer, content: (Range<Int>) -> Void, trailer: (Range<Int>) -> Void = { _ in }
  ) throws(HeadError) -> Int {
    guard case .chunked(var decoder) = state else {
      let taken = try consume(bytes)
      if taken > 0 { content(0..<taken) }
      return taken
    }
    let taken = try decoder.consume(bytes, content: content, trailer: trailer)
    state = .chunked(decoder)
    return taken
  }
}
