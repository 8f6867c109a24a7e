package import NIOCore

/// From octets to frames.
extension HTTP2Connection {
  /// Reads `input` up to the first thing that the driver has to know. To be called again until it says `needsInput`;
  /// what is then left in `input` is the beginning of a frame, at most 16 KiB and its header.
  package mutating func next(
    _ input: inout ByteBuffer, _ workspace: inout HTTP2Workspace, to out: inout ByteBuffer, now: UInt64
  ) -> HTTP2Event {
    if hasRefusals, let event = nextRefusal(to: &out) { return event }
    while true {
      switch stage {
      case .preface:
        if let event = readPreface(&input, to: &out) { return event }
        if stage == .preface { return .needsInput }
      case .header:
        guard input.readableBytes >= FrameHeader.count else { return .needsInput }
        frame = input.withUnsafeReadableBytes { FrameHeader($0) }
        if let problem = frame.problem() ?? orderProblem() { return fail(problem, to: &out) }
        input.moveReaderIndex(forwardBy: FrameHeader.count)
        if let event = begin(to: &out, now: now) { return event }
      case .payload:
        guard input.readableBytes >= frame.length else { return .needsInput }
        if frame.type == FrameType.data {
          if let event = readPaddedData(&input, to: &out, now: now) { return event }
          continue
        }
        stage = .header
        let event = input.withUnsafeReadableBytes { bytes in
          payload(UnsafeRawBufferPointer(rebasing: bytes[..<frame.length]), &workspace, to: &out, now: now)
        }
        input.moveReaderIndex(forwardBy: frame.length)
        if let event { return event }
      case .data:
        if payloadLeft > 0, input.readableBytes == 0 { return .needsInput }
        if let event = readData(&input) { return event }
      case .skipped:
        let count = min(payloadLeft, input.readableBytes)
        input.moveReaderIndex(forwardBy: count)
        payloadLeft &-= count
        if payloadLeft > 0 { return .needsInput }
        stage = .header
      case .over:
        input.moveReaderIndex(to: input.writerIndex)
        return .needsInput
      }
    }
  }

  private mutating func readPreface(_ input: inout ByteBuffer, to out: inout ByteBuffer) -> HTTP2Event? {
    switch input.withUnsafeReadableBytes({ HTTP2Preface.match($0) }) {
    case .no: return fail(.invalidPreface, to: &out)
    case .needsMore: return nil
    case .yes:
      input.moveReaderIndex(forwardBy: HTTP2Preface.count)
      stage = .header
      return nil
    }
  }

  /// What is wrong with a frame at this point of the connection.
  private func orderProblem() -> ConnectionProblem? {
    if blockStream != 0 {
      return frame.type == FrameType.continuation && frame.stream == blockStream ? nil : .interruptedBlock
    }
    if frame.type == FrameType.continuation { return .unexpectedContinuation }
    if settingsReceived { return nil }
    return frame.type == FrameType.settings && !frame.has(FrameFlags.acknowledge) ? nil : .settingsNotFirst
  }

  /// Decides what becomes of the payload whose header was read.
  private mutating func begin(to out: inout ByteBuffer, now: UInt64) -> HTTP2Event? {
    switch frame.type {
    case FrameType.data: return beginData(to: &out, now: now)
    case FrameType.headers, FrameType.continuation, FrameType.settings, FrameType.ping, FrameType.goAway,
      FrameType.windowUpdate, FrameType.resetStream:
      stage = .payload
    case FrameType.priority:
      guard spendIdleFrame(now: now) else { return fail(.tooManyFrames, to: &out) }
      if frame.length == 5 {
        stage = .payload
        return nil
      }
      payloadLeft = frame.length
      stage = .skipped
      let slot = streams.find(frame.stream)
      return slot < 0 ? fail(.frameSize, to: &out) : fail(slot, .frameSizeError, to: &out, now: now)
    default:
      // RFC 9113 section 5.5: an unknown type is ignored.
      guard spendIdleFrame(now: now) else { return fail(.tooManyFrames, to: &out) }
      payloadLeft = frame.length
      stage = .skipped
    }
    return nil
  }

  private mutating func payload(
    _ bytes: UnsafeRawBufferPointer, _ workspace: inout HTTP2Workspace, to out: inout ByteBuffer, now: UInt64
  ) -> HTTP2Event? {
    switch frame.type {
    case FrameType.headers: headers(bytes, &workspace, to: &out, now: now)
    case FrameType.continuation: continuation(bytes, &workspace, to: &out, now: now)
    case FrameType.settings: settings(bytes, to: &out, now: now)
    case FrameType.ping: ping(bytes, to: &out, now: now)
    case FrameType.goAway: goAway(bytes, to: &out, now: now)
    case FrameType.windowUpdate: windowUpdate(bytes, to: &out, now: now)
    case FrameType.resetStream: resetStream(bytes, to: &out, now: now)
    default: priority(bytes, to: &out)
    }
  }

  /// Notes a frame that carries nothing; false when there were too many.
  @inline(__always)
  mutating func spendIdleFrame(_ frames: Int = 1, now: UInt64) -> Bool {
    idleFrames.spend(Int64(frames) * FloodBudget.unit, now: now)
  }
}

/// The client's connection preface, by which HTTP/2 is told from HTTP/1 on one port (RFC 9113 section 3.4).
package enum HTTP2Preface {
  package enum Match: Sendable { case yes, no, needsMore }

  /// Octets of the preface.
  package static let count = 24

  /// Whether `bytes` begin with it. No HTTP/1 request does: its method PRI is reserved.
  package static func match(_ bytes: UnsafeRawBufferPointer) -> Match {
    let expected = FrameWriter.preface
    for index in 0..<min(bytes.count, count) where bytes[index] != expected.utf8Start[index] { return .no }
    return bytes.count < count ? .needsMore : .yes
  }
}

extension UnsafeRawBufferPointer {
  /// A 32-bit number in network order at this offset.
  @inline(__always)
  func number(at offset: Int) -> UInt32 { UInt32(bigEndian: loadUnaligned(fromByteOffset: offset, as: UInt32.self)) }
}
