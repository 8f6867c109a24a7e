import CLinux
import Glibc
import Logs

/// Opens the sockets that log sources listen on.
enum ListenSocket {
  /// nil and errno when it cannot listen there.
  static func open(_ address: ListenAddress) -> CInt? {
    switch address {
    case .unix(let path): return unix(path)
    case .tcp(let host, let port): return internet(host, port, SOCK_STREAM)
    case .udp(let host, let port): return internet(host, port, SOCK_DGRAM)
    }
  }

  private static func make(_ family: CInt, _ type: __socket_type) -> CInt {
    socket(family, CInt(type.rawValue) | CInt(SOCK_NONBLOCK.rawValue) | CInt(SOCK_CLOEXEC.rawValue), 0)
  }

  /// Two ends that are connected; nil and errno when there are none.
  static func pair() -> (CInt, CInt)? {
    var ends: [CInt] = [-1, -1]
    let type = CInt(SOCK_STREAM.rawValue) | CInt(SOCK_NONBLOCK.rawValue) | CInt(SOCK_CLOEXEC.rawValue)
    return socketpair(AF_UNIX, type, 0, &ends) == 0 ? (ends[0], ends[1]) : nil
  }

  private static func fail(_ descriptor: CInt) -> CInt? {
    let code = errno
    close(descriptor)
    errno = code
    return nil
  }

  private static func set(_ descriptor: CInt, _ level: CInt, _ option: CInt, _ value: CInt) {
    var value = value
    _ = setsockopt(descriptor, level, option, &value, socklen_t(MemoryLayout<CInt>.size))
  }

  private static func internet(_ host: String, _ port: Int, _ type: __socket_type) -> CInt? {
    var storage = sockaddr_storage()
    let isV6 = host.contains(":") || host.isEmpty
    let length: Int
    if isV6 {
      var address = sockaddr_in6()
      address.sin6_family = sa_family_t(AF_INET6)
      address.sin6_port = in_port_t(port).bigEndian
      guard inet_pton(AF_INET6, host.isEmpty ? "::" : host, &address.sin6_addr) == 1 else {
        errno = EINVAL
        return nil
      }
      length = MemoryLayout<sockaddr_in6>.size
      withUnsafeMutableBytes(of: &storage) { $0.storeBytes(of: address, as: sockaddr_in6.self) }
    } else {
      var address = sockaddr_in()
      address.sin_family = sa_family_t(AF_INET)
      address.sin_port = in_port_t(port).bigEndian
      guard inet_pton(AF_INET, host == "localhost" ? "127.0.0.1" : host, &address.sin_addr) == 1 else {
        errno = EINVAL
        return nil
      }
      length = MemoryLayout<sockaddr_in>.size
      withUnsafeMutableBytes(of: &storage) { $0.storeBytes(of: address, as: sockaddr_in.self) }
    }
    let descriptor = make(isV6 ? AF_INET6 : AF_INET, type)
    // A host without IPv6: all of IPv4 then.
    if descriptor < 0, host.isEmpty, errno == EAFNOSUPPORT { return internet("0.0.0.0", port, type) }
    guard descriptor >= 0 else { return nil }
    if type == SOCK_STREAM { set(descriptor, SOL_SOCKET, SO_REUSEADDR, 1) }
    if isV6 { set(descriptor, CInt(IPPROTO_IPV6), IPV6_V6ONLY, host.isEmpty ? 0 : 1) }
    // Bursts of datagrams wait in the kernel; what it grants is its own choice.
    if type == SOCK_DGRAM { set(descriptor, SOL_SOCKET, SO_RCVBUF, 8 << 20) }
    let bound = withUnsafePointer(to: &storage) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { bind(descriptor, $0, socklen_t(length)) }
    }
    guard bound == 0, type == SOCK_DGRAM || listen(descriptor, 512) == 0 else { return fail(descriptor) }
    return descriptor
  }

  private static func unix(_ path: String) -> CInt? {
    var address = sockaddr_un()
    address.sun_family = sa_family_t(AF_UNIX)
    let name = Array(path.utf8)
    guard name.count < MemoryLayout.size(ofValue: address.sun_path) else {
      errno = ENAMETOOLONG
      return nil
    }
    withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: name) }
    let descriptor = make(AF_UNIX, SOCK_STREAM)
    guard descriptor >= 0 else { return nil }
    // A socket that somebody left; nothing else is taken away.
    var info = stat()
    if lstat(path, &info) == 0, info.st_mode & S_IFMT == S_IFSOCK { unlink(path) }
    let bound = withUnsafePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        bind(descriptor, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
      }
    }
    guard bound == 0, listen(descriptor, 512) == 0 else { return fail(descriptor) }
    // As /dev/log: who reaches the directory may write.
    chmod(path, 0o666)
    return descriptor
  }

  static func inode(_ path: String) -> UInt64? {
    var info = stat()
    return lstat(path, &info) == 0 ? UInt64(info.st_ino) : nil
  }

  /// Datagrams that the kernel had no room for (SO_MEMINFO), since the socket was made.
  static func dropped(_ descriptor: CInt) -> UInt32 {
    var words = [UInt32](repeating: 0, count: 9)
    var size = socklen_t(words.count * 4)
    guard getsockopt(descriptor, SOL_SOCKET, 55, &words, &size) == 0, size >= 36 else { return 0 }
    return words[8]
  }
}
