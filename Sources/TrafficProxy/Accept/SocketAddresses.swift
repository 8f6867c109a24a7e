import NIOCore
import Vocabulary

extension IPAddress {
  /// nil for Unix sockets.
  init?(of address: SocketAddress) {
    let place: Range<Int>
    switch address {
    // Behind family and port; of IPv6 also behind the flow label.
    case .v4: place = 4..<8
    case .v6: place = 8..<24
    case .unixDomainSocket: return nil
    }
    let octets = address.withSockAddr { pointer, size in
      Array(UnsafeRawBufferPointer(start: pointer, count: size)[place])
    }
    self.init(octets: octets)
  }
}
