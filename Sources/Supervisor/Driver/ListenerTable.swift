import CLinux
import Glibc
import Vocabulary

/// The sockets that outlive the workers, by address.
struct ListenerTable {
  struct Failure: Error {
    let address: Address
    let reason: String
  }
  private struct Listener {
    let descriptor: CInt
    var isListening = false
    /// The socket of a socket unit: it stays when the listener goes.
    var unitSocket: HandedOverSockets.Socket?
  }

  private var listeners: [Address: Listener] = [:]
  /// What systemd bound for us.
  var handedOver = HandedOverSockets()
  /// In the order of binding.
  private(set) var bound: [Address] = []
  private var requests: [UInt32: [Address]] = [:]

  var listening: [Address] { bound.filter { listeners[$0]?.isListening == true } }

  /// One descriptor for each address; sockets that exist are given again. All or none.
  mutating func bind(id: UInt32, _ addresses: [Address]) throws(Failure) -> [CInt] {
    var fresh: [Address] = []
    for address in addresses where listeners[address] == nil {
      do throws(Failure) {
        listeners[address] = try listener(for: address)
      } catch {
        unbind(fresh)
        throw error
      }
      bound.append(address)
      fresh.append(address)
    }
    requests[id] = addresses
    return addresses.compactMap { listeners[$0]?.descriptor }
  }

  private mutating func listener(for address: Address) throws(Failure) -> Listener {
    guard let socket = handedOver.take(address) else { return Listener(descriptor: try Self.open(address)) }
    return Listener(descriptor: socket.descriptor, unitSocket: socket.isStored ? nil : socket)
  }

  /// The descriptor of a bound address.
  func descriptor(of address: Address) -> CInt? { listeners[address]?.descriptor }

  /// Nil, or what went wrong: an address that another process took in between.
  mutating func listen(id: UInt32) -> Failure? {
    for address in requests[id] ?? [] {
      guard let listener = listeners[address], !listener.isListening else { continue }
      guard Glibc.listen(listener.descriptor, 4096) == 0 else {
        return Failure(address: address, reason: Self.reason(errno, address))
      }
      listeners[address]?.isListening = true
    }
    return nil
  }

  mutating func unbind(_ addresses: [Address]) {
    for address in addresses {
      guard let listener = listeners.removeValue(forKey: address) else { continue }
      bound.removeAll { $0 == address }
      if let socket = listener.unitSocket {
        handedOver.giveBack(socket)
        continue
      }
      close(listener.descriptor)
      if case .unix(let path) = address { unlink(path) }
    }
  }

  /// A listener as it goes to the next program in this process.
  struct PassedOn {
    let address: Address
    let descriptor: CInt
    let isListening: Bool
    let isOfUnit: Bool
  }

  var passedOn: [PassedOn] {
    bound.compactMap { address in
      listeners[address].map {
        PassedOn(
          address: address, descriptor: $0.descriptor, isListening: $0.isListening, isOfUnit: $0.unitSocket != nil)
      }
    }
  }

  mutating func adopt(_ passed: [PassedOn], unclaimed: HandedOverSockets) {
    handedOver = unclaimed
    for entry in passed {
      let unit = HandedOverSockets.Socket(descriptor: entry.descriptor, isStored: false)
      listeners[entry.address] = Listener(
        descriptor: entry.descriptor, isListening: entry.isListening, unitSocket: entry.isOfUnit ? unit : nil)
      bound.append(entry.address)
    }
  }

  /// Request numbers belong to one worker.
  mutating func forgetRequests() { requests = [:] }

  private static func open(_ address: Address) throws(Failure) -> CInt {
    switch address {
    case .unix(let path): return try openUnix(path)
    case .tcp(let host, let port): return try openTCP(host, UInt16(clamping: port))
    }
  }

  private static func openUnix(_ path: String) throws(Failure) -> CInt {
    let address = Address.unix(path: path)
    var name = sockaddr_un()
    name.sun_family = sa_family_t(AF_UNIX)
    guard path.utf8.count < MemoryLayout.size(ofValue: name.sun_path) else {
      throw Failure(address: address, reason: "the path is longer than 107 bytes: choose a shorter one")
    }
    withUnsafeMutableBytes(of: &name.sun_path) { $0.copyBytes(from: path.utf8) }
    let descriptor = socket(AF_UNIX, CInt(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue | SOCK_NONBLOCK.rawValue), 0)
    guard descriptor >= 0 else { throw Failure(address: address, reason: reason(errno, address)) }
    removeStale(path, name)
    let result = withSockaddr(name) { Glibc.bind(descriptor, $0, $1) }
    return try checked(descriptor, result, address)
  }

