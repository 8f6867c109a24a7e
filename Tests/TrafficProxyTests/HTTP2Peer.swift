import HTTP1
import HTTP2
import NIOCore
import Synchronization
import Testing
import Traffic

@testable import TrafficProxy

/// A blocking HTTP/2 endpoint over a socket: the engine as the other side of the proxy.
final class HTTP2Peer {
  struct Message: Equatable {
    var head = ""
    var informational = ""
    var body: [UInt8] = []
    var trailers = ""
    /// The code of a reset, or nil.
    var reset: ErrorCode?
    var text: String { String(decoding: body, as: UTF8.self) }
  }

  let wire: Wire
  private(set) var connection: HTTP2Connection
  private var workspace = HTTP2Workspace()
  private var input = ByteBuffer()
  private var out = ByteBuffer()
  private var open: [StreamKey: Message] = [:]
  private(set) var isOver = false
  private(set) var sawGoAway = false
  /// Credit is given for what was received.
  var drains = true

  init(_ role: HTTP2Role, _ wire: Wire, limits: HTTP2Limits = HTTP2Limits()) {
    self.wire = wire
    connection = HTTP2Connection(role, limits: limits, random: 7)
    connection.start(to: &out, now: now)
    flush()
  }

  static func client(_ port: Int, limits: HTTP2Limits = HTTP2Limits()) -> HTTP2Peer {
    HTTP2Peer(.client, Wire.connect(port), limits: limits)
  }

  private var now: UInt64 { NIODeadline.now().uptimeNanoseconds }

  func flush() {
    if out.readableBytes > 0 { wire.send(Array(out.readableBytesView)) }
    out.clear()
  }

  // MARK: Sending

  func ask(
    _ method: String = "GET", _ path: String = "/", _ fields: String = "", body: String? = nil, trailers: String? = nil,
    ends: Bool = true, webSocket: Bool = false
  ) throws -> StreamKey {
    try ask(
      text: "\(method) \(path) HTTP/1.1\r\nHost: shop.test\r\n\(fields)\r\n", body: body, trailers: trailers,
      ends: ends,
      webSocket: webSocket)
  }

  func ask(
    text: String, body: String? = nil, trailers: String? = nil, ends: Bool = true, webSocket: Bool = false
  ) throws -> StreamKey {
    let hasMore = body != nil || trailers != nil || !ends
    let key = try Array(text.utf8).withUnsafeBytes { bytes in
      var head = RequestHead()
      try head.parse(bytes)
      var options = RequestOptions(isHTTPS: false)
      options.extendedConnect = webSocket
      return connection.open(head, bytes, options, endStream: !hasMore, to: &out)
    }
    let opened = try #require(key)
    open[opened] = Message()
    if hasMore { try send(opened, body ?? "", trailers: trailers, ends: ends) } else { flush() }
    return opened
  }

  func send(_ key: StreamKey, _ body: String, trailers: String? = nil, ends: Bool = true) throws {
    var content = ByteBuffer(string: body)
    while content.readableBytes > 0 || ends && trailers == nil {
      let sent = connection.send(key, &content, endStream: ends && trailers == nil, to: &out, now: now)
      flush()
      if sent != .blocked { break }
      guard turn() else { return }
    }
    if let trailers {
      try Array(trailers.utf8).withUnsafeBytes { bytes in
        var table = FieldTable()
        try table.parseTrailers(bytes)
        connection.sendTrailers(key, table, bytes, to: &out)
      }
    }
    flush()
  }

  func respond(_ key: StreamKey, _ text: String, ends: Bool = false) throws {
    try Array(text.utf8).withUnsafeBytes { bytes in
      var head = ResponseHead()
      try head.parse(bytes)
      connection.respond(key, head, bytes, endStream: ends, to: &out)
    }
    flush()
  }

  func reset(_ key: StreamKey, _ code: ErrorCode) {
    connection.reset(key, code, to: &out)
    flush()
  }

  func drain() {
    connection.drain(to: &out, now: now)
    flush()
  }

  // MARK: Receiving

  /// Deals with one event, or reads more; false at the end of the connection.
  private var ended: [(StreamKey, Message)] = []

  private func turn() -> Bool {
    if isOver { return false }
    let event = connection.next(&input, &workspace, to: &out, now: now)
    switch event {
    case .needsInput:
      flush()
      let more = wire.receive()
      if more.isEmpty {
        isOver = true
        return false
      }
      input.discardReadBytes()
      input.writeBytes(more)
    case .request(let key, let ends), .response(let key, let ends):
      open[key, default: Message()].head = String(buffer: workspace.head)
      if ends { finish(key) }
    case .informational(let key): open[key, default: Message()].informational = String(buffer: workspace.head)
    case .data(let key, let count, let ends):
      open[key, default: Message()].body += input.readBytes(length: count) ?? []
      if drains { connection.consumed(key, count, to: &out) }
      if ends { finish(key) }
    case .trailers(let key):
      open[key, default: Message()].trailers = String(buffer: workspace.head)
      finish(key)
    case .reset(let key, let code, _):
      open[key, default: Message()].reset = code
      finish(key)
    case .goAway: sawGoAway = true
    case .failed:
      flush()
      isOver = true
    default: break
    }
    flush()
    return !isOver
  }

  private func finish(_ key: StreamKey) {
    if let message = open.removeValue(forKey: key) { ended.append((key, message)) }
  }

  /// The whole message of that stream, or of any; nil when the connection ended before.
  func message(of key: StreamKey? = nil) -> (key: StreamKey, message: Message)? {
    while true {
      if let index = ended.firstIndex(where: { key == nil || $0.0 == key }) { return ended.remove(at: index) }
      if !turn() { return nil }
    }
  }

  /// Reads until a head of that stream, or of any, is there.
  func head(of key: StreamKey? = nil, bytes: Int = 0) -> (key: StreamKey, message: Message)? {
    func found() -> (StreamKey, Message)? {
      for (candidate, message) in open
      where (key == nil || key == candidate) && !message.head.isEmpty && message.body.count >= bytes {
        return (candidate, message)
      }
      return ended.first { key == nil || $0.0 == key }
    }
    while true {
      if let found = found() { return found }
      if !turn() { return nil }
    }
  }

  /// Reads until the peer has said goodbye, or the connection is over.
  func untilGoAway() -> Bool {
    while !sawGoAway { if !turn() { return sawGoAway } }
    return true
  }

  func untilEstablished() { while !connection.isEstablished, turn() {} }
  func untilEnd() { while turn() {} }
}

extension Upstream {
  /// An HTTP/2 upstream whose connections follow a script.
  static func http2(
    limits: HTTP2Limits = HTTP2Limits(), _ script: @escaping @Sendable (HTTP2Peer, Int, Upstream) throws -> Void
  ) -> Upstream {
    Upstream { wire, number, upstream in
      do {
        try script(HTTP2Peer(.server, wire, limits: limits), number, upstream)
      } catch {
        Issue.record(error)
      }
    }
  }
}

extension Harness {
  /// With an upstream that speaks HTTP/2 by prior knowledge.
  static func http2(
    to upstreams: [Int], _ edit: (inout ListenerConfiguration, inout ClusterConfiguration) -> Void = { _, _ in }
  ) async throws -> Harness {
    try await Harness(to: upstreams) { listener, cluster, _ in
      cluster.spoken = .http2
      edit(&listener, &cluster)
    }
  }
}
