package import NIOCore

/// One HTTP/2 connection as either end (RFC 9113), over bytes.
///
/// The driver hands in what it received and gets one event after another (`next`); whatever there is to send is
/// appended to the buffer it passes along. Heads come and go in HTTP/1.1 form. Times are nanoseconds of one clock
/// that does not go back.
///
/// What a peer can make it hold is bounded: the open streams, one field block, one frame that is not DATA, and the
/// identifiers of streams reset of late. The driver bounds the rest by not calling `next` while its own output waits.
package struct HTTP2Connection: ~Copyable {
  /// What the octets that come next are.
  enum Stage: Sendable {
    /// The client's preface (server). Next: header.
    case preface
    /// Nine octets of a frame's header. Next: any but preface.
    case header
    /// The payload of a frame that is dealt with as a whole. Next: header, over.
    case payload
    /// Content of an unpadded DATA frame, handed on as it comes. Next: header.
    case data
    /// A payload that is dropped. Next: header.
    case skipped
    /// The connection has failed; nothing is read any more.
    case over
  }

  /// How far a graceful end is.
  enum Closing: Sendable {
    /// Streams are opened as they come. Next: announced, final.
    case no
    /// GOAWAY with the highest identifier was sent, so that streams under way are still taken. Next: final.
    case announced
    /// GOAWAY with the last identifier that counts was sent. Streams after it are dropped.
    case final
  }

  package let role: HTTP2Role
  package let limits: HTTP2Limits
  /// Why the connection failed; nil while it has not.
  package internal(set) var problem: ConnectionProblem?

  var decoder: HPACKDecoder
  var encoder: HPACKEncoder
  var streams = StreamTable()
  var peer = PeerSettings()

  var stage: Stage
  var frame = FrameHeader(length: 0, type: 0, flags: 0, stream: 0)
  /// Content and octets to drop that are still to come of the frame in progress.
  var payloadLeft = 0
  var dataKey = StreamKey(id: 0, slot: -1)
  /// A field block that spans frames: its stream (0 = none), what it has so far, and how many frames followed.
  var blockStream: UInt32 = 0
  var blockFlags: UInt8 = 0
  var block = ByteBuffer()
  var continuations = 0

  var sendWindow = 65_535
  var receiveWindow = 65_535
  /// What a new stream may receive: our initial window once it was acknowledged.
  var streamReceiveWindow = 65_535
  /// Octets that were drained and not credited yet, and those of ended streams that were not drained yet.
  var credit = 0
  var orphaned = 0
  var blockedCount = 0
  var writableCursor = 0

  /// The highest stream that the peer opened, and the next one that we open.
  var lastPeerStream: UInt32 = 0
  var nextStream: UInt32 = 1
  var resetStreams = RecentStreams(limit: 128)
  var endedStreams = RecentStreams(limit: 16)

  var settingsReceived = false
  var settingsAcknowledged = false
  var closing = Closing.no
  var goAwayLast: UInt32 = 0x7FFF_FFFF
  /// The last of our streams that the peer's GOAWAY lets live; nil = it sent none.
  var peerGoAwayLast: UInt32?
  /// A GOAWAY refused streams that the driver has not heard of yet.
  var hasRefusals = false

  var idleFrames: FloodBudget
  var resets: FloodBudget
  /// Deadlines; `.max` = none.
  var headDeadline = UInt64.max
  var settingsDeadline = UInt64.max
  var goAwayDeadline = UInt64.max
  var stallDeadline = UInt64.max

  /// Random bits for WebSocket keys, used up step by step.
  var random: UInt64

  /// The PING that goes with the first GOAWAY of a graceful end.
  static let closingPing: UInt64 = 0x6F75_7472_6964_6572

  /// `random`: 64 bits that a peer cannot guess.
  package init(_ role: HTTP2Role, limits: HTTP2Limits = HTTP2Limits(), random: UInt64) {
    self.role = role
    self.limits = limits
    self.random = random
    stage = role == .server ? .preface : .header
    decoder = HPACKDecoder()
    encoder = HPACKEncoder(ceiling: limits.encoderTable)
    idleFrames = FloodBudget(capacity: limits.idleFrames, perSecond: limits.idleFramesPerSecond)
    resets = FloodBudget(capacity: limits.resets, perSecond: limits.resetsPerSecond)
  }

  /// Writes our part of the preface (RFC 9113 section 3.4). Once, before anything else. `listOctets` is the
  /// workspace's limit.
  package mutating func start(listOctets: Int = 64 << 10, to out: inout ByteBuffer, now: UInt64) {
    if role == .client { out.writeStaticString(FrameWriter.preface) }
    var count = 3
    if limits.decoderTable != 4096 { count += 1 }
    let offersConnect = role == .server && limits.extendedConnect
    if offersConnect { count += 1 }
    FrameWriter.header(6 * count, FrameType.settings, FrameFlags.none, 0, to: &out)
    if role == .client {
      PeerSettings.write(PeerSettings.Identifier.enablePush, 0, to: &out)
    } else {
      PeerSettings.write(PeerSettings.Identifier.maxConcurrentStreams, limits.concurrentStreams, to: &out)
    }
    PeerSettings.write(PeerSettings.Identifier.initialWindowSize, limits.streamWindow, to: &out)
    PeerSettings.write(PeerSettings.Identifier.maxHeaderListSize, listOctets, to: &out)
    if limits.decoderTable != 4096 {
      PeerSettings.write(PeerSettings.Identifier.headerTableSize, limits.decoderTable, to: &out)
    }
    if offersConnect { PeerSettings.write(PeerSettings.Identifier.enableConnectProtocol, 1, to: &out) }
    if limits.connectionWindow > receiveWindow {
      FrameWriter.windowUpdate(0, limits.connectionWindow - receiveWindow, to: &out)
      receiveWindow = limits.connectionWindow
    }
    headDeadline = now &+ limits.headTime
    settingsDeadline = now &+ limits.settingsTime
  }

  /// Streams that are open.
  package var openStreams: Int { streams.count }

  /// The peer has sent its part of the preface.
  package var isEstablished: Bool { settingsReceived }

  /// True while the stream is open. A key of a closed one is never taken for another stream.
  @inline(__always)
  package func isOpen(_ key: StreamKey) -> Bool { live(key) >= 0 }

  @inline(__always)
  func live(_ key: StreamKey) -> Int {
    let slot = Int(key.slot)
    guard slot >= 0, slot < streams.slots.count, streams.slots[slot].id == key.id else { return -1 }
    return slot
  }

  @inline(__always)
  func key(_ slot: Int) -> StreamKey { StreamKey(id: streams.slots[slot].id, slot: Int32(truncatingIfNeeded: slot)) }

  /// Whether a stream is idle (RFC 9113 section 5.1): neither side has opened it or a later one.
  func isIdle(_ id: UInt32) -> Bool {
    let isPeers = id & 1 == (role == .server ? 1 : 0)
    return isPeers ? id > lastPeerStream : role == .server || id >= nextStream
  }

  /// Ends the connection (RFC 9113 section 5.4.1).
  mutating func fail(_ problem: ConnectionProblem, to out: inout ByteBuffer) -> HTTP2Event {
    self.problem = problem
    stage = .over
    // Every key is stale from here on.
    streams = StreamTable()
    blockedCount = 0
    FrameWriter.goAway(last: min(lastPeerStream, goAwayLast), problem.code, problem.reason, to: &out)
    closing = .final
    headDeadline = .max
    settingsDeadline = .max
    goAwayDeadline = .max
    stallDeadline = .max
    return .failed
  }

  /// Ends a stream because of what the peer sent (RFC 9113 section 5.4.2).
  mutating func fail(_ slot: Int, _ code: ErrorCode, to out: inout ByteBuffer, now: UInt64) -> HTTP2Event {
    let key = key(slot)
    FrameWriter.resetStream(key.id, code, to: &out)
    resetStreams.insert(key.id)
    release(slot, to: &out)
    if !resets.spend(now: now) { return fail(.tooManyResets, to: &out) }
    return .reset(key, code, byPeer: false)
  }

  /// Closes a stream that did not end well. What it held counts as drained.
  mutating func release(_ slot: Int, to out: inout ByteBuffer) {
    credit &+= streams.slots[slot].held
    forget(slot)
    flushCredit(to: &out)
  }

  /// Closes a stream that both sides have ended. What it holds is still to be drained.
  mutating func complete(_ slot: Int) {
    orphaned &+= streams.slots[slot].held
    endedStreams.insert(streams.slots[slot].id)
    resets.refund(2)
    forget(slot)
  }

  private mutating func forget(_ slot: Int) {
    if streams.slots[slot].facts.contains(.isBlocked) { blockedCount &-= 1 }
    streams.remove(slot)
  }

  /// A fresh 64 bits (SplitMix64).
  mutating func nextRandom() -> UInt64 {
    random &+= 0x9E37_79B9_7F4A_7C15
    var mixed = random
    mixed = (mixed ^ mixed >> 30) &* 0xBF58_476D_1CE4_E5B9
    mixed = (mixed ^ mixed >> 27) &* 0x94D0_49BB_1331_11EB
    return mixed ^ mixed >> 31
  }
}
