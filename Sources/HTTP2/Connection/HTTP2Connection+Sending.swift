package import HTTP1
package import NIOCore

/// Heads and content of ours.
extension HTTP2Connection {
  /// What became of content.
  package enum Sent: Sendable, Equatable {
    /// All of it was written.
    case all
    /// The windows did not let all of it go; `writable` tells when to try again.
    case blocked
    /// The stream is not open in our direction any more.
    case closed
  }

  /// Whether `open` would open a stream now.
  package enum Openness: Sendable, Equatable {
    case open
    /// The limit of streams is reached: when one ends there is room again.
    case full
    /// This connection takes no more streams.
    case closed
  }

  package var openness: Openness {
    if role == .server || stage == .over || closing != .no || peerGoAwayLast != nil || nextStream > 0x7FFF_FFFF {
      return .closed
    }
    // Until the peer has named a limit, the least that RFC 9113 recommends is assumed.
    let offered = settingsReceived ? Int(peer.maxConcurrentStreams) : 100
    return streams.count < min(offered, limits.openedStreams) ? .open : .full
  }

  /// The peer takes extended CONNECT (RFC 8441 section 3).
  package var peerTakesExtendedConnect: Bool { peer.enablesConnectProtocol }

  /// Opens a stream with this request, or returns nil as `openness` says (client). `bytes` is what `head` was parsed
  /// from. Its body follows by `send`, unless the stream ends here.
  package mutating func open(
    _ head: RequestHead, _ bytes: UnsafeRawBufferPointer, _ options: RequestOptions, endStream: Bool,
    to out: inout ByteBuffer
  ) -> StreamKey? {
    guard openness == .open, !options.extendedConnect || peer.enablesConnectProtocol else { return nil }
    let id = nextStream
    nextStream += 2
    let slot = streams.insert(id)
    var facts: HTTP2Stream.Facts = .headSent
    if endStream { facts.insert(.localEnded) }
    if head.method == .head { facts.insert(.answersHead) }
    if head.method == .connect { facts.insert(.isConnect) }
    if options.extendedConnect { facts.insert(.isExtendedConnect) }
    streams.slots[slot].facts = facts
    streams.slots[slot].sendWindow = peer.initialWindow
    streams.slots[slot].receiveWindow = streamReceiveWindow
    let bound = HPACKEncoder.bound(bytes.count, fields: head.table.fields.count)
    writeHead(id, bound, endStream, to: &out) { $0.request(head, bytes, options, to: &$1) }
    return key(slot)
  }

  /// Sends a response head, or an informational one (server). `bytes` is what `head` was parsed from. On the stream
  /// of an extended CONNECT a 101 becomes the 200 that agrees to it. False when the stream is closed, or has a head.
  @discardableResult
  package mutating func respond(
    _ key: StreamKey, _ head: ResponseHead, _ bytes: UnsafeRawBufferPointer, endStream: Bool,
    sensitive: SensitiveNames = SensitiveNames(), to out: inout ByteBuffer
  ) -> Bool {
    let slot = live(key)
    guard slot >= 0, streams.slots[slot].facts.isDisjoint(with: [.localEnded, .headSent]) else { return false }
    let status = head.status == 101 && streams.slots[slot].facts.contains(.isExtendedConnect) ? 200 : head.status
    // HTTP/2 has no 101 (RFC 9113 section 8.6), and an informational head ends nothing.
    guard status != 101, status >= 200 || !endStream else { return false }
    if status >= 200 { streams.slots[slot].facts.insert(.headSent) }
    let bound = HPACKEncoder.bound(bytes.count, fields: head.table.fields.count)
    writeHead(key.id, bound, endStream, to: &out) { $0.response(head, bytes, status: status, sensitive, to: &$1) }
    if endStream { endLocal(slot) }
    return true
  }

  /// Ends our side with trailers. `bytes` is what `table` was parsed from (`FieldTable.parseTrailers`).
  @discardableResult
  package mutating func sendTrailers(
    _ key: StreamKey, _ table: FieldTable, _ bytes: UnsafeRawBufferPointer,
    sensitive: SensitiveNames = SensitiveNames(), to out: inout ByteBuffer
  ) -> Bool {
    let slot = live(key)
    guard slot >= 0, streams.slots[slot].facts.isSuperset(of: .headSent),
      !streams.slots[slot].facts.contains(.localEnded)
    else { return false }
    let bound = HPACKEncoder.bound(bytes.count, fields: table.fields.count)
    writeHead(key.id, bound, true, to: &out) { $0.trailers(table, bytes, sensitive, to: &$1) }
    endLocal(slot)
    return true
  }

  /// Writes HEADERS, and CONTINUATION where one frame does not hold the block. `bound`: the most that `encode` writes.
  private mutating func writeHead(
    _ id: UInt32, _ bound: Int, _ endStream: Bool, to out: inout ByteBuffer,
    _ encode: (inout HPACKEncoder, inout UnsafeMutablePointer<UInt8>) -> Void
  ) {
    let start = out.writerIndex
    let flags = endStream ? FrameFlags.endStream : FrameFlags.none
    var length = 0
    out.writeWithUnsafeMutableBytes(minimumWritableBytes: FrameHeader.count + bound) { room in
      // Room for something has an address.
      let base = room.baseAddress.unsafelyUnwrapped
      var end = (base + FrameHeader.count).assumingMemoryBound(to: UInt8.self)
      encode(&encoder, &end)
      length = UnsafeMutableRawPointer(end) - base - FrameHeader.count
      FrameWriter.header(length, FrameType.headers, flags | FrameFlags.endHeaders, id, at: base)
      return FrameHeader.count + length
    }
    if length > FrameHeader.largestPayload { split(id, flags, from: start, to: &out) }
  }

