import CCares
import NIOCore
import Synchronization
import Traffic
import Vocabulary

#if canImport(Glibc)
  import Glibc
#else
  import Musl
#endif

/// Looks names up with c-ares: the hosts file, search domains and servers of the system, or servers of the configuration.
/// Every call blocks, five seconds at most for each 64 names, and reads the system's settings anew.
final class NameResolver: Sendable {
  struct Answer: Sendable {
    /// Of both families, without ports; at least one.
    var addresses: [SocketAddress]
    /// How long they may be used.
    var lifetime: Duration
    /// Servers were silent about one of the families.
    var isPartial = false
  }

  struct Failure: Error, Sendable {
    var text: String
  }

  /// For all questions of a channel, in nanoseconds: both tries of each.
  private static let limit: UInt64 = 4_700_000_000
  private static let tries: CInt = 2
  /// What the hosts file says is read again after this.
  private static let hostsLifetime = Duration.seconds(10)
  /// Questions that are on their way at once.
  private static let batch = 64

  /// `address:port,address:port`; empty = the system's.
  private let servers = Mutex("")
  private let isStopped = Atomic<Bool>(false)

  /// Calls end soon, and without an answer.
  func stop() { isStopped.store(true, ordering: .relaxed) }

  /// True when they are others than before.
  func use(servers list: [Address]) -> Bool {
    let text = list.map(\.description).joined(separator: ",")
    return servers.withLock { servers in
      defer { servers = text }
      return servers != text
    }
  }

  /// The addresses of each name. `inOrder`: as RFC 6724 would have them tried; else sorted, so that two answers of the
  /// same addresses are equal.
  func lookUp(_ names: [String], inOrder: Bool) -> [String: Result<Answer, Failure>] {
    var found: [String: Result<Answer, Failure>] = [:]
    var rest = names[...]
    while !rest.isEmpty {
      let part = rest.prefix(Self.batch)
      rest = rest.dropFirst(part.count)
      ask(part, inOrder, &found)
    }
    return found
  }

  private func ask(_ names: ArraySlice<String>, _ inOrder: Bool, _ found: inout [String: Result<Answer, Failure>]) {
    guard let channel = open() else {
      for name in names { found[name] = .failure(Failure(text: "the resolver cannot start")) }
      return
    }
    let files = open("f")
    defer { if let files { ares_destroy(files) } }
    var queries: [(name: String, query: AddressQuery)] = []
    for name in names {
      let local = Self.numeric(name).map { [$0] } ?? files.map { Self.hostsFile($0, name) } ?? []
      if !local.isEmpty {
        found[name] = .success(Answer(addresses: local, lifetime: Self.hostsLifetime))
      } else {
        queries.append((name, Self.ask(channel, name, inOrder)))
      }
    }
    if !run(channel, until: { queries.allSatisfy(\.query.isDone) }) {
      for (_, query) in queries where !query.isDone { query.isLate = true }
      // Questions of which one family was answered succeed by that.
      ares_cancel(channel)
    }
    // Ends what is left; nobody is called back after this.
    ares_destroy(channel)
    for (name, query) in queries { found[name] = query.result }
  }

  private static func ask(
    _ channel: ares_channel, _ name: String, _ inOrder: Bool, sorts: Bool = true
  ) -> AddressQuery {
    let query = AddressQuery(sorts: sorts && !inOrder)
    var hints = ares_addrinfo_hints()
    hints.ai_family = AF_UNSPEC
    hints.ai_flags = inOrder ? 0 : ARES_AI_NOSORT
    ares_getaddrinfo(
      channel, name, nil, &hints,
      { place, status, timeouts, list in
        guard let place else { return }
        Unmanaged<AddressQuery>.fromOpaque(place).takeUnretainedValue().take(status, list, timeouts: timeouts)
      }, Unmanaged.passUnretained(query).toOpaque())
    return query
  }

  /// IPv4 first, and in the order of their texts.
  static func sorted(_ addresses: [SocketAddress]) -> [SocketAddress] {
    addresses.sorted {
      ($0.protocol.rawValue, $0.ipAddress ?? "") < ($1.protocol.rawValue, $1.ipAddress ?? "")
    }
  }

