/// What the first octets of a connection are: the decision of `protocol: auto`, by what one read brought.
package enum DetectedProtocol: Sendable, Equatable {
  /// Could be a request still; only a handful of octets leave that open.
  case undecided
  /// An HTTP/1 request, or so like one that passing it on unread would let it slip past the rules.
  case http1
  /// The preface of HTTP/2 (RFC 9113 section 3.4).
  case http2
  /// A TLS ClientHello (RFC 8446 section 5.1).
  case tls
  case other

  /// RFC 9110 section 9 and RFC 5789.
  private static let methods = ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"].map {
    Array($0.utf8)
  }
  private static let preface = Array("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".utf8)
  private static let version = Array("HTTP/".utf8)
  /// Octets of empty lines that are kept while nothing else has come.
  private static let mostBlank = 1024
  /// Longer methods than this are no methods.
  private static let longestMethod = 32

  package init(_ bytes: UnsafeRawBufferPointer) {
    var start = 0
    // Empty lines before a request are to be ignored (RFC 9112 section 2.2).
    while start < bytes.count, bytes[start] == 0x0D || bytes[start] == 0x0A { start += 1 }
    let text = UnsafeRawBufferPointer(rebasing: bytes[start...])
    guard let first = text.first else {
      // Empty lines without end are for the HTTP parser, which drops them as they come.
      self = start < Self.mostBlank ? .undecided : .http1
      return
    }
    if start == 0, Self.agrees(text, Self.preface) {
      self = text.count < Self.preface.count ? .undecided : .http2
    } else if start == 0, first == 0x16 {
      self = text.count == 1 ? .undecided : text[1] == 0x03 ? .tls : .other
    } else {
      self = Self.line(text)
    }
  }

  private static func agrees(_ bytes: UnsafeRawBufferPointer, _ expected: [UInt8]) -> Bool {
    for index in 0..<min(bytes.count, expected.count) where bytes[index] != expected[index] { return false }
    return true
  }

  private static func isToken(_ octet: UInt8) -> Bool {
    switch octet {
    case 0x30...0x39, 0x41...0x5A, 0x61...0x7A: true
    case 0x21, 0x23...0x27, 0x2A, 0x2B, 0x2D, 0x2E, 0x5E...0x60, 0x7C, 0x7E: true
    default: false
    }
  }

  /// A request line, as far as it has come.
  private static func line(_ text: UnsafeRawBufferPointer) -> DetectedProtocol {
    // A version anywhere in the first line, however spelled and whatever stands around it, is for the strict parser.
    if holds(text.prefix(8192).prefix { $0 != 0x0A }, version) { return .http1 }
    var end = 0
    while end < text.count, end <= longestMethod, isToken(text[end]) { end += 1 }
    if end == text.count { return mayBecomeMethod(text) ? .undecided : .other }
    guard end > 0, text[end] == 0x20 || text[end] == 0x09 else { return .other }
    let isKnown = methods.contains { $0.elementsEqual(text[..<end]) }
    let rest = UnsafeRawBufferPointer(rebasing: text[(end + 1)...])
    let lineEnd = rest.firstIndex(of: 0x0A)
    let line = UnsafeRawBufferPointer(rebasing: rest[..<(lineEnd ?? rest.count)])
    guard let first = line.first else { return isKnown && lineEnd == nil ? .undecided : .other }
    // A common method and something like a target: refused as a request when the rest is wrong, never passed on.
    if isKnown, first == 0x2F || first == 0x2A { return .http1 }
    if isKnown, agrees(line, Array("http".utf8)) { return line.count < 4 && lineEnd == nil ? .undecided : .http1 }
    if lineEnd != nil { return .other }
    // A line that has not ended: a path after any method is a request, and CONNECT has a bare authority.
    if first == 0x2F || "CONNECT".utf8.elementsEqual(text[..<end]) { return .http1 }
    return .other
  }

  /// The whole text so far begins one of the common methods.
  private static func mayBecomeMethod(_ text: UnsafeRawBufferPointer) -> Bool {
    methods.contains { text.count <= $0.count && agrees(text, $0) }
  }

  /// In any case of letters; `part` is upper case.
  private static func holds(_ line: Slice<UnsafeRawBufferPointer>, _ part: [UInt8]) -> Bool {
    let last = line.endIndex - part.count
    guard last >= line.startIndex else { return false }
    for start in line.startIndex...last {
      var index = 0
      while index < part.count, upper(line[start + index]) == part[index] { index += 1 }
      if index == part.count { return true }
    }
    return false
  }

  private static func upper(_ octet: UInt8) -> UInt8 { (0x61...0x7A).contains(octet) ? octet & 0xDF : octet }
}
