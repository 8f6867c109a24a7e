import Foundation
import Synchronization

/// A blocking socket that gives up after five seconds.
final class Wire: Sendable {
  let fd: CInt
  private let held = Mutex<[UInt8]>([])
  private let isClosed = Atomic<Bool>(false)

  init(fd: CInt) {
    self.fd = fd
    var limit = timeval(tv_sec: 5, tv_usec: 0)
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
  }

  static func connect(_ port: Int) -> Wire {
    let fd = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    var address = loopback(port)
    _ = withUnsafePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        Glibc.connect(fd, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
      }
    }
    return Wire(fd: fd)
  }

  @discardableResult func send(_ text: String) -> Bool { send(Array(text.utf8)) }

  @discardableResult func send(_ bytes: [UInt8]) -> Bool {
    var sent = 0
    while sent < bytes.count {
      let count = bytes.withUnsafeBytes {
        Glibc.send(fd, $0.baseAddress! + sent, bytes.count - sent, 0x4000)
      }
      if count <= 0 { return false }
      sent += count
    }
    return true
  }

  /// Up to `limit` more octets; empty at the end or after the time limit.
  func receive(_ limit: Int = 65536) -> [UInt8] {
    var chunk = [UInt8](repeating: 0, count: limit)
    let count = recv(fd, &chunk, limit, 0)
    return count > 0 ? Array(chunk[..<count]) : []
  }

  /// Exactly that many octets, fewer at the end.
  func take(_ count: Int) -> [UInt8] {
    held.withLock { held in
      while held.count < count {
        let more = receive()
        if more.isEmpty { break }
        held += more
      }
      let taken = Array(held.prefix(count))
      held.removeFirst(taken.count)
      return taken
    }
  }

  /// Everything up to and including `end`; nil when the connection ended before.
  func take(until end: String) -> String? {
    let mark = Array(end.utf8)
    return held.withLock { held in
      var from = 0
      while true {
        if held.count >= mark.count, from <= held.count - mark.count {
          for index in from...(held.count - mark.count) where held[index..<(index + mark.count)].elementsEqual(mark) {
            let taken = String(decoding: held[..<(index + mark.count)], as: UTF8.self)
            held.removeFirst(index + mark.count)
            return taken
          }
          from = held.count - mark.count + 1
        }
        let more = receive()
        if more.isEmpty { return nil }
        held += more
      }
    }
  }

  func takeAll() -> [UInt8] {
    held.withLock { held in
      while true {
        let more = receive()
        if more.isEmpty { break }
        held += more
      }
      defer { held = [] }
      return held
    }
  }

  /// A whole message: its head and its body, framing of chunks included.
  func message(hasBody: Bool = true) -> (head: String, body: String)? {
    guard let head = take(until: "\r\n\r\n") else { return nil }
    guard hasBody else { return (head, "") }
    let lower = head.lowercased()
    if lower.contains("transfer-encoding: chunked") {
      guard let body = take(until: "0\r\n\r\n") else { return nil }
      return (head, body)
    }
    guard let at = lower.range(of: "content-length: ") else { return (head, "") }
    let length = Int(lower[at.upperBound...].prefix { $0.isNumber }) ?? 0
    return (head, String(decoding: take(length), as: UTF8.self))
  }

  func finishSending() { shutdown(fd, Int32(SHUT_WR)) }
  /// Closes once; the number may belong to somebody else afterwards.
  func close() {
    if !isClosed.exchange(true, ordering: .relaxed) { _ = Glibc.close(fd) }
  }

  func reset() {
    var option = linger(l_onoff: 1, l_linger: 0)
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &option, socklen_t(MemoryLayout<linger>.size))
    close()
  }
}

func loopback(_ port: Int) -> sockaddr_in {
  var address = sockaddr_in()
  address.sin_family = sa_family_t(AF_INET)
  address.sin_port = in_port_t(UInt16(port)).bigEndian
  address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
  return address
}

/// A bound and listening socket on an ephemeral loopback port.
func listeningSocket(backlog: Int32 = 128) -> (fd: CInt, port: Int) {
  let fd = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
  var address = loopback(0)
  var size = socklen_t(MemoryLayout<sockaddr_in>.size)
  withUnsafeMutablePointer(to: &address) {
    $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
      _ = bind(fd, $0, size)
      _ = listen(fd, backlog)
      _ = getsockname(fd, $0, &size)
    }
  }
  return (fd, Int(UInt16(bigEndian: address.sin_port)))
}

/// An upstream that follows a script; each connection has a thread of its own.
final class Upstream: Sendable {
  let port: Int
  private let fd: CInt
  private let seen = Mutex<[String]>([])
  private let connections = Atomic<Int>(0)

  /// `script` is given each connection and its number from 0; the connection is closed when it returns.
  init(_ script: @escaping @Sendable (Wire, Int, Upstream) -> Void) {
    (fd, port) = listeningSocket()
    Thread.detachNewThread { [self] in
      while true {
        let connection = accept(fd, nil, nil)
        if connection < 0 { return }
        let number = connections.wrappingAdd(1, ordering: .relaxed).oldValue
        Thread.detachNewThread {
          let wire = Wire(fd: connection)
          script(wire, number, self)
          wire.close()
        }
      }
    }
  }

  /// Answers every request of every connection alike.
  static func answering(_ response: String = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok") -> Upstream {
    Upstream { wire, _, upstream in
      while upstream.request(wire) != nil { wire.send(response) }
    }
  }

  /// Reads and notes the next request.
  func request(_ wire: Wire) -> (head: String, body: String)? {
    guard let message = wire.message() else { return nil }
    seen.withLock { $0.append(message.head + message.body) }
    return message
  }

  func note(_ request: String) { seen.withLock { $0.append(request) } }
  var requests: [String] { seen.withLock { $0 } }
  var connectionCount: Int { connections.load(ordering: .relaxed) }
  func stop() { shutdown(fd, Int32(SHUT_RDWR)) }
}
