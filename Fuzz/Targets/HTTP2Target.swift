import HTTP1
import HTTP2
import NIOCore

/// An HTTP/2 connection whose peer sends anything: however its octets arrive, the same becomes of them; every head that
/// it hands out is one that the HTTP/1.1 reader accepts; what it sends are whole frames; what it holds is bounded.
enum HTTP2Target {
  static func check(_ input: UnsafeRawBufferPointer, _ role: HTTP2Role) -> String? {
    let splits = Splits(input)
    var stream = Array(splits.stream)
    // What every conversation begins with need not be found first.
    if role == .server, let first = input.first, first & 1 == 0 {
      stream = Array("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".utf8) + stream
    }
    let whole = HTTP2Peer(role, answers: false)
    whole.receive(stream[...])
    let split = HTTP2Peer(role, answers: false)
    var cuts = splits
    var position = 0
    while position < stream.count {
      let count = cuts.next(of: stream.count - position)
      split.receive(stream[position..<(position + count)])
      position += count
    }
    // And one that answers, which comes to other states.
    let talking = HTTP2Peer(role, answers: true)
    talking.receive(stream[...])
    for peer in [whole, split, talking] {
      if let complaint = peer.complaint ?? peer.checkOutput() { return complaint }
    }
    return whole.seen == split.seen
      ? nil : "what becomes of octets depends on how they arrive: \(whole.seen) and \(split.seen)"
  }
}

/// A driver without I/O.
final class HTTP2Peer {
  private var connection: HTTP2Connection
  private var workspace = HTTP2Workspace(limits: FieldListLimits(octets: 4096, fields: 20))
  private var input = ByteBuffer()
  private var out = ByteBuffer()
  private let answers: Bool
  private var now: UInt64 = 1_000_000_000
  /// Events in words; content in a row is one.
  private(set) var seen: [String] = []
  private(set) var complaint: String?
  private var contentOf: UInt32 = 0

  init(_ role: HTTP2Role, answers: Bool) {
    var limits = HTTP2Limits()
    limits.concurrentStreams = 8
    limits.idleFrames = 40
    limits.resets = 10
    limits.continuations = 6
    limits.blockOctets = 8192
    connection = HTTP2Connection(role, limits: limits, random: 42)
    self.answers = answers
    connection.start(listOctets: 4096, to: &out, now: now)
    if role == .client {
      open("GET / HTTP/1.1\r\nHost: a\r\n\r\n", end: true)
      open("POST /b HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n", end: false)
      open("HEAD /c HTTP/1.1\r\nHost: a\r\n\r\n", end: true)
      open("CONNECT d:1 HTTP/1.1\r\nHost: d:1\r\n\r\n", end: false)
    }
  }

  private func open(_ text: String, end: Bool) {
    Array(text.utf8).withUnsafeBytes { bytes in
      var head = RequestHead()
      do throws(HeadError) { try head.parse(bytes) } catch { complaint = "\(error)" }
      let options = RequestOptions(isHTTPS: false)
      if connection.open(head, bytes, options, endStream: end, to: &out) == nil { complaint = "no stream opens" }
    }
  }

  func receive(_ bytes: ArraySlice<UInt8>) {
    input.writeBytes(bytes)
    while complaint == nil {
      let event = connection.next(&input, &workspace, to: &out, now: now)
      if event == .needsInput { break }
      take(event)
    }
    input.discardReadBytes()
    if input.readableBytes > 9 + 16_384 { complaint = "\(input.readableBytes) octets are held" }
    if connection.openStreams > 8 { complaint = "\(connection.openStreams) streams are open" }
  }

  private func take(_ event: HTTP2Event) {
    if case .data(let key, let count, let end) = event {
      let content = input.readBytes(length: count) ?? []
      if content.count != count { complaint = "content of \(count) octets is not there" }
      note(content, key, end)
      connection.consumed(key, count, to: &out)
      if end, answers { answer(key) }
      return
    }
    contentOf = 0
    // These depend on when windows are credited, which follows the reads.
    switch event {
    case .writable, .settings, .pong: break
    default: seen.append("\(event)")
    }
    switch event {
    case .request(let key, let end):
      checkHead(request: true)
      if end, answers { answer(key) }
    case .response, .informational: checkHead(request: false)
    case .trailers: checkTrailers()
    case .stalled(let key), .oversizedRequest(let key, _): connection.reset(key, .cancel, to: &out)
    case .failed: if connection.problem == nil { complaint = "failed, and not why" }
    default: break
    }
    while answers, let key = connection.nextWritable() { answer(key) }
  }

