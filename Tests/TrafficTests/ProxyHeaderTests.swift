import Resilience
import Testing
import Vocabulary

@testable import Traffic

/// The two forms of the PROXY protocol, byte by byte.
@Suite struct ProxyHeaderTests {
  static let signature: [UInt8] = [0x0D, 0x0A, 0x0D, 0x0A, 0x00, 0x0D, 0x0A, 0x51, 0x55, 0x49, 0x54, 0x0A]

  static func decode(_ bytes: [UInt8], _ version: ProxyHeader.Version) throws(ProxyHeader.Refusal)
    -> ProxyHeader.Decoded
  {
    do {
      return try bytes.withUnsafeBytes { try ProxyHeader.decode($0, version) }
    } catch {
      throw error as? ProxyHeader.Refusal ?? .missing
    }
  }

  static func refusal(_ bytes: [UInt8], _ version: ProxyHeader.Version) -> ProxyHeader.Refusal? {
    do {
      _ = try decode(bytes, version)
      return nil
    } catch { return error }
  }

  static func tcp(_ source: String, _ sourcePort: UInt16, _ destination: String, _ port: UInt16) -> ProxyHeader.Peers {
    .tcp(
      source: IPAddress(source)!, sourcePort: sourcePort, destination: IPAddress(destination)!, destinationPort: port)
  }

  // MARK: version 1

  static let lines: [(String, ProxyHeader.Peers)] = [
    ("PROXY TCP4 192.0.2.1 198.51.100.7 56324 443\r\n", tcp("192.0.2.1", 56324, "198.51.100.7", 443)),
    (
      "PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n",
      tcp("255.255.255.255", 65535, "255.255.255.255", 65535)
    ),
    ("PROXY TCP6 2001:db8::1 ::1 0 8443\r\n", tcp("2001:db8::1", 0, "::1", 8443)),
    ("PROXY TCP6 ::ffff:192.0.2.1 ::ffff:192.0.2.2 1 2\r\n", tcp("192.0.2.1", 1, "192.0.2.2", 2)),
    ("PROXY UNKNOWN\r\n", .unknown),
    ("PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n", .unknown),
  ]

  @Test func linesAreRead() throws {
    for (line, peers) in Self.lines {
      let bytes = Array(line.utf8)
      #expect(try Self.decode(bytes + Array("GET / ".utf8), .v1) == .header(peers, length: bytes.count))
      for count in 0..<bytes.count {
        #expect(try Self.decode(Array(bytes[..<count]), .v1) == .more, "\(line) \(count)")
      }
    }
  }

  static let badLines: [(String, ProxyHeader.Refusal)] = [
    ("GET / HTTP/1.1\r\n", .missing), ("proxy TCP4 1.2.3.4 1.2.3.4 1 2\r\n", .missing),
    ("PROXY TCP4 1.2.3.4 1.2.3.4 1 2\n", .badLine), ("PROXY \n", .badLine), ("PROXY \r\n", .badLine),
    ("PROXY TCP4\r\n", .badLine), ("PROXY TCP5 1.2.3.4 1.2.3.4 1 2\r\n", .badLine),
    ("PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n", .badLine), ("PROXY TCP4 1.2.3.4 1.2.3.4 1 2 3\r\n", .badLine),
    ("PROXY TCP4  1.2.3.4 1.2.3.4 1 2\r\n", .badLine), ("PROXY tcp4 1.2.3.4 1.2.3.4 1 2\r\n", .badLine),
    ("PROXY TCP4 1.2.3.4 1.2.3.4 1 2 \r\n", .badLine),
    ("PROXY TCP4 1.2.3 1.2.3.4 1 2\r\n", .badAddress), ("PROXY TCP4 01.2.3.4 1.2.3.4 1 2\r\n", .badAddress),
    ("PROXY TCP4 256.2.3.4 1.2.3.4 1 2\r\n", .badAddress), ("PROXY TCP4 ::1 ::1 1 2\r\n", .badAddress),
    ("PROXY TCP6 1.2.3.4 1.2.3.4 1 2\r\n", .badAddress), ("PROXY TCP6 fe80::1%lo ::1 1 2\r\n", .badAddress),
    ("PROXY TCP6 1::2::3 ::1 1 2\r\n", .badAddress), ("PROXY TCP4 1.2.3.4 1.2.3.4 01 2\r\n", .badAddress),
    ("PROXY TCP4 1.2.3.4 1.2.3.4 65536 2\r\n", .badAddress), ("PROXY TCP4 1.2.3.4 1.2.3.4 -1 2\r\n", .badAddress),
    ("PROXY TCP4 1.2.3.4 1.2.3.4 1 2\r\r\n", .badAddress), ("PROXY TCP4 1.2.3.4 1.2.3.4 1 \r\n", .badAddress),
    ("PROXY TCP4 1.2.3.4\u{0} 1.2.3.4 1 2\r\n", .badAddress),
    ("PROXY UNKNOWN " + String(repeating: "x", count: 92) + "\r\n", .tooLong),
    ("PROXY TCP4 " + String(repeating: "1", count: 200), .tooLong),
  ]

