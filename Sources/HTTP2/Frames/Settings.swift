import NIOCore

/// The settings of RFC 9113 section 6.5.2 and RFC 8441 section 3, of the peer; the initial values are the protocol's.
struct PeerSettings: Sendable, Equatable {
  var headerTableSize = 4096
  var maxConcurrentStreams = UInt32.max
  var initialWindow = 65_535
  var maxFrameSize = 16_384
  var enablesConnectProtocol = false

  enum Identifier {
    static let headerTableSize: UInt16 = 0x1
    static let enablePush: UInt16 = 0x2
    static let maxConcurrentStreams: UInt16 = 0x3
    static let initialWindowSize: UInt16 = 0x4
    static let maxFrameSize: UInt16 = 0x5
    static let maxHeaderListSize: UInt16 = 0x6
    static let enableConnectProtocol: UInt16 = 0x8
  }

  /// Takes one setting over, or says what is wrong with it. `isServer`: the peer is one.
  mutating func apply(_ identifier: UInt16, _ value: UInt32, isServer: Bool) -> ConnectionProblem? {
    switch identifier {
    case Identifier.headerTableSize: headerTableSize = Int(value)
    case Identifier.enablePush:
      // A server may not even offer it (RFC 9113 section 6.5.2).
      guard value == 0 || value == 1 && !isServer else { return .invalidSetting }
    case Identifier.maxConcurrentStreams: maxConcurrentStreams = value
    case Identifier.initialWindowSize:
      guard value <= 0x7FFF_FFFF else { return .windowSettingTooLarge }
      initialWindow = Int(value)
    case Identifier.maxFrameSize:
      guard (16_384...16_777_215).contains(value) else { return .invalidSetting }
      maxFrameSize = Int(value)
    case Identifier.enableConnectProtocol:
      guard value == 1 || value == 0 && !enablesConnectProtocol else { return .invalidSetting }
      if isServer { enablesConnectProtocol = value == 1 }
    default: break
    }
    return nil
  }

  static func write(_ identifier: UInt16, _ value: Int, to out: inout ByteBuffer) {
    out.writeInteger(identifier)
    out.writeInteger(UInt32(value))
  }
}
