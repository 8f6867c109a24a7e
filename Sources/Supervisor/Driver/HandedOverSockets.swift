import Glibc
import Vocabulary

/// Stream sockets that systemd bound for this run, until a listener asks for their address.
struct HandedOverSockets {
  struct Socket {
    let descriptor: CInt
    /// From the descriptor store: an earlier start of this run bound it, and it may be closed. Others belong to a
    /// socket unit, which goes on listening whatever we do.
    let isStored: Bool
  }

  private var sockets: [Address: Socket] = [:]

  init(_ handedOver: [Socket] = []) {
    for socket in handedOver {
      guard let address = Self.address(of: socket.descriptor) else {
        close(socket.descriptor)
        continue
      }
      sockets[address] = socket
    }
  }

  /// What nobody has asked for.
  var unclaimed: [(address: Address, socket: Socket)] {
    sockets.map { ($0.key, $0.value) }.sorted { $0.0.description < $1.0.description }
  }

  /// The socket of a listener's address, which is the caller's from here on.
  mutating func take(_ address: Address) -> Socket? {
    for spelling in Self.spellings(of: address) {
      if let socket = sockets.removeValue(forKey: spelling) { return socket }
    }
    return nil
  }

  /// Keeps a socket unit's socket for the next listener that asks for it.
  mutating func giveBack(_ socket: Socket) {
    if let address = Self.address(of: socket.descriptor) { sockets[address] = socket }
  }

  /// Closes what an earlier start bound and no listener uses any more; gives the addresses.
  mutating func closeStored() -> [Address] {
    let stale = unclaimed.filter(\.socket.isStored)
    for (address, socket) in stale {
      close(socket.descriptor)
      sockets.removeValue(forKey: address)
    }
    return stale.map(\.address)
  }

  /// How the kernel may name an address of the configuration.
  static func spellings(of address: Address) -> [Address] {
    guard case .tcp(let host, let port) = address else { return [address] }
    switch host {
    case "": return [.tcp(host: "::", port: port), .tcp(host: "0.0.0.0", port: port)]
    case "localhost": return [.tcp(host: "127.0.0.1", port: port)]
    default:
      var v6 = in6_addr()
      guard host.contains(":"), inet_pton(AF_INET6, host, &v6) == 1 else { return [address] }
      return [.tcp(host: text(AF_INET6, &v6), port: port)]
    }
  }

  /// nil for anything that is not a bound stream socket of IPv4, IPv6 or a path.
  private static func address(of descriptor: CInt) -> Address? {
    var kind: CInt = 0
    var size = socklen_t(MemoryLayout<CInt>.size)
    guard getsockopt(descriptor, SOL_SOCKET, SO_TYPE, &kind, &size) == 0, kind == CInt(SOCK_STREAM.rawValue) else {
      return nil
    }
    var storage = sockaddr_storage()
    var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
    let result = withUnsafeMutablePointer(to: &storage) { pointer in
      pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { getsockname(descriptor, $0, &length) }
    }
    guard result == 0 else { return nil }
    let family = CInt(storage.ss_family)
    return withUnsafeBytes(of: &storage) { bytes in
      switch family {
      case AF_INET:
        var name = bytes.loadUnaligned(as: sockaddr_in.self)
        return .tcp(host: text(AF_INET, &name.sin_addr), port: Int(UInt16(bigEndian: name.sin_port)))
      case AF_INET6:
        var name = bytes.loadUnaligned(as: sockaddr_in6.self)
        return .tcp(host: text(AF_INET6, &name.sin6_addr), port: Int(UInt16(bigEndian: name.sin6_port)))
      case AF_UNIX:
        let path = bytes[MemoryLayout<sa_family_t>.size..<Int(length)].prefix { $0 != 0 }
        return path.isEmpty ? nil : .unix(path: String(decoding: path, as: UTF8.self))
      default: return nil
      }
    }
  }

  private static func text(_ family: CInt, _ address: UnsafeRawPointer) -> String {
    withUnsafeTemporaryAllocation(of: CChar.self, capacity: Int(INET6_ADDRSTRLEN)) { buffer in
      guard let base = buffer.baseAddress, inet_ntop(family, address, base, socklen_t(buffer.count)) != nil else {
        return ""
      }
      return String(cString: base)
    }
  }
}
