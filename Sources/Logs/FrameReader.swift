/// Cuts a stream of syslog messages into frames (RFC 6587 section 3.4): by octet count when a frame begins with a digit,
/// else up to the next LF. Pure; one for each connection.
package struct FrameReader: Sendable {
  package enum Step: Sendable, Equatable {
    /// `text` is a message, or when `isPart` the beginning of one that is longer than the limit; `end` is behind it.
    case frame(text: Range<Int>, end: Int, isPart: Bool)
    /// More bytes are needed.
    case more
    /// A count that none can be: nobody knows where the next message begins.
    case broken
  }

  /// Octets of a counted message that its parts did not bring yet.
  private var left = 0
  /// A part of a line came that ends with an LF: what follows is no count.
  private var isInLine = false
  /// A longer count is no count.
  static let mostDigits = 9

  package init() {}

  /// The next frame of `bytes` at `start`. `final`: nothing will follow, so the rest is a frame.
  package mutating func next(_ bytes: Bytes, from start: Int, limit: Int, final: Bool) -> Step {
    guard start < bytes.count else { return .more }
    if left > 0 { return counted(bytes, start, left, limit, final) }
    if bytes[start].isDigit, !isInLine {
      var at = start
      var count = 0
      while at < bytes.count, at - start < Self.mostDigits, bytes[at].isDigit {
        count = count * 10 + Int(bytes[at] - 0x30)
        at += 1
      }
      guard at < bytes.count else { return final ? .broken : .more }
      guard bytes[at] == 0x20, count > 0, bytes[start] != 0x30 else { return .broken }
      return counted(bytes, at + 1, count, limit, final)
    }
    if let end = bytes.firstOffset(of: 0x0A, from: start), end - start <= limit {
      isInLine = false
      return .frame(text: start..<end, end: end + 1, isPart: false)
    }
    if bytes.count - start > limit {
      let cut = start + max(1, UTF8Text.boundary(bytes.part(start..<bytes.count), before: limit))
      isInLine = true
      return .frame(text: start..<cut, end: cut, isPart: true)
    }
    return final ? .frame(text: start..<bytes.count, end: bytes.count, isPart: false) : .more
  }

  private mutating func counted(_ bytes: Bytes, _ start: Int, _ count: Int, _ limit: Int, _ final: Bool) -> Step {
    if count <= limit {
      guard bytes.count - start >= count else {
        guard final, bytes.count > start else { return .more }
        left = 0
        return .frame(text: start..<bytes.count, end: bytes.count, isPart: true)
      }
      left = 0
      // rsyslog counts an LF at the message's end.
      let text = bytes[start + count - 1] == 0x0A ? start..<start + count - 1 : start..<start + count
      return .frame(text: text, end: start + count, isPart: false)
    }
    guard bytes.count - start >= limit || final else { return .more }
    guard bytes.count > start else { return .more }
    let part = bytes.part(start..<bytes.count)
    let cut = max(1, UTF8Text.boundary(part, before: min(limit, part.count)))
    left = count - cut
    return .frame(text: start..<start + cut, end: start + cut, isPart: true)
  }
}
