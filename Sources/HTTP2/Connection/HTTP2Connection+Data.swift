package import NIOCore

/// DATA frames and the windows of the receiving direction (RFC 9113 sections 5.2, 6.1 and 6.9).
extension HTTP2Connection {
  /// Takes a DATA frame's header: who it is for, and what it costs.
  mutating func beginData(to out: inout ByteBuffer, now: UInt64) -> HTTP2Event? {
    let length = frame.length
    let slot = streams.find(frame.stream)
    if slot < 0 {
      if isIdle(frame.stream) { return fail(.idleStream, to: &out) }
      guard resetStreams.contains(frame.stream) else { return fail(.closedStream, to: &out) }
      guard spendIdleFrame(now: now) else { return fail(.tooManyFrames, to: &out) }
    }
    guard length <= receiveWindow else { return fail(.windowExceeded, to: &out) }
    receiveWindow &-= length
    if slot < 0 {
      drop(to: &out)
      return nil
    }
    let stream = streams.slots[slot]
    let refusal: ErrorCode? =
      stream.facts.contains(.remoteEnded)
      ? .streamClosed
      : !stream.facts.contains(.headReceived)
        ? .protocolError : length > stream.receiveWindow ? .flowControlError : nil
    if let refusal {
      drop(to: &out)
      return fail(slot, refusal, to: &out, now: now)
    }
    streams.slots[slot].receiveWindow &-= length
    streams.slots[slot].held &+= length
    let ends = frame.has(FrameFlags.endStream)
    dataKey = key(slot)
    if frame.has(FrameFlags.padded) {
      guard length > 0 else { return fail(.frameSize, to: &out) }
      // Taken as a whole, which is at most 16 KiB.
      stage = .payload
      return nil
    }
    if length == 0, !ends, !spendIdleFrame(now: now) { return fail(.tooManyFrames, to: &out) }
    payloadLeft = length
    stage = .data
    if !owe(slot, length, ends) {
      stage = .skipped
      return fail(slot, .protocolError, to: &out, now: now)
    }
    return nil
  }

  /// The payload of this frame goes nowhere; the connection's window gets it back.
  private mutating func drop(to out: inout ByteBuffer) {
    payloadLeft = frame.length
    stage = .skipped
    credit &+= frame.length
    flushCredit(to: &out)
  }

  /// Counts content against the promised length; false when they do not agree (RFC 9113 section 8.1.1).
  private mutating func owe(_ slot: Int, _ count: Int, _ ends: Bool) -> Bool {
    let left = streams.slots[slot].bodyLeft
    if left < 0 { return true }
    streams.slots[slot].bodyLeft = left &- Int64(count)
    return ends ? left == Int64(count) : left >= Int64(count)
  }

  /// Hands on as much of an unpadded frame as is there.
  mutating func readData(_ input: inout ByteBuffer) -> HTTP2Event? {
    let count = min(payloadLeft, input.readableBytes)
    payloadLeft &-= count
    let isLast = payloadLeft == 0
    if isLast { stage = .header }
    let slot = live(dataKey)
    if slot < 0 {
      // Reset by the driver meanwhile: what it held was credited then.
      input.moveReaderIndex(forwardBy: count)
      return nil
    }
    return deliver(slot, count: count, ends: isLast && frame.has(FrameFlags.endStream))
  }

  /// A padded frame, all of which is there.
  mutating func readPaddedData(_ input: inout ByteBuffer, to out: inout ByteBuffer, now: UInt64) -> HTTP2Event? {
    let length = frame.length
    let padding = input.withUnsafeReadableBytes { Int($0[0]) }
    guard padding < length else { return fail(.invalidPadding, to: &out) }
    let count = length - padding - 1
    let ends = frame.has(FrameFlags.endStream)
    stage = .skipped
    payloadLeft = length
    let slot = live(dataKey)
    // Reset by the driver while the frame was coming in.
    if slot < 0 { return nil }
    if count == 0, !ends, !spendIdleFrame(now: now) { return fail(.tooManyFrames, to: &out) }
    if !owe(slot, count, ends) { return fail(slot, .protocolError, to: &out, now: now) }
    consumed(dataKey, padding + 1, to: &out)
    input.moveReaderIndex(forwardBy: 1)
    payloadLeft = padding
    return deliver(slot, count: count, ends: ends)
  }

  private mutating func deliver(_ slot: Int, count: Int, ends: Bool) -> HTTP2Event? {
    let key = key(slot)
    if ends { endRemote(slot) }
    guard count > 0 || ends else { return nil }
    idleFrames.refund(FloodBudget.unit)
    return .data(key, count: count, endStream: ends)
  }

  /// The peer has ended its side.
  mutating func endRemote(_ slot: Int) {
    if streams.slots[slot].facts.contains(.localEnded) {
      complete(slot)
    } else {
      streams.slots[slot].facts.insert(.remoteEnded)
    }
  }

  /// Content of this stream was drained, or will never be: the peer may send as much again. The octets of a stream
  /// that was reset are credited without this; those of one that ended are not.
  package mutating func consumed(_ key: StreamKey, _ count: Int, to out: inout ByteBuffer) {
    let slot = live(key)
    if slot < 0 {
      let taken = min(count, orphaned)
      orphaned &-= taken
      credit &+= taken
    } else {
      let taken = min(count, streams.slots[slot].held)
      streams.slots[slot].held &-= taken
      credit &+= taken
      if !streams.slots[slot].facts.contains(.remoteEnded) {
        streams.slots[slot].credit &+= taken
        let due = streams.slots[slot].credit
        if due >= limits.streamWindow >> 1 {
          FrameWriter.windowUpdate(key.id, due, to: &out)
          streams.slots[slot].credit = 0
          streams.slots[slot].receiveWindow &+= due
        }
      }
    }
    flushCredit(to: &out)
  }

  /// Gives the connection's window back once half of it is due.
  mutating func flushCredit(to out: inout ByteBuffer) {
    guard credit >= max(limits.connectionWindow, 65_535) >> 1, stage != .over else { return }
    FrameWriter.windowUpdate(0, credit, to: &out)
    receiveWindow &+= credit
    credit = 0
  }
}
