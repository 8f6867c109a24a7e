import NIOCore

/// HEADERS and CONTINUATION (RFC 9113 sections 6.2, 6.10 and 8.1).
extension HTTP2Connection {
  mutating func headers(
    _ bytes: UnsafeRawBufferPointer, _ workspace: inout HTTP2Workspace, to out: inout ByteBuffer, now: UInt64
  ) -> HTTP2Event? {
    if let problem = headProblem() { return fail(problem, to: &out) }
    var start = 0
    var padding = 0
    if frame.has(FrameFlags.padded) {
      guard bytes.count >= 1 else { return fail(.frameSize, to: &out) }
      padding = Int(bytes[0])
      start = 1
    }
    if frame.has(FrameFlags.priority) {
      guard bytes.count >= start + 5 else { return fail(.frameSize, to: &out) }
      if bytes.number(at: start) & 0x7FFF_FFFF == frame.stream { return fail(.selfDependency, to: &out) }
      start += 5
    }
    guard padding <= bytes.count - start else { return fail(.invalidPadding, to: &out) }
    let fragment = UnsafeRawBufferPointer(rebasing: bytes[start..<(bytes.count - padding)])
    blockFlags = frame.flags
    if frame.has(FrameFlags.endHeaders) { return finish(frame.stream, fragment, &workspace, to: &out, now: now) }
    block.clear()
    block.writeBytes(fragment)
    blockStream = frame.stream
    continuations = 0
    headDeadline = min(headDeadline, now &+ limits.headTime)
    return nil
  }

  mutating func continuation(
    _ bytes: UnsafeRawBufferPointer, _ workspace: inout HTTP2Workspace, to out: inout ByteBuffer, now: UInt64
  ) -> HTTP2Event? {
    continuations += 1
    if continuations > limits.continuations { return fail(.tooManyContinuations, to: &out) }
    if block.readableBytes + bytes.count > limits.blockOctets { return fail(.blockTooLarge, to: &out) }
    block.writeBytes(bytes)
    guard frame.has(FrameFlags.endHeaders) else { return nil }
    let id = blockStream
    let whole = block
    block = ByteBuffer()
    blockStream = 0
    headDeadline = .max
    return whole.withUnsafeReadableBytes { finish(id, $0, &workspace, to: &out, now: now) }
  }

  /// What forbids HEADERS on the stream of this frame, whatever they say.
  private func headProblem() -> ConnectionProblem? {
    let id = frame.stream
    if streams.find(id) >= 0 { return nil }
    if role == .client {
      if isIdle(id) || id & 1 == 0 { return .idleStream }
      return resetStreams.contains(id) ? nil : .closedStream
    }
    if id & 1 == 0 { return .wrongStreamID }
    if id > lastPeerStream || resetStreams.contains(id) { return nil }
    return endedStreams.contains(id) ? .closedStream : .wrongStreamID
  }

  /// A whole field block. It is decoded whatever becomes of it, because the table has to follow.
  private mutating func finish(
    _ id: UInt32, _ fields: UnsafeRawBufferPointer, _ workspace: inout HTTP2Workspace, to out: inout ByteBuffer,
    now: UInt64
  ) -> HTTP2Event? {
    do {
      try decoder.decode(fields, into: &workspace.list)
    } catch {
      return fail(error == .listTooLarge ? .listTooLarge : .compression, to: &out)
    }
    let ends = blockFlags & FrameFlags.endStream != 0
    let slot = streams.find(id)
    if slot >= 0 {
      if streams.slots[slot].facts.contains(.remoteEnded) { return fail(slot, .streamClosed, to: &out, now: now) }
      if streams.slots[slot].facts.contains(.headReceived) {
        return trailers(slot, ends, &workspace, to: &out, now: now)
      }
      return response(slot, ends, &workspace, to: &out, now: now)
    }
    // Only a server gets here for a stream that is not one of those reset of late.
    if role == .client || id <= lastPeerStream {
      return spendIdleFrame(now: now) ? nil : fail(.tooManyFrames, to: &out)
    }
    lastPeerStream = id
    return request(id, ends, &workspace, to: &out, now: now)
  }

