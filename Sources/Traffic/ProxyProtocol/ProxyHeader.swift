package import Vocabulary

/// What stands at the head of a connection that a proxy passes on: whose it is. The format is HAProxy's
/// `proxy-protocol.txt`, versions 1 (one line of text, at most 107 octets) and 2 (binary).
package enum ProxyHeader {
  package enum Version: String, Sendable, CaseIterable { case v1, v2 }

  /// Between whom the connection was made in the first place.
  package enum Peers: Sendable, Equatable {
    /// Made by the proxy itself, or of an unknown kind: the connection's own addresses hold.
    case unknown
    /// Over Unix sockets, which have no address worth a name.
    case unix
    case tcp(source: IPAddress, sourcePort: UInt16, destination: IPAddress, destinationPort: UInt16)
  }

  package enum Decoded: Sendable, Equatable {
    /// Not complete; nothing so far is wrong.
    case more
    /// `length` octets of header; what follows belongs to the connection.
    case header(Peers, length: Int)
  }

  /// Why a connection is refused. No answer is sent: the peer does not speak the protocol.
  package enum Refusal: String, Error, Sendable, CaseIterable {
    case missing = "it does not begin with a PROXY header"
    case otherVersion = "its PROXY header is of the other version"
    case tooLong = "its PROXY header is too long"
    case badLine = "its PROXY line is not valid"
    case badAddress = "its PROXY header holds an address or a port that is not valid"
    case badCommand = "its PROXY header has an unknown version or command"
    case badFamily = "its PROXY header has an unknown address family, or one that is not of streams"
    case badLength = "its PROXY header is too short for its addresses"
    case badExtension = "a TLV of its PROXY header runs past the end"
    case badChecksum = "the CRC32c of its PROXY header does not match"
  }

  /// A version 1 line with its CR LF is at most this long (section 2.1).
  package static let longestLine = 107
  /// What follows the first 16 octets of a version 2 header; longer ones are refused.
  package static let longestBody = 4096

  static let signature: [UInt8] = [0x0D, 0x0A, 0x0D, 0x0A, 0x00, 0x0D, 0x0A, 0x51, 0x55, 0x49, 0x54, 0x0A]
  static let word: [UInt8] = Array("PROXY ".utf8)

  /// Looks for a header of that version at the beginning of what was received so far.
  package static func decode(
    _ bytes: UnsafeRawBufferPointer, _ version: Version
  ) throws(Refusal) -> Decoded {
    switch version {
    case .v1: try decodeLine(bytes)
    case .v2: try decodeBinary(bytes)
    }
  }

  /// The header of a connection between these peers.
  package static func encode(_ peers: Peers, _ version: Version) -> [UInt8] {
    switch version {
    case .v1: encodeLine(peers)
    case .v2: encodeBinary(peers)
    }
  }

  /// True when the octets that are there are those of `expected`, as far as both go.
  static func agrees(_ bytes: UnsafeRawBufferPointer, _ expected: [UInt8]) -> Bool {
    for index in 0..<min(bytes.count, expected.count) where bytes[index] != expected[index] { return false }
    return true
  }
}