  @Test func badLinesAreRefused() {
    for (line, refusal) in Self.badLines { #expect(Self.refusal(Array(line.utf8), .v1) == refusal, "\(line)") }
    #expect(Self.refusal(Self.signature + [0x20, 0, 0, 0], .v1) == .otherVersion)
    let longest = "PROXY UNKNOWN " + String(repeating: "x", count: 91) + "\r\n"
    #expect(longest.utf8.count == 107 && Self.refusal(Array(longest.utf8), .v1) == nil)
  }

  // MARK: version 2

  static let four: [UInt8] = [192, 0, 2, 1, 198, 51, 100, 7, 0xDC, 0x04, 0x01, 0xBB]
  static let six: [UInt8] =
    [0x20, 0x01, 0x0D, 0xB8] + Array(repeating: 0, count: 11) + [1] + Array(repeating: 0, count: 15) + [1]
    + [0, 80, 1, 187]

  static func binary(_ command: UInt8, _ family: UInt8, _ body: [UInt8], length: Int? = nil) -> [UInt8] {
    let count = length ?? body.count
    return signature + [command, family, UInt8(count >> 8), UInt8(count & 255)] + body
  }

  /// A header over IPv4 with a checksum that fits, and its TLV's place.
  static func withChecksum(_ more: [UInt8] = []) -> [UInt8] {
    var header = binary(0x21, 0x11, four + [0x03, 0, 4, 0, 0, 0, 0] + more)
    let sum = header.withUnsafeBytes { CRC32C.checksum($0) }
    for index in 0..<4 { header[31 + index] = UInt8(truncatingIfNeeded: sum >> UInt32(24 - 8 * index)) }
    return header
  }

  static let binaries: [([UInt8], ProxyHeader.Peers)] = [
    (binary(0x21, 0x11, four), tcp("192.0.2.1", 56324, "198.51.100.7", 443)),
    (binary(0x21, 0x21, six), tcp("2001:db8::1", 80, "::1", 443)),
    (binary(0x21, 0x31, Array(repeating: 0x61, count: 216)), .unix),
    (binary(0x21, 0x00, []), .unknown), (binary(0x21, 0x00, [1, 2, 3]), .unknown),
    (binary(0x20, 0x00, []), .unknown), (binary(0x20, 0x11, [9, 9]), .unknown), (binary(0x20, 0xFF, [9]), .unknown),
    (binary(0x21, 0x11, four + [0x04, 0, 0]), tcp("192.0.2.1", 56324, "198.51.100.7", 443)),
    (
      binary(0x21, 0x11, four + [0x02, 0, 3, 0x61, 0x62, 0x63, 0xEA, 0, 1, 7]),
      tcp("192.0.2.1", 56324, "198.51.100.7", 443)
    ),
    (withChecksum(), tcp("192.0.2.1", 56324, "198.51.100.7", 443)),
    (withChecksum([0x05, 0, 2, 1, 2]), tcp("192.0.2.1", 56324, "198.51.100.7", 443)),
  ]

  @Test func binariesAreRead() throws {
    for (bytes, peers) in Self.binaries {
      #expect(try Self.decode(bytes + [1, 2, 3], .v2) == .header(peers, length: bytes.count))
      for count in 0..<bytes.count { #expect(try Self.decode(Array(bytes[..<count]), .v2) == .more) }
    }
  }

  static let badBinaries: [([UInt8], ProxyHeader.Refusal)] = [
    (Array("GET / HTTP/1.1\r\n".utf8), .missing), (Array("PROXY TCP4".utf8), .otherVersion),
    (Array(signature[..<11]) + [0x0B], .missing),
    (binary(0x11, 0x11, four), .badCommand), (binary(0x22, 0x11, four), .badCommand),
    (binary(0x31, 0x11, four), .badCommand),
    (binary(0x21, 0x12, four), .badFamily), (binary(0x21, 0x22, six), .badFamily),
    (binary(0x21, 0x32, Array(repeating: 0, count: 216)), .badFamily), (binary(0x21, 0x13, four), .badFamily),
    (binary(0x21, 0x41, four), .badFamily), (binary(0x21, 0x01, four), .badFamily),
    (binary(0x21, 0x10, four), .badFamily),
    (binary(0x21, 0x11, Array(four.dropLast())), .badLength), (binary(0x21, 0x21, four), .badLength),
    (binary(0x21, 0x31, six), .badLength),
    (binary(0x21, 0x11, four + [0x04]), .badExtension), (binary(0x21, 0x11, four + [0x04, 0]), .badExtension),
    (binary(0x21, 0x11, four + [0x04, 0, 1]), .badExtension),
    (binary(0x21, 0x11, four + [0x03, 0, 3, 1, 2, 3]), .badExtension),
    (binary(0x21, 0x11, four + [0x03, 0, 4, 1, 2, 3, 4]), .badChecksum),
    (binary(0x21, 0x11, [], length: 4097), .tooLong), (binary(0x20, 0x00, [], length: 65535), .tooLong),
  ]

  @Test func badBinariesAreRefused() {
    for (bytes, refusal) in Self.badBinaries { #expect(Self.refusal(bytes, .v2) == refusal, "\(bytes)") }
  }

  /// RFC 3720 appendix B.4.
  @Test func checksumIsCastagnolis() {
    func sum(_ bytes: [UInt8]) -> UInt32 { bytes.withUnsafeBytes { CRC32C.checksum($0) } }
    #expect(sum(Array(repeating: 0, count: 32)) == 0x8A91_36AA)
    #expect(sum(Array(repeating: 0xFF, count: 32)) == 0x62A8_AB43)
    #expect(sum(Array(0..<32)) == 0x46DD_794E)
    #expect(sum(Array("123456789".utf8)) == 0xE306_9283)
  }

  // MARK: both ways

  @Test func whatIsWrittenIsReadAgain() throws {
    let peers: [ProxyHeader.Peers] = [
      Self.tcp("192.0.2.1", 56324, "198.51.100.7", 443), Self.tcp("2001:db8::1", 1, "::1", 65535), .unknown, .unix,
      Self.tcp("192.0.2.1", 5, "2001:db8::1", 6),
    ]
    for peers in peers {
      for version in ProxyHeader.Version.allCases {
        let bytes = ProxyHeader.encode(peers, version)
        let expected: ProxyHeader.Peers = peers == .unix ? .unknown : peers
        #expect(try Self.decode(bytes, version) == .header(expected, length: bytes.count))
      }
    }
    #expect(
      String(decoding: ProxyHeader.encode(peers[0], .v1), as: UTF8.self)
        == "PROXY TCP4 192.0.2.1 198.51.100.7 56324 443\r\n")
    #expect(ProxyHeader.encode(peers[0], .v2) == Self.binary(0x21, 0x11, Self.four))
  }

  /// Whatever the octets are, the answer comes without a trap, never claims more than there is, and bounds what it waits for.
  @Test func mutationsNeverBreakIt() {
    var random = SeededRandom(seed: 0x0BAD_5EED)
    let seeds = Self.lines.map { Array($0.0.utf8) } + Self.binaries.map(\.0) + Self.badBinaries.map(\.0)
    for _ in 0..<30_000 {
      var bytes = seeds[Int(random.next() % UInt64(seeds.count))]
      for _ in 0..<(random.next() % 4) where !bytes.isEmpty {
        let place = Int(random.next() % UInt64(bytes.count))
        switch random.next() % 4 {
        case 0: bytes[place] = UInt8(truncatingIfNeeded: random.next())
        case 1: bytes.remove(at: place)
        case 2: bytes.insert(UInt8(truncatingIfNeeded: random.next()), at: place)
        default: bytes.removeSubrange(place...)
        }
      }
      for version in ProxyHeader.Version.allCases {
        guard let decoded = try? Self.decode(bytes, version) else { continue }
        switch decoded {
        case .header(_, let length): #expect(length > 0 && length <= bytes.count)
        case .more: #expect(bytes.count < (version == .v1 ? ProxyHeader.longestLine : 16 + ProxyHeader.longestBody))
        }
      }
    }
  }
}
