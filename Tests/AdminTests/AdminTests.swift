import Dispatch
import Logging
import NIOCore
import NIOPosix
import Testing

@testable import Admin

#if canImport(Glibc)
  import Glibc
#endif

@Suite struct AdminServerTests {
  static func endpoints(appReady: Bool) -> AdminEndpoints {
    AdminEndpoints(
      ready: { appReady ? .init(isReady: true) : .init(isReady: false, reason: "waiting for the app") },
      sidecarReady: { .init(isReady: true) }, outboundReady: { .init(isReady: true) },
      probeApp: { .init(isReady: appReady, reason: appReady ? "" : "connection refused") },
      metrics: { "up 1\n" }, status: { "{}" }, reload: { .init(status: 422, text: "line 3: no") }, quit: {},
      drain: { target, undo in .init(status: target == "web" ? 404 : 200, text: "\(target) \(undo)") })
  }

  /// A listening socket on a free loopback port.
  static func listen() throws -> (descriptor: CInt, port: Int) {
    let descriptor = socket(AF_INET, CInt(SOCK_STREAM.rawValue), 0)
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
    var length = socklen_t(MemoryLayout<sockaddr_in>.size)
    let bound = withUnsafeMutablePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        bind(descriptor, $0, length) == 0 && Glibc.listen(descriptor, 16) == 0
          && getsockname(descriptor, $0, &length) == 0
      }
    }
    try #require(bound)
    return (descriptor, Int(UInt16(bigEndian: address.sin_port)))
  }

  /// Sends a request and returns the whole answer.
  static func exchange(_ port: Int, _ request: String) throws -> String {
    let descriptor = socket(AF_INET, CInt(SOCK_STREAM.rawValue), 0)
    defer { close(descriptor) }
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
    address.sin_port = UInt16(port).bigEndian
    let connected = withUnsafePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size)) == 0
      }
    }
    try #require(connected)
    var text = request
    _ = text.withUTF8 { write(descriptor, $0.baseAddress, $0.count) }
    var answer: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 4096)
    while true {
      let count = read(descriptor, &buffer, buffer.count)
      if count <= 0 { break }
      answer += buffer[..<count]
    }
    return String(decoding: answer, as: UTF8.self)
  }

  /// Runs blocking calls on a thread of their own: the tasks' threads must stay free for the server.
  static func withServer(appReady: Bool, _ body: @escaping @Sendable (Int) throws -> Void) async throws {
    let (descriptor, port) = try listen()
    let server = AdminServer(
      endpoints: endpoints(appReady: appReady), group: MultiThreadedEventLoopGroup.singleton,
      logger: Logger(label: "test", factory: { _ in SwiftLogNoOpLogHandler() }))
    let listener = try await server.open(descriptor: descriptor, isNetwork: true)
    defer { listener.stop() }
    try await withCheckedThrowingContinuation { (continuation: CheckedContinuation<Void, any Error>) in
      DispatchQueue.global().async { continuation.resume(with: Result { try body(port) }) }
    }
  }

  static func get(_ port: Int, _ path: String, method: String = "GET", host: String = "127.0.0.1", extra: String = "")
    throws -> String
  {
    try exchange(port, "\(method) \(path) HTTP/1.1\r\nHost: \(host)\r\n\(extra)Connection: close\r\n\r\n")
  }

  @Test func healthEndpointsTellSidecarAndAppApart() async throws {
    try await Self.withServer(appReady: false) { (port: Int) throws in
      #expect(try Self.get(port, "/livez").hasPrefix("HTTP/1.1 200"))
      #expect(try Self.get(port, "/readyz/sidecar").hasPrefix("HTTP/1.1 200"))
      #expect(try Self.get(port, "/readyz/outbound").hasPrefix("HTTP/1.1 200"))
      let ready = try Self.get(port, "/readyz")
      #expect(ready.hasPrefix("HTTP/1.1 503"))
      #expect(ready.hasSuffix("waiting for the app\n"))
      #expect(try Self.get(port, "/healthz/app").hasSuffix("connection refused\n"))
    }
  }

  @Test func metricsStatusAndCommandsAnswer() async throws {
    try await Self.withServer(appReady: true) { (port: Int) throws in
      #expect(try Self.get(port, "/readyz").hasPrefix("HTTP/1.1 200"))
      #expect(try Self.get(port, "/metrics").hasSuffix("up 1\n"))
      #expect(try Self.get(port, "/status").contains("application/json"))
      #expect(try Self.get(port, "/reload", method: "POST").hasPrefix("HTTP/1.1 422"))
      #expect(try Self.get(port, "/quit", method: "POST").hasPrefix("HTTP/1.1 202"))
      #expect(try Self.get(port, "/drain", method: "POST").hasSuffix("all false\n"))
      #expect(try Self.get(port, "/drain?target=inbound.web&undo=1", method: "POST").hasSuffix("inbound.web true\n"))
      #expect(try Self.get(port, "/drain?target=web", method: "POST").hasPrefix("HTTP/1.1 404"))
      #expect(try Self.get(port, "/nowhere").hasPrefix("HTTP/1.1 404"))
    }
  }

  @Test func aWebPageIsRefused() async throws {
    try await Self.withServer(appReady: true) { (port: Int) throws in
      #expect(
        try Self.get(port, "/quit", method: "POST", extra: "Origin: http://evil.example\r\n").hasPrefix("HTTP/1.1 403"))
      #expect(try Self.get(port, "/status", host: "evil.example").hasPrefix("HTTP/1.1 403"))
      #expect(try Self.get(port, "/status", host: "localhost:15000").hasPrefix("HTTP/1.1 200"))
    }
  }
}