  private func split(_ id: UInt32, _ flags: UInt8, from start: Int, to out: inout ByteBuffer) {
    guard var fields = out.getSlice(at: start + FrameHeader.count, length: out.writerIndex - start - FrameHeader.count)
    else { return }
    out.moveWriterIndex(to: start)
    var type = FrameType.headers
    var firstFlags = flags
    while let part = fields.readSlice(length: min(fields.readableBytes, FrameHeader.largestPayload)),
      part.readableBytes > 0
    {
      let last = fields.readableBytes == 0 ? FrameFlags.endHeaders : FrameFlags.none
      FrameWriter.header(part.readableBytes, type, firstFlags | last, id, to: &out)
      out.writeImmutableBuffer(part)
      type = FrameType.continuation
      firstFlags = FrameFlags.none
    }
  }

  /// Writes as much of `content` in DATA frames as the windows allow, and takes that out of it. `endStream` goes with
  /// the last octet.
  package mutating func send(
    _ key: StreamKey, _ content: inout ByteBuffer, endStream: Bool, to out: inout ByteBuffer, now: UInt64
  ) -> Sent {
    while true {
      let wanted = content.readableBytes
      if wanted == 0, !endStream { return isSendable(key) ? .all : .closed }
      let count = beginData(key, wanted, endStream: endStream, to: &out, now: now)
      if count < 0 { return .closed }
      if count == 0, wanted > 0 { return .blocked }
      content.readWithUnsafeReadableBytes { bytes in
        out.writeBytes(UnsafeRawBufferPointer(rebasing: bytes[..<count]))
        return count
      }
      if count == wanted { return .all }
    }
  }

  /// Writes the header of one DATA frame, for content that the driver writes behind it by itself: `wanted` octets, or
  /// as many as the windows and a frame allow. Returns how many; 0 = blocked (or nothing was wanted), -1 = closed.
  /// The stream ends with them if `endStream` is set and all of `wanted` fits.
  package mutating func beginData(
    _ key: StreamKey, _ wanted: Int, endStream: Bool, to out: inout ByteBuffer, now: UInt64
  ) -> Int {
    guard isSendable(key) else { return -1 }
    let slot = Int(key.slot)
    let window = min(streams.slots[slot].sendWindow, sendWindow)
    let count = min(wanted, window, FrameHeader.largestPayload)
    if wanted > 0, count <= 0 {
      block(slot, now: now)
      return 0
    }
    let ends = endStream && count == wanted
    guard ends || wanted > 0 else { return 0 }
    FrameWriter.header(count, FrameType.data, ends ? FrameFlags.endStream : FrameFlags.none, key.id, to: &out)
    streams.slots[slot].sendWindow &-= count
    sendWindow &-= count
    streams.slots[slot].facts.remove(.isStalled)
    idleFrames.refund(FloodBudget.unit &* Int64(2 &+ count >> 8))
    if ends { endLocal(slot) }
    return count
  }

  /// True while content can be sent on this stream: it is open in our direction and has its head.
  @inline(__always)
  package func isSendable(_ key: StreamKey) -> Bool {
    let slot = live(key)
    return slot >= 0 && streams.slots[slot].facts.contains(.headSent)
      && !streams.slots[slot].facts.contains(.localEnded)
  }

  private mutating func block(_ slot: Int, now: UInt64) {
    if streams.slots[slot].facts.contains(.isBlocked) { return }
    streams.slots[slot].facts.insert(.isBlocked)
    streams.slots[slot].blockedSince = now
    blockedCount &+= 1
    if limits.stallTime > 0 { stallDeadline = min(stallDeadline, now &+ limits.stallTime) }
  }

  private mutating func endLocal(_ slot: Int) {
    if streams.slots[slot].facts.contains(.remoteEnded) {
      complete(slot)
    } else {
      streams.slots[slot].facts.insert(.localEnded)
    }
  }

  /// After `writable`: a blocked stream that can go on, each once around; nil when there is none. It counts as blocked
  /// again when its content is still held back.
  package mutating func nextWritable() -> StreamKey? {
    guard blockedCount > 0, sendWindow > 0 else { return nil }
    let count = streams.slots.count
    for step in 0..<count {
      let slot = (writableCursor &+ step) % count
      guard streams.slots[slot].id != 0, streams.slots[slot].facts.contains(.isBlocked),
        streams.slots[slot].sendWindow > 0
      else { continue }
      writableCursor = slot &+ 1
      streams.slots[slot].facts.remove(.isBlocked)
      blockedCount &-= 1
      return key(slot)
    }
    return nil
  }

  /// Resets a stream; its key is stale afterwards. Nothing happens when it is closed already.
  package mutating func reset(_ key: StreamKey, _ code: ErrorCode, to out: inout ByteBuffer) {
    let slot = live(key)
    guard slot >= 0 else { return }
    FrameWriter.resetStream(key.id, code, to: &out)
    resetStreams.insert(key.id)
    release(slot, to: &out)
  }
}
