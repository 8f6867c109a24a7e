package import NIOCore

/// Graceful ends and deadlines.
extension HTTP2Connection {
  /// Begins a graceful end (RFC 9113 section 6.8): streams that the peer has under way are still taken, until it
  /// answers a PING or `goAwayTime` is over. Open streams go on. `isDrained` tells when the connection can be closed.
  package mutating func drain(to out: inout ByteBuffer, now: UInt64) {
    guard closing == .no, stage != .over else { return }
    if role == .client {
      closing = .final
      goAwayLast = 0
      FrameWriter.goAway(last: 0, .noError, to: &out)
      return
    }
    closing = .announced
    goAwayDeadline = now &+ limits.goAwayTime
    FrameWriter.goAway(last: 0x7FFF_FFFF, .noError, to: &out)
    FrameWriter.ping(Self.closingPing, acknowledges: false, to: &out)
  }

  /// Names the last stream that counts.
  mutating func finishClosing(to out: inout ByteBuffer) {
    closing = .final
    goAwayDeadline = .max
    goAwayLast = lastPeerStream
    FrameWriter.goAway(last: lastPeerStream, .noError, to: &out)
  }

  /// True when one side wants no more streams and none is open.
  package var isDrained: Bool { streams.count == 0 && (closing == .final || peerGoAwayLast != nil) }

  /// Sends a PING; `pong` reports the answer. `data` is the driver's.
  package func ping(_ data: UInt64, to out: inout ByteBuffer) {
    FrameWriter.ping(data, acknowledges: false, to: &out)
  }

  /// When `tick` has something to do at the latest; `.max` = never. Changes with every call.
  package var deadline: UInt64 { min(min(headDeadline, settingsDeadline), min(goAwayDeadline, stallDeadline)) }

  /// Does what is due. To be called again until it says `needsInput`.
  package mutating func tick(to out: inout ByteBuffer, now: UInt64) -> HTTP2Event {
    if now >= headDeadline { return fail(.headTimeout, to: &out) }
    if now >= settingsDeadline { return fail(.settingsTimeout, to: &out) }
    if now >= goAwayDeadline { finishClosing(to: &out) }
    return now >= stallDeadline ? nextStall(now: now) : .needsInput
  }

  /// Finds a stream that has waited too long, and else when the next one will have.
  private mutating func nextStall(now: UInt64) -> HTTP2Event {
    stallDeadline = .max
    for slot in streams.slots.indices where streams.slots[slot].id != 0 {
      let stream = streams.slots[slot]
      guard stream.facts.contains(.isBlocked), !stream.facts.contains(.isStalled) else { continue }
      let due = stream.blockedSince &+ limits.stallTime
      if now >= due {
        streams.slots[slot].facts.insert(.isStalled)
        // Others may be due as well.
        stallDeadline = now
        return .stalled(key(slot))
      }
      stallDeadline = min(stallDeadline, due)
    }
    return .needsInput
  }
}
