/// The messages of `grpc.health.v1.Health/Check` (the protocol's `health.proto`) in their gRPC frames.
package enum GRPCHealth {
  package static let path = "/grpc.health.v1.Health/Check"

  /// The service's own word; numbers as in `HealthCheckResponse.ServingStatus`.
  package enum Serving: Equatable, Sendable {
    case unknown, serving, notServing, serviceUnknown
    case other(UInt64)

    init(_ number: UInt64) {
      switch number {
      case 0: self = .unknown
      case 1: self = .serving
      case 2: self = .notServing
      case 3: self = .serviceUnknown
      default: self = .other(number)
      }
    }
  }

  /// A response longer than this, with its frame, is not one.
  package static let longest = 1024

  /// `HealthCheckRequest { service }`; the service's name has at most 16,000 octets.
  package static func request(service: String) -> [UInt8] {
    let name = Array(service.utf8.prefix(16_000))
    var message: [UInt8] = []
    if !name.isEmpty {
      message.append(0x0A)
      if name.count < 128 {
        message.append(UInt8(name.count))
      } else {
        message += [UInt8(name.count & 0x7F | 0x80), UInt8(name.count >> 7)]
      }
      message += name
    }
    let count = message.count
    return [0, 0, 0, UInt8(count >> 8), UInt8(count & 0xFF)] + message
  }

  /// The status of a whole response body; nil when it is not one uncompressed message of that type.
  package static func status(_ bytes: UnsafeRawBufferPointer) -> Serving? {
    guard (5...longest).contains(bytes.count), bytes[0] == 0 else { return nil }
    var length = 0
    for index in 1..<5 { length = length << 8 | Int(bytes[index]) }
    guard length == bytes.count - 5 else { return nil }
    var reader = Reader(bytes: bytes, index: 5)
    var status = Serving.unknown
    while reader.index < bytes.count {
      guard let tag = reader.number(), tag >> 3 > 0 else { return nil }
      if tag == 0x08 {
        guard let number = reader.number() else { return nil }
        status = Serving(number)
      } else if !reader.skip(tag & 7) {
        return nil
      }
    }
    return status
  }

  /// Protocol buffers, as far as a reader of one field needs them.
  private struct Reader {
    let bytes: UnsafeRawBufferPointer
    var index: Int

    /// A varint of at most ten octets.
    mutating func number() -> UInt64? {
      var value: UInt64 = 0
      for shift in 0..<10 {
        guard index < bytes.count else { return nil }
        let octet = bytes[index]
        index += 1
        if shift == 9, octet > 1 { return nil }
        value |= UInt64(octet & 0x7F) << (7 * UInt64(shift))
        if octet < 0x80 { return value }
      }
      return nil
    }

    /// Passes over a field that is not wanted; false when it is not valid.
    mutating func skip(_ wireType: UInt64) -> Bool {
      let count: UInt64
      switch wireType {
      case 0: return number() != nil
      case 1: count = 8
      case 2:
        guard let length = number() else { return false }
        count = length
      case 5: count = 4
      default: return false
      }
      guard count <= UInt64(bytes.count - index) else { return false }
      index += Int(count)
      return true
    }
  }
}
