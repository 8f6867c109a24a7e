import HTTP2
import NIOCore
import Synchronization
import Telemetry
import Traffic
import Vocabulary

/// An accepted HTTP/2 connection: its streams are exchanges.
final class HTTP2Downstream: HTTP2Handler {
  let listener: LoopListener
  let session: TLSSession?
  let accept: AcceptState
  private(set) var clientAddress: [UInt8] = []
  /// By slot; the objects serve one stream after another.
  private var streams = ContiguousArray<DownstreamStream?>()
  private var idleSince: UInt64 = 0

  init(loop: LoopState, listener: LoopListener, session: TLSSession?, accept: AcceptState) {
    self.listener = listener
    self.session = session
    self.accept = accept
    super.init(.server, loop, limits: loop.downstreamLimits)
  }

  /// Nothing is on its way out.
  var isSettled: Bool { connection.openStreams == 0 && !isClosed }

  override var holdsInput: Bool { !isSocketWritable }

  override func opened(_ context: ChannelHandlerContext, _ now: UInt64) {
    loop.multiplexed[ObjectIdentifier(self)] = self
    if !accept.isCounted { listener.connectionsTotal.addAsOwner() }
    listener.connectionsActive.add(1)
    listener.open.count.wrappingAdd(1, ordering: .relaxed)
    clientAddress = accept.client(of: context.channel)
    idleSince = now
  }

  override func lost(_ now: UInt64) {
    guard loop.multiplexed.removeValue(forKey: ObjectIdentifier(self)) != nil else { return }
    listener.connectionsActive.add(-1)
    listener.open.count.wrappingSubtract(1, ordering: .relaxed)
    if let problem = connection.problem { listener.violations.count("\(problem.reason)", loop, listener.compiled.name) }
    for stream in streams { stream?.clientLost(now) }
  }

  override func writabilityChanged() {
    for stream in streams { stream?.updateWritability() }
  }

  override func ownDeadline(_ now: UInt64) -> UInt64 {
    connection.openStreams == 0 ? idleSince &+ idleLimit : .max
  }

  private var idleLimit: UInt64 {
    listener.isLeaving ? min(5_000_000_000, listener.compiled.downstreamIdle) : listener.compiled.downstreamIdle
  }

  override func ownDeadlinePassed(_ now: UInt64) {
    connection.drain(to: &out, now: now)
    // An idle client that does not answer is not waited for any longer.
    flushNow()
    end(now)
  }

  override func becameIdle(_ now: UInt64) { idleSince = now }

  override func burstEnded(_ now: UInt64) {
    if listener.isDraining(loop.shared) { connection.drain(to: &out, now: now) }
  }

  override func handle(_ event: HTTP2Event, _ now: UInt64) {
    switch event {
    case .request(let key, let ends):
      take(key).begin(key, loop.workspace.head, loop.workspace.facts, ends, loop.turnBegan)
    case .oversizedRequest(let key, let ends): take(key).refuseOversized(key, ends, now)
    case .data(let key, let count, let ends):
      if let slice = input.readSlice(length: count) { stream(key)?.receive(slice, ends: ends, now) }
    case .trailers(let key): stream(key)?.receiveTrailers(loop.workspace.head, now)
    case .reset(let key, _, _): stream(key)?.clientLost(now)
    case .stalled(let key): stream(key)?.stalled()
    case .settings, .writable:
      while let key = connection.nextWritable() { stream(key)?.resumeSending() }
    case .rejected: listener.noRoute.count(status: 400, blame: .client)
    case .needsInput, .informational, .response, .pong, .goAway, .failed: break
    }
  }

  /// The object for a new stream.
  private func take(_ key: StreamKey) -> DownstreamStream {
    let slot = Int(key.slot)
    while streams.count <= slot { streams.append(nil) }
    if let stream = streams[slot] { return stream }
    let stream = DownstreamStream(self)
    streams[slot] = stream
    return stream
  }

  private func stream(_ key: StreamKey) -> DownstreamStream? {
    let slot = Int(key.slot)
    guard slot < streams.count, let stream = streams[slot], stream.key == key else { return nil }
    return stream
  }
}
