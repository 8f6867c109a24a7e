import HTTP1
import NIOCore

@testable import HTTP2

/// An event with what it refers to, copied.
struct Seen: Equatable {
  var event: HTTP2Event
  var head = ""
  var content: [UInt8] = []
}

/// A connection with its buffers and a clock: what a driver is, without I/O.
final class Endpoint {
  var connection: HTTP2Connection
  var workspace: HTTP2Workspace
  var input = ByteBuffer()
  var out = ByteBuffer()
  var now: UInt64 = 1_000_000_000

  init(_ role: HTTP2Role, limits: HTTP2Limits = HTTP2Limits(), list: FieldListLimits = FieldListLimits()) {
    connection = HTTP2Connection(role, limits: limits, random: 42)
    workspace = HTTP2Workspace(limits: list)
    connection.start(listOctets: list.octets, to: &out, now: now)
  }

  /// A server that has the client's preface and SETTINGS, and whose own were acknowledged.
  static func server(
    limits: HTTP2Limits = HTTP2Limits(), list: FieldListLimits = FieldListLimits(),
    settings: [(UInt16, UInt32)] = []
  ) -> Endpoint {
    let endpoint = Endpoint(.server, limits: limits, list: list)
    _ = endpoint.receive(Wire.preface + Wire.settings(settings) + Wire.settingsAck)
    endpoint.out.clear()
    return endpoint
  }

  /// A client that has the server's SETTINGS, and whose own were acknowledged.
  static func client(limits: HTTP2Limits = HTTP2Limits(), settings: [(UInt16, UInt32)] = []) -> Endpoint {
    let endpoint = Endpoint(.client, limits: limits)
    _ = endpoint.receive(Wire.settings(settings) + Wire.settingsAck)
    endpoint.out.clear()
    return endpoint
  }

  /// Feeds octets and collects events up to `needsInput`.
  @discardableResult
  func receive(_ bytes: [UInt8]) -> [Seen] {
    input.writeBytes(bytes)
    var seen: [Seen] = []
    while true {
      let event = connection.next(&input, &workspace, to: &out, now: now)
      if event == .needsInput { break }
      seen.append(look(event))
    }
    input.discardReadBytes()
    return seen
  }

  private func look(_ event: HTTP2Event) -> Seen {
    switch event {
    case .request, .informational, .response, .trailers: return Seen(event: event, head: String(buffer: workspace.head))
    case .data(_, let count, _): return Seen(event: event, content: input.readBytes(length: count) ?? [])
    default: return Seen(event: event)
    }
  }

  func isOpen(_ key: StreamKey) -> Bool { connection.isOpen(key) }
  var openStreams: Int { connection.openStreams }
  var problem: ConnectionProblem? { connection.problem }
  var deadline: UInt64 { connection.deadline }
  var blockBytes: Int { connection.block.readableBytes }
  var orphaned: Int { connection.orphaned }
  var credit: Int { connection.credit }
  var receiveWindow: Int { connection.receiveWindow }
  var isDrained: Bool { connection.isDrained }
  var openness: HTTP2Connection.Openness { connection.openness }
  func nextWritable() -> StreamKey? { connection.nextWritable() }
  func beginData(_ key: StreamKey, _ wanted: Int, end: Bool) -> Int {
    connection.beginData(key, wanted, endStream: end, to: &out, now: now)
  }
  var slots: Int { connection.streams.slots.count }
  func tick(at time: UInt64) -> HTTP2Event { connection.tick(to: &out, now: time) }

  func takeOut() -> [UInt8] {
    let bytes = Array(out.readableBytesView)
    out.clear()
    return bytes
  }

  func sentFrames() -> [Wire.Frame] { Wire.frames(takeOut()) }

  /// What the engine ended, if anything: "GOAWAY CODE" or "RST n CODE"; the first such frame counts.
  func refusal() -> String {
    for frame in sentFrames() {
      if frame.type == 7 { return "GOAWAY \(code(frame.payload, 4))" }
      if frame.type == 3 { return "RST \(frame.stream) \(code(frame.payload, 0))" }
    }
    return "none"
  }

  private func code(_ payload: [UInt8], _ at: Int) -> String {
    let number = payload[at..<(at + 4)].reduce(UInt32(0)) { $0 << 8 | UInt32($1) }
    return "\(ErrorCode(rawValue: number).name)"
  }

  /// Answers with a head given as text.
  @discardableResult
  func respond(_ key: StreamKey, _ text: String, end: Bool) throws -> Bool {
    try Array(text.utf8).withUnsafeBytes { bytes in
      var head = ResponseHead()
      try head.parse(bytes)
      return connection.respond(key, head, bytes, endStream: end, to: &out)
    }
  }

  func open(_ text: String, end: Bool, _ change: (inout RequestOptions) -> Void = { _ in }) throws -> StreamKey? {
    try Array(text.utf8).withUnsafeBytes { bytes in
      var head = RequestHead()
      try head.parse(bytes)
      var options = RequestOptions(isHTTPS: false)
      change(&options)
      return connection.open(head, bytes, options, endStream: end, to: &out)
    }
  }

  func sendTrailers(_ key: StreamKey, _ text: String) throws -> Bool {
    try Array(text.utf8).withUnsafeBytes { bytes in
      var table = FieldTable()
      try table.parseTrailers(bytes)
      return connection.sendTrailers(key, table, bytes, to: &out)
    }
  }

  func send(_ key: StreamKey, _ content: [UInt8], end: Bool) -> (HTTP2Connection.Sent, left: Int) {
    var buffer = ByteBuffer(bytes: content)
    let sent = connection.send(key, &buffer, endStream: end, to: &out, now: now)
    return (sent, buffer.readableBytes)
  }
}

extension Seen {
  var key: StreamKey? {
    switch event {
    case .request(let key, _), .oversizedRequest(let key, _), .informational(let key), .response(let key, _),
      .trailers(let key), .data(let key, _, _), .reset(let key, _, _), .stalled(let key):
      key
    default: nil
    }
  }
}

extension HTTP2Event {
  var isOversized: Bool { if case .oversizedRequest = self { true } else { false } }
}