  /// The SRV records of a name.
  func services(_ name: String) -> Result<ServiceRecords, Failure> {
    guard let channel = open() else { return .failure(Failure(text: "the resolver cannot start")) }
    let query = ServiceQuery()
    ares_search(
      channel, name, 1, 33,
      { place, status, _, bytes, count in
        guard let place else { return }
        Unmanaged<ServiceQuery>.fromOpaque(place).takeUnretainedValue().take(status, bytes, Int(count))
      }, Unmanaged.passUnretained(query).toOpaque())
    _ = run(channel) { query.isDone }
    ares_destroy(channel)
    return query.result
  }

  // MARK: c-ares

  /// `lookups`: `b` asks servers (the hosts file was read by then), `f` reads the hosts file.
  private func open(_ lookups: String = "b") -> ares_channel? {
    var options = ares_options()
    // Milliseconds; doubled with each try.
    options.timeout = 1500
    options.tries = Self.tries
    var channel: ares_channel?
    let isOpen = lookups.withCString { lookups in
      options.lookups = UnsafeMutablePointer(mutating: lookups)
      return ares_init_options(&channel, &options, ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES | ARES_OPT_LOOKUPS)
    }
    guard isOpen == ARES_SUCCESS, let channel else { return nil }
    let list = servers.withLock { $0 }
    if !list.isEmpty, ares_set_servers_ports_csv(channel, list) != ARES_SUCCESS {
      ares_destroy(channel)
      return nil
    }
    return channel
  }

  /// Forms of an IPv4 address that only the C library reads: `127.1`, `2130706433`.
  private static func numeric(_ name: String) -> SocketAddress? {
    var word: UInt32 = 0
    let isAddress = withUnsafeMutablePointer(to: &word) { place in
      place.withMemoryRebound(to: in_addr.self, capacity: 1) { inet_aton(name, $0) != 0 }
    }
    guard isAddress else { return nil }
    return withUnsafeBytes(of: word) { try? SocketAddress(packedIPAddress: ByteBuffer(bytes: $0), port: 0) }
  }

  /// What the hosts file says of a name, all its lines in their order.
  private static func hostsFile(_ files: ares_channel, _ name: String) -> [SocketAddress] {
    // Without servers to ask the answer is there on return.
    let query = ask(files, name, false, sorts: false)
    guard query.isDone, case .success(let answer) = query.result else { return [] }
    return answer.addresses
  }

  /// Lets the channel's sockets be read and written until `isDone`; false when the time is up before.
  private func run(_ channel: ares_channel, until isDone: () -> Bool) -> Bool {
    let deadline = NIODeadline.now().uptimeNanoseconds &+ Self.limit
    var sockets = [ares_socket_t](repeating: 0, count: Int(ARES_GETSOCK_MAXNUM))
    while !isDone() {
      let now = NIODeadline.now().uptimeNanoseconds
      guard now < deadline, !isStopped.load(ordering: .relaxed) else { return false }
      let bits = ares_getsock(channel, &sockets, CInt(sockets.count))
      var polls: [pollfd] = []
      for (index, socket) in sockets.enumerated() {
        let reads = bits & (1 << CInt(index)) != 0
        let writes = bits & (1 << CInt(index + sockets.count)) != 0
        guard reads || writes else { continue }
        polls.append(pollfd(fd: socket, events: Int16((reads ? POLLIN : 0) | (writes ? POLLOUT : 0)), revents: 0))
      }
      // Often enough to notice a stop.
      let left = min(deadline - now, 200_000_000)
      var longest = timeval(tv_sec: Int(left / 1_000_000_000), tv_usec: Int(left % 1_000_000_000 / 1000))
      var next = timeval()
      guard let wait = ares_timeout(channel, &longest, &next)?.pointee else { return false }
      let milliseconds = wait.tv_sec * 1000 + (wait.tv_usec + 999) / 1000
      let ready = poll(&polls, nfds_t(polls.count), CInt(clamping: milliseconds))
      if ready <= 0 {
        // Only time has passed: questions are asked again, or given up.
        ares_process_fd(channel, ARES_SOCKET_BAD, ARES_SOCKET_BAD)
        continue
      }
      for one in polls where one.revents != 0 {
        let isReadable = one.revents & Int16(POLLIN | POLLERR | POLLHUP) != 0
        let isWritable = one.revents & Int16(POLLOUT) != 0
        ares_process_fd(channel, isReadable ? one.fd : ARES_SOCKET_BAD, isWritable ? one.fd : ARES_SOCKET_BAD)
      }
    }
    return true
  }