  private mutating func request(
    _ id: UInt32, _ ends: Bool, _ workspace: inout HTTP2Workspace, to out: inout ByteBuffer, now: UInt64
  ) -> HTTP2Event? {
    if closing == .final, id > goAwayLast {
      // The peer knows from GOAWAY that nobody looks at it.
      resetStreams.insert(id)
      return spendIdleFrame(now: now) ? nil : fail(.tooManyFrames, to: &out)
    }
    if streams.count >= limits.concurrentStreams {
      refuse(id, .refusedStream, to: &out)
      // Before it has seen our SETTINGS, a peer cannot know the limit.
      let affordable = settingsAcknowledged ? resets.spend(now: now) : spendIdleFrame(now: now)
      return affordable ? nil : fail(settingsAcknowledged ? .tooManyResets : .tooManyFrames, to: &out)
    }
    let context = RequestWriting.Context(
      endStream: ends, allowsExtendedConnect: limits.extendedConnect, webSocketKey: (nextRandom(), nextRandom()))
    let problem = RequestWriting.write(workspace.list, context, &workspace.facts, to: &workspace.head)
    if let problem, problem != .tooLarge {
      refuse(id, .protocolError, to: &out)
      return resets.spend(now: now) ? .rejected(problem) : fail(.tooManyResets, to: &out)
    }
    let slot = streams.insert(id)
    let facts = workspace.facts
    streams.slots[slot].facts = ends ? [.headReceived, .remoteEnded] : .headReceived
    if facts.isTunnel { streams.slots[slot].facts.insert(.isConnect) }
    if facts.isExtendedConnect { streams.slots[slot].facts.insert(.isExtendedConnect) }
    streams.slots[slot].sendWindow = peer.initialWindow
    streams.slots[slot].receiveWindow = streamReceiveWindow
    if let length = facts.contentLength { streams.slots[slot].bodyLeft = Int64(length) }
    idleFrames.refund(4 * FloodBudget.unit)
    return problem == nil ? .request(key(slot), endStream: ends) : .oversizedRequest(key(slot), endStream: ends)
  }

  /// Resets a stream that was never opened to the driver.
  private mutating func refuse(_ id: UInt32, _ code: ErrorCode, to out: inout ByteBuffer) {
    FrameWriter.resetStream(id, code, to: &out)
    resetStreams.insert(id)
  }

  private mutating func response(
    _ slot: Int, _ ends: Bool, _ workspace: inout HTTP2Workspace, to out: inout ByteBuffer, now: UInt64
  ) -> HTTP2Event? {
    let facts = streams.slots[slot].facts
    let context = ResponseWriting.Context(
      endStream: ends, answersHead: facts.contains(.answersHead), answersConnect: facts.contains(.isConnect),
      answersExtendedConnect: facts.contains(.isExtendedConnect))
    if ResponseWriting.write(workspace.list, context, &workspace.facts, to: &workspace.head) != nil {
      return fail(slot, .protocolError, to: &out, now: now)
    }
    let status = workspace.facts.status
    let key = key(slot)
    if status < 200 {
      // A server that sends them for ever is not answering.
      return spendIdleFrame(now: now) ? .informational(key) : fail(.tooManyFrames, to: &out)
    }
    streams.slots[slot].facts.insert(.headReceived)
    if facts.contains(.answersHead) || status == 204 || status == 304 {
      streams.slots[slot].bodyLeft = 0
    } else if let length = workspace.facts.contentLength {
      streams.slots[slot].bodyLeft = Int64(length)
    }
    idleFrames.refund(4 * FloodBudget.unit)
    if ends { endRemote(slot) }
    return .response(key, endStream: ends)
  }

  private mutating func trailers(
    _ slot: Int, _ ends: Bool, _ workspace: inout HTTP2Workspace, to out: inout ByteBuffer, now: UInt64
  ) -> HTTP2Event? {
    // A tunnel has DATA alone (RFC 9113 section 8.5).
    let isTunnel = streams.slots[slot].facts.contains(.isConnect)
    guard ends, streams.slots[slot].bodyLeft <= 0, !isTunnel,
      ResponseWriting.trailers(workspace.list, &workspace.facts, to: &workspace.head) == nil
    else { return fail(slot, .protocolError, to: &out, now: now) }
    let key = key(slot)
    endRemote(slot)
    return .trailers(key)
  }
}