  private func note(_ content: [UInt8], _ key: StreamKey, _ end: Bool) {
    if contentOf != key.id { seen.append("content of \(key.id): ") }
    contentOf = end ? 0 : key.id
    seen[seen.count - 1] += content.map { String($0, radix: 16) }.joined(separator: " ") + " "
    if end { seen[seen.count - 1] += "end" }
  }

  private func answer(_ key: StreamKey) {
    if connection.role == .server, !connection.isSendable(key) {
      Array("HTTP/1.1 200 OK\r\nX: y\r\n\r\n".utf8).withUnsafeBytes { bytes in
        var head = ResponseHead()
        do throws(HeadError) { try head.parse(bytes) } catch { complaint = "\(error)" }
        _ = connection.respond(key, head, bytes, endStream: false, to: &out)
      }
    }
    var content = ByteBuffer(repeating: 0x61, count: 20_000)
    _ = connection.send(key, &content, endStream: false, to: &out, now: now)
    if connection.isSendable(key), content.readableBytes == 0 {
      content = ByteBuffer()
      _ = connection.send(key, &content, endStream: true, to: &out, now: now)
    }
  }

  /// The way from HTTP/2 to HTTP/1.1: no octet of a field has become one of the framing.
  private func checkHead(request: Bool) {
    let found = workspace.head.withUnsafeReadableBytes { bytes -> String? in
      do throws(HeadError) {
        var scanner = HeadScanner()
        guard let length = try scanner.scan(bytes, limits: HeadLimits()), length == bytes.count else {
          return "a head ends elsewhere: \(bytes.shown)"
        }
        if request {
          var head = RequestHead()
          try head.parse(bytes)
          return MessageChecks.request(head, bytes, HeadLimits())
        }
        var head = ResponseHead()
        try head.parse(bytes)
        return MessageChecks.response(head, bytes, HeadLimits())
      } catch { return "a head that HTTP/1.1 refuses (\(error)): \(bytes.shown)" }
    }
    note(head: found)
  }

  private func checkTrailers() {
    let found = workspace.head.withUnsafeReadableBytes { bytes -> String? in
      var table = FieldTable()
      do throws(HeadError) { try table.parseTrailers(bytes) } catch { return "trailers: \(error)" }
      return nil
    }
    note(head: found)
  }

  private func note(head complaint: String?) {
    seen[seen.count - 1] += " " + String(buffer: workspace.head)
    if let complaint { self.complaint = complaint }
  }

  /// Whole frames of ours, none too long.
  func checkOutput() -> String? {
    var bytes = out
    if connection.role == .client { bytes.moveReaderIndex(forwardBy: 24) }
    while bytes.readableBytes > 0 {
      guard let first = bytes.readInteger(as: UInt32.self), bytes.readBytes(length: 5) != nil else {
        return "half a frame header was written"
      }
      let length = Int(first >> 8)
      // The peer may have asked for more than the 16 KiB that everybody takes.
      guard bytes.readableBytes >= length else { return "half a frame was written" }
      bytes.moveReaderIndex(forwardBy: length)
    }
    return nil
  }
}

/// Field blocks of one connection: each is preceded by its length.
enum HPACKTarget {
  static func check(_ input: UnsafeRawBufferPointer) -> String? {
    var decoder = HPACKDecoder()
    var list = FieldList(limits: FieldListLimits(octets: 2048, fields: 16))
    var position = 0
    while position < input.count {
      let count = min(Int(input[position]), input.count - position - 1)
      if input[position] == 0xFF { decoder.setMaximum(Int(position & 7) * 512) }
      let block = input.part((position + 1)..<(position + 1 + count))
      position += 1 + count
      // After an error the connection ends.
      do throws(HPACKError) { try decoder.decode(block, into: &list) } catch { return nil }
      if list.count > 16 { return "\(list.count) fields" }
    }
    return nil
  }
}
