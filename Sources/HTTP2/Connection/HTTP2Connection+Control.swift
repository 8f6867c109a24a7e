import NIOCore

/// The frames that carry no message (RFC 9113 sections 6.3 to 6.9).
extension HTTP2Connection {
  mutating func settings(_ bytes: UnsafeRawBufferPointer, to out: inout ByteBuffer, now: UInt64) -> HTTP2Event? {
    if frame.has(FrameFlags.acknowledge) { return settingsAcknowledgement(to: &out) }
    guard spendIdleFrame(4 + bytes.count / 48, now: now) else { return fail(.tooManyFrames, to: &out) }
    let before = peer
    var offset = 0
    while offset < bytes.count {
      let identifier = UInt16(bytes[offset]) << 8 | UInt16(bytes[offset + 1])
      let value = bytes.number(at: offset + 2)
      if let problem = peer.apply(identifier, value, isServer: role == .client) { return fail(problem, to: &out) }
      offset += 6
    }
    if peer.headerTableSize != before.headerTableSize { encoder.setPeerMaximum(peer.headerTableSize) }
    let grown = peer.initialWindow - before.initialWindow
    if grown != 0 {
      // RFC 9113 section 6.9.2.
      for slot in streams.slots.indices where streams.slots[slot].id != 0 {
        streams.slots[slot].sendWindow += grown
        if streams.slots[slot].sendWindow > 0x7FFF_FFFF { return fail(.windowOverflow, to: &out) }
      }
    }
    FrameWriter.settingsAcknowledgement(to: &out)
    if !settingsReceived {
      settingsReceived = true
      headDeadline = .max
    }
    return .settings
  }

  private mutating func settingsAcknowledgement(to out: inout ByteBuffer) -> HTTP2Event? {
    guard !settingsAcknowledged else { return fail(.unaskedAcknowledgement, to: &out) }
    settingsAcknowledged = true
    settingsDeadline = .max
    decoder.setMaximum(limits.decoderTable)
    let grown = limits.streamWindow - streamReceiveWindow
    streamReceiveWindow = limits.streamWindow
    for slot in streams.slots.indices where streams.slots[slot].id != 0 {
      streams.slots[slot].receiveWindow += grown
    }
    return nil
  }

  mutating func ping(_ bytes: UnsafeRawBufferPointer, to out: inout ByteBuffer, now: UInt64) -> HTTP2Event? {
    let data = UInt64(bytes.number(at: 0)) << 32 | UInt64(bytes.number(at: 4))
    guard spendIdleFrame(now: now) else { return fail(.tooManyFrames, to: &out) }
    if !frame.has(FrameFlags.acknowledge) {
      FrameWriter.ping(data, acknowledges: true, to: &out)
      return nil
    }
    if data == Self.closingPing {
      if closing == .announced { finishClosing(to: &out) }
      return nil
    }
    return .pong(data)
  }

  mutating func goAway(_ bytes: UnsafeRawBufferPointer, to out: inout ByteBuffer, now: UInt64) -> HTTP2Event? {
    guard spendIdleFrame(now: now) else { return fail(.tooManyFrames, to: &out) }
    let last = bytes.number(at: 0) & 0x7FFF_FFFF
    if let peerGoAwayLast, last > peerGoAwayLast { return fail(.goAwayIncreased, to: &out) }
    peerGoAwayLast = last
    hasRefusals = role == .client
    return .goAway(ErrorCode(rawValue: bytes.number(at: 4)))
  }

  /// One of our streams that the peer's GOAWAY refuses: nobody has looked at it, so it can be sent elsewhere.
  mutating func nextRefusal(to out: inout ByteBuffer) -> HTTP2Event? {
    if let last = peerGoAwayLast {
      for slot in streams.slots.indices where streams.slots[slot].id > last {
        let key = key(slot)
        release(slot, to: &out)
        resetStreams.insert(key.id)
        return .reset(key, .refusedStream, byPeer: true)
      }
    }
    hasRefusals = false
    return nil
  }

  mutating func windowUpdate(_ bytes: UnsafeRawBufferPointer, to out: inout ByteBuffer, now: UInt64) -> HTTP2Event? {
    guard spendIdleFrame(now: now) else { return fail(.tooManyFrames, to: &out) }
    let increment = Int(bytes.number(at: 0) & 0x7FFF_FFFF)
    if frame.stream == 0 {
      if increment == 0 { return fail(.zeroIncrement, to: &out) }
      let wasClosed = sendWindow <= 0
      sendWindow += increment
      if sendWindow > 0x7FFF_FFFF { return fail(.windowOverflow, to: &out) }
      return wasClosed && blockedCount > 0 ? .writable : nil
    }
    let slot = streams.find(frame.stream)
    if slot < 0 { return isIdle(frame.stream) ? fail(.idleStream, to: &out) : nil }
    if increment == 0 { return fail(slot, .protocolError, to: &out, now: now) }
    streams.slots[slot].sendWindow += increment
    if streams.slots[slot].sendWindow > 0x7FFF_FFFF { return fail(slot, .flowControlError, to: &out, now: now) }
    let canGoOn =
      streams.slots[slot].facts.contains(.isBlocked) && streams.slots[slot].sendWindow > 0 && sendWindow > 0
    return canGoOn ? .writable : nil
  }

  mutating func resetStream(_ bytes: UnsafeRawBufferPointer, to out: inout ByteBuffer, now: UInt64) -> HTTP2Event? {
    let slot = streams.find(frame.stream)
    if slot < 0 {
      if isIdle(frame.stream) { return fail(.idleStream, to: &out) }
      return spendIdleFrame(now: now) ? nil : fail(.tooManyFrames, to: &out)
    }
    let key = key(slot)
    release(slot, to: &out)
    endedStreams.insert(key.id)
    if role == .server, !resets.spend(now: now) { return fail(.tooManyResets, to: &out) }
    return .reset(key, ErrorCode(rawValue: bytes.number(at: 0)), byPeer: true)
  }

  /// Priorities are validated and ignored (RFC 9113 section 5.3).
  mutating func priority(_ bytes: UnsafeRawBufferPointer, to out: inout ByteBuffer) -> HTTP2Event? {
    bytes.number(at: 0) & 0x7FFF_FFFF == frame.stream ? fail(.selfDependency, to: &out) : nil
  }
}