  /// A socket that nobody serves any more is left by a killed process: it goes. Anything else stays.
  private static func removeStale(_ path: String, _ name: sockaddr_un) {
    var status = stat()
    guard lstat(path, &status) == 0, status.st_mode & S_IFMT == S_IFSOCK else { return }
    let probe = socket(AF_UNIX, CInt(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue | SOCK_NONBLOCK.rawValue), 0)
    guard probe >= 0 else { return }
    defer { close(probe) }
    if withSockaddr(name, { connect(probe, $0, $1) }) != 0, errno == ECONNREFUSED { unlink(path) }
  }

  private static func openTCP(_ host: String, _ port: UInt16) throws(Failure) -> CInt {
    let address = Address.tcp(host: host, port: Int(port))
    var v4 = sockaddr_in()
    v4.sin_family = sa_family_t(AF_INET)
    v4.sin_port = port.bigEndian
    var v6 = sockaddr_in6()
    v6.sin6_family = sa_family_t(AF_INET6)
    v6.sin6_port = port.bigEndian
    if host.isEmpty {
      // All interfaces of both families; of IPv4 alone where IPv6 is switched off.
      if let descriptor = try? openSocket(v6, AF_INET6, address, dual: true) { return descriptor }
      return try openSocket(v4, AF_INET, address)
    }
    if inet_pton(AF_INET, host == "localhost" ? "127.0.0.1" : host, &v4.sin_addr) == 1 {
      return try openSocket(v4, AF_INET, address)
    }
    guard inet_pton(AF_INET6, host, &v6.sin6_addr) == 1 else {
      let text = "\"\(host)\" is not an IP address: write one, or \":\(port)\" for all interfaces"
      throw Failure(address: address, reason: text)
    }
    return try openSocket(v6, AF_INET6, address)
  }

  private static func openSocket(
    _ name: some Any, _ family: CInt, _ address: Address, dual: Bool = false
  ) throws(Failure) -> CInt {
    let kind = CInt(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue | SOCK_NONBLOCK.rawValue)
    let descriptor = socket(family, kind, 0)
    guard descriptor >= 0 else { throw Failure(address: address, reason: reason(errno, address)) }
    set(descriptor, SOL_SOCKET, SO_REUSEADDR, 1)
    if family == AF_INET6 { set(descriptor, CInt(IPPROTO_IPV6), IPV6_V6ONLY, dual ? 0 : 1) }
    let result = withSockaddr(name) { Glibc.bind(descriptor, $0, $1) }
    return try checked(descriptor, result, address)
  }

  private static func checked(_ descriptor: CInt, _ result: CInt, _ address: Address) throws(Failure) -> CInt {
    guard result != 0 else { return descriptor }
    let error = errno
    close(descriptor)
    throw Failure(address: address, reason: reason(error, address))
  }

  private static func set(_ descriptor: CInt, _ level: CInt, _ option: CInt, _ value: CInt) {
    var value = value
    setsockopt(descriptor, level, option, &value, socklen_t(MemoryLayout<CInt>.size))
  }

  private static func withSockaddr<Name>(
    _ name: Name, _ body: (UnsafePointer<sockaddr>, socklen_t) -> CInt
  ) -> CInt {
    withUnsafePointer(to: name) { pointer in
      pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { body($0, socklen_t(MemoryLayout<Name>.size)) }
    }
  }

  private static func reason(_ error: CInt, _ address: Address) -> String {
    let text = String(cString: strerror(error))
    switch error {
    case EADDRINUSE: return "\(text): another process listens there; stop it (`ss -ltnp`) or choose another address"
    case EACCES:
      return "\(text): ports below 1024 and foreign directories need a privilege; choose another address"
    case EADDRNOTAVAIL: return "\(text): this machine has no such address; `ip address` shows those it has"
    default: return text
    }
  }
}
