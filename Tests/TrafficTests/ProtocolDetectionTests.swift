import Resilience
import Testing

@testable import Traffic

@Suite struct ProtocolDetectionTests {
  static func detect(_ bytes: [UInt8]) -> DetectedProtocol { bytes.withUnsafeBytes { DetectedProtocol($0) } }

  static let texts: [(String, DetectedProtocol)] = [
    ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", .http1), ("\r\nGET / HTTP/1.1\r\n", .http1),
    ("BREW /pot HTTP/1.1\r\n", .http1),
    ("POST http://a/ HTTP/1.1\r\n", .http1), ("CONNECT a:443 HTTP/1.1\r\n", .http1), ("CONNECT a:4", .http1),
    ("OPTIONS * HTTP/1.1\r\n", .http1), ("GET /a/very/long/path", .http1), ("PROPFIND /dav", .http1),
    // What a lax server might take for a request goes to the strict parser, never past it.
    ("GET / HTTP/1.1\nHost: a\n\n", .http1), ("GET\t/\tHTTP/1.1\r\n", .http1), ("GET /\r\n", .http1),
    ("GET\u{b}/ HTTP/1.1\r\n", .http1), ("\u{0}GET / HTTP/1.1\r\n", .http1), ("get / http/1.1\r\n", .http1),
    ("GET / HTTP/2.0\r\n\r\n", .http1), ("GET  / HTTP/1.1\r\n", .http1), (" GET / HTTP/1.1\r\n", .http1),
    ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0", .http2), ("PRI * HTTP/2.0\r\n\r\nSM", .undecided), ("PRI", .undecided),
    ("PRI * HTTP/2.0\r\n\r\nXX", .http1), ("P", .undecided), ("PUT", .undecided), ("GET ", .undecided),
    ("GET ht", .undecided), ("\r\n", .undecided), ("", .undecided), ("DELETE", .undecided),
    // Redis, memcached, SMTP, SSH, IRC, STOMP, AMQP and a PROXY line.
    ("*1\r\n$4\r\nPING\r\n", .other), ("PING\r\n", .other), ("GET key\r\n", .other), ("get foo\r\n", .other),
    ("EHLO a.test\r\n", .other), ("SSH-2.0-OpenSSH_9.2 Debian\r\n", .other), ("NICK me\r\n", .other),
    ("CONNECT\naccept-version:1.2\n\n\0", .other), ("AMQP\0\0\u{9}\u{1}", .other), ("PRIVMSG", .other),
    ("hello, world\n", .other), ("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", .other),
  ]

  @Test func textsAreTold() {
    for (text, expected) in Self.texts {
      #expect(Self.detect(Array(text.utf8)) == expected, "\(text.debugDescription)")
    }
  }

  @Test func binariesAreTold() {
    // PostgreSQL's SSLRequest and StartupMessage, a ClientHello's record, a MySQL packet, SOCKS 5.
    #expect(Self.detect([0, 0, 0, 8, 4, 0xD2, 0x16, 0x2F]) == .other)
    #expect(Self.detect([0, 0, 0, 0x29, 0, 3, 0, 0]) == .other)
    #expect(Self.detect([0x16, 3, 1, 2, 0, 1]) == .tls && Self.detect([0x16]) == .undecided)
    #expect(Self.detect([0x16, 4]) == .other)
    #expect(Self.detect([0x4A, 0, 0, 0, 0x0A]) == .other && Self.detect([5, 1, 0]) == .other)
    for octet in UInt8.min...UInt8.max where !"\r\nGHPDCOT\u{16}".utf8.contains(octet) {
      #expect(Self.detect([octet]) == .other, "\(octet)")
    }
  }

  /// Any octets get an answer, and what names HTTP in its first line is never passed on.
  @Test func mutationsAreTold() {
    var random = SeededRandom(seed: 0x0DE7_EC70)
    for _ in 0..<20_000 {
      var bytes = Array(Self.texts[Int(random.next() % UInt64(Self.texts.count))].0.utf8)
      for _ in 0..<(random.next() % 5) {
        let octet = UInt8(truncatingIfNeeded: random.next())
        let place = Int(random.next() % UInt64(bytes.count + 1))
        if place < bytes.count, random.next() & 1 == 0 { bytes[place] = octet } else { bytes.insert(octet, at: place) }
      }
      let found = Self.detect(bytes)
      let line = bytes.drop { $0 == 13 || $0 == 10 }.prefix { $0 != 10 }
      let names = String(decoding: line, as: UTF8.self).uppercased().contains("HTTP/")
      if names, found == .other || found == .tls { #expect(bytes.first == 0x16, "\(bytes)") }
    }
  }

  /// What was told of the beginning holds for the whole.
  @Test func moreOctetsChangeNoDecision() {
    for (text, expected) in Self.texts {
      let bytes = Array(text.utf8)
      for count in 0..<bytes.count {
        let early = Self.detect(Array(bytes[..<count]))
        if early == .http2 || early == .tls { #expect(early == expected, "\(text.debugDescription) at \(count)") }
        // A beginning that is a request already is never passed on later.
        if early == .http1 {
          #expect(expected == .http1 || expected == .undecided, "\(text.debugDescription) at \(count)")
        }
      }
    }
  }

  @Test func emptyLinesWithoutEndAreLeftToTheParser() {
    for (count, expected) in [(1023, DetectedProtocol.undecided), (1024, .http1), (100_000, .http1)] {
      let blank = (0..<count).map { $0 % 2 == 0 ? UInt8(13) : 10 }
      #expect(blank.withUnsafeBytes { DetectedProtocol($0) } == expected)
    }
  }
}