  // MARK: Questions

  /// Of codes that say that nobody answered.
  private static func isSilence(_ status: CInt) -> Bool {
    status == ARES_ETIMEOUT || status == ARES_ECANCELLED || status == ARES_EDESTRUCTION
  }

  private static let silence = Failure(text: "no answer in time")

  /// Not Sendable: lives and ends within one call.
  private final class AddressQuery {
    /// IPv4 first, and in the order of their texts; else as they came.
    private let sorts: Bool
    private(set) var isDone = false
    /// The time is up, and somebody has not answered.
    var isLate = false
    private(set) var result = Result<Answer, Failure>.failure(silence)

    init(sorts: Bool) { self.sorts = sorts }

    func take(_ status: CInt, _ list: UnsafeMutablePointer<ares_addrinfo>?, timeouts: CInt) {
      isDone = true
      defer { if let list { ares_freeaddrinfo(list) } }
      if NameResolver.isSilence(status) { return }
      guard status == ARES_SUCCESS, let list else {
        result = .failure(Failure(text: String(cString: ares_strerror(status))))
        return
      }
      var seconds = CInt.max
      var addresses: [SocketAddress] = []
      var node = list.pointee.nodes
      while let one = node?.pointee {
        if let address = Self.address(one), !addresses.contains(address) {
          addresses.append(address)
          seconds = min(seconds, one.ai_ttl)
        }
        node = one.ai_next
      }
      var alias = list.pointee.cnames
      while let one = alias?.pointee {
        seconds = min(seconds, one.ttl)
        alias = one.next
      }
      guard !addresses.isEmpty else {
        result = .failure(Failure(text: "no addresses"))
        return
      }
      if sorts { addresses = NameResolver.sorted(addresses) }
      // Of two questions one was answered, and the other never.
      let isAlike = !addresses.contains { $0.protocol != addresses[0].protocol }
      let isPartial = isAlike && (isLate || timeouts >= NameResolver.tries)
      result = .success(
        Answer(addresses: addresses, lifetime: .seconds(Int(max(0, seconds))), isPartial: isPartial))
    }

    private static func address(_ node: ares_addrinfo_node) -> SocketAddress? {
      guard let raw = UnsafeRawPointer(node.ai_addr) else { return nil }
      switch node.ai_family {
      case AF_INET: return SocketAddress(raw.loadUnaligned(as: sockaddr_in.self))
      case AF_INET6: return SocketAddress(raw.loadUnaligned(as: sockaddr_in6.self))
      default: return nil
      }
    }
  }

  private final class ServiceQuery {
    private(set) var isDone = false
    private(set) var result = Result<ServiceRecords, Failure>.failure(silence)

    func take(_ status: CInt, _ bytes: UnsafeMutablePointer<UInt8>?, _ count: Int) {
      isDone = true
      if NameResolver.isSilence(status) { return }
      guard status == ARES_SUCCESS, let bytes else {
        result = .failure(Failure(text: String(cString: ares_strerror(status))))
        return
      }
      do throws(ServiceRecords.Problem) {
        let records = try ServiceRecords(UnsafeRawBufferPointer(start: bytes, count: count))
        result = records.records.isEmpty ? .failure(Failure(text: "no SRV records")) : .success(records)
      } catch {
        result = .failure(Failure(text: "the answer is broken: \(error)"))
      }
    }
  }
}
