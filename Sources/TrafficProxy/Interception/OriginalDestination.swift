import NIOCore
import NIOPosix
import Vocabulary

#if canImport(Glibc)
  import Glibc
#else
  import Musl
#endif

/// Where a connection was going before the kernel handed it to a transparent listener.
enum OriginalDestination {
  /// `SO_ORIGINAL_DST` and `IP6T_SO_ORIGINAL_DST` of Linux.
  private static let option = NIOBSDSocket.Option(rawValue: 80)

  /// A `sockaddr_in` or `sockaddr_in6`: family, port, then the address, which in IPv6 stands behind the flow label.
  private struct RawAddress: Sendable {
    var words: InlineArray<7, UInt32> = .init(repeating: 0)

    var destination: (address: IPAddress, port: Int)? {
      withUnsafeBytes(of: words) { bytes in
        let place: Range<Int>
        switch CInt(bytes.loadUnaligned(as: UInt16.self)) {
        case CInt(AF_INET): place = 4..<8
        case CInt(AF_INET6): place = 8..<24
        default: return nil
        }
        return IPAddress(octets: bytes[place]).map { ($0, Int(bytes[2]) << 8 | Int(bytes[3])) }
      }
    }
  }

  /// REDIRECT rewrites the address, and conntrack knows the one before; with TPROXY the socket has it itself.
  static func of(_ channel: any Channel) -> (address: IPAddress, port: Int)? {
    if let provider = channel as? any SocketOptionProvider {
      for level in [CInt(IPPROTO_IP), CInt(IPPROTO_IPV6)] {
        let answer: EventLoopFuture<RawAddress> = provider.unsafeGetSocketOption(
          level: NIOBSDSocket.OptionLevel(rawValue: level), name: option)
        var found = RawAddress()
        // On the channel's own loop the answer is there already.
        answer.assumeIsolated().whenSuccess { found = $0 }
        if let destination = found.destination { return destination }
      }
    }
    guard let local = channel.localAddress, let address = IPAddress(of: local), let port = local.port else {
      return nil
    }
    return (address, port)
  }

  /// Lets a listening socket take connections to addresses that are not this machine's, which TPROXY hands it. Without
  /// CAP_NET_ADMIN it stays as it is, and REDIRECT is what works.
  static func allowForeignAddresses(_ descriptor: CInt) {
    var one: CInt = 1
    // IP_TRANSPARENT and IPV6_TRANSPARENT; a socket of both families has both.
    _ = setsockopt(descriptor, CInt(IPPROTO_IP), 19, &one, socklen_t(MemoryLayout<CInt>.size))
    _ = setsockopt(descriptor, CInt(IPPROTO_IPV6), 75, &one, socklen_t(MemoryLayout<CInt>.size))
  }
}
