import CLinux
import Glibc
package import NIOCore
import Synchronization

/// One connected stream socket under a pipeline: reads when it is asked to and there is something, writes at once what
/// is flushed, and keeps what the kernel does not take. Its octets are `ByteBuffer`s.
///
/// `@unchecked Sendable`: everything mutable is touched on the loop's thread only; what others may ask (`isWritable`,
/// `isActive`, the addresses) is atomic or set before the channel is known to anybody.
package final class StreamChannel: Channel, ChannelCore, EpollSocket, @unchecked Sendable {
  enum State {
    /// Made; nothing was told to the pipeline. Next: connecting, active, closed.
    case fresh
    /// `connect` is under way. Next: active, closed.
    case connecting
    /// Octets flow. Next: closed.
    case active
    /// The descriptor is gone.
    case closed
  }

  let loop: EpollLoop
  package let allocator = ByteBufferAllocator()
  private var pipelineCell: ChannelPipeline?
  private let closing: EventLoopPromise<Void>

  var state = State.fresh
  var descriptor: CInt
  private let activity = Atomic(false)
  private let writability = Atomic(true)

  // Reading.
  var readsByItself = true
  var allowsHalfClosure = false
  /// Somebody wants octets.
  var wantsRead = false
  /// The kernel may have some.
  var isReadable = false
  /// The peer has ended its direction, or the connection is broken: reading shows which.
  var endIsNear = false
  var inputEnded = false
  var receiveSize = ReceiveBuffers.least
  private var waitsForTurn = false

  // Writing.
  var output = OutputQueue()
  /// The kernel has taken all it can.
  var isBlocked = false
  var outputEnded = false
  /// Ends our direction once everything is written.
  var endsOutput: EventLoopPromise<Void>?
  var endsOutputSoon = false
  var isFlushing = false
  /// At the end of this turn.
  var waitsToWrite = false

  // Connecting.
  var connected: EventLoopPromise<Void>?
  var connectTimer: TimerHeap.Timer?

  package private(set) var localAddress: SocketAddress?
  package private(set) var remoteAddress: SocketAddress?

  /// Takes ownership of the descriptor, which does not block.
  init(_ loop: EpollLoop, _ descriptor: CInt, watermark: Int) {
    self.loop = loop
    self.descriptor = descriptor
    closing = loop.makePromise()
    output.high = watermark
    output.low = max(1, watermark / 2)
    pipelineCell = ChannelPipeline(channel: self)
  }

  // MARK: Channel

  package var eventLoop: any EventLoop { loop }
  package var closeFuture: EventLoopFuture<Void> { closing.futureResult }
  package var parent: (any Channel)? { nil }
  package var _channelCore: any ChannelCore { self }
  package var isActive: Bool { activity.load(ordering: .relaxed) }
  package var isWritable: Bool { writability.load(ordering: .relaxed) }
  /// Made with the channel and never replaced.
  package var pipeline: ChannelPipeline { pipelineCell.unsafelyUnwrapped }
  @inline(__always) var events: ChannelPipeline.SynchronousOperations { pipeline.syncOperations }

  package func localAddress0() throws -> SocketAddress {
    guard let localAddress else { throw ChannelError.unknownLocalAddress }
    return localAddress
  }

  package func remoteAddress0() throws -> SocketAddress {
    guard let remoteAddress else { throw ChannelError.operationUnsupported }
    return remoteAddress
  }

  package func register0(promise: EventLoopPromise<Void>?) { promise?.fail(ChannelError.operationUnsupported) }
  package func registerAlreadyConfigured0(promise: EventLoopPromise<Void>?) {
    promise?.fail(ChannelError.operationUnsupported)
  }
  package func bind0(to: SocketAddress, promise: EventLoopPromise<Void>?) {
    promise?.fail(ChannelError.operationUnsupported)
  }
  package func connect0(to: SocketAddress, promise: EventLoopPromise<Void>?) {
    promise?.fail(ChannelError.operationUnsupported)
  }
  package func triggerUserOutboundEvent0(_ event: Any, promise: EventLoopPromise<Void>?) {
    promise?.fail(ChannelError.operationUnsupported)
  }
  package func channelRead0(_ data: NIOAny) {}
  package func errorCaught0(error: any Error) {}

  // MARK: Beginning

  /// The connection stands: tells who waits for it and the pipeline, and begins to read.
  func activate(_ waiting: EventLoopPromise<Void>? = nil) {
    state = .active
    activity.store(true, ordering: .relaxed)
    waiting?.succeed(())
    guard state == .active else { return }
    events.fireChannelActive()
    readIfWanted()
  }

  func learnAddresses() {
    localAddress = SocketAddress.of(descriptor, getsockname)
    remoteAddress = SocketAddress.of(descriptor, getpeername)
  }

  // MARK: Events

  func ready(_ happened: EpollEvents) {
    if state == .connecting { return connectEnded(happened) }
    guard state == .active else { return }
    if !happened.isDisjoint(with: [.inputEnded, .hangUp, .error]) { endIsNear = true }
    // What waits to be written goes first: it may be what the peer waits for.
    if happened.contains(.output), isBlocked {
      isBlocked = false
      writeOut()
      guard state == .active else { return }
    }
    if !happened.isDisjoint(with: [.input, .inputEnded, .hangUp, .error]) {
      isReadable = true
      if wantsRead { readNow() }
    }
    // Nobody reads, and nothing can be written any more: whoever waits should know.
    if happened.contains(.error), state == .active, !wantsRead { failWithSocketError() }
  }

  private func failWithSocketError() {
    var code: CInt = 0
    var size = socklen_t(MemoryLayout<CInt>.size)
    guard getsockopt(descriptor, SOL_SOCKET, SO_ERROR, &code, &size) == 0, code != 0 else { return }
    let error = IOError(errnoCode: code, reason: "connection reset")
    events.fireErrorCaught(error)
    close0(error: error, mode: .all, promise: nil)
  }

  // MARK: Reading

  package func read0() {
    wantsRead = true
    if isReadable, state == .active, !waitsForTurn {
      // Not here: whoever asks is in the middle of something.
      waitsForTurn = true
      loop.readOn(self)
    }
  }

  func readOn() {
    waitsForTurn = false
    if wantsRead, isReadable, state == .active { readNow() }
  }

  func readIfWanted() { if readsByItself, state == .active, !inputEnded { events.read() } }

  /// At most this many reads in a turn of the loop.
  private static let readsInTurn = 4

  private func readNow() {
    guard !inputEnded else { return }
    var reads = 0
    // As one turn: with its end the handlers flush what they gathered.
    while reads < Self.readsInTurn {
      var count = 0
      var code: CInt = 0
      let buffer = loop.receiving.fill(receiveSize) { room in
        repeat { count = recv(descriptor, room, receiveSize, 0) } while count < 0 && errno == EINTR
        if count < 0 { code = errno }
        return max(0, count)
      }
      if count > 0 {
        reads += 1
        wantsRead = false
        let isFull = count == receiveSize
        adapt(count)
        events.fireChannelRead(NIOAny(buffer))
        guard state == .active else { return }
        if isFull { continue }
        // A stream socket that gave less than it could has no more, but for its end.
        if !endIsNear { isReadable = false }
        break
      }
      if code == EAGAIN {
        isReadable = false
        break
      }
      return count == 0 ? inputHasEnded() : broken(code)
    }
    if reads > 0 { events.fireChannelReadComplete() }
    if state == .active { readIfWanted() }
  }

  private func adapt(_ count: Int) {
    if count == receiveSize {
      if receiveSize < ReceiveBuffers.most { receiveSize *= 2 }
    } else if count < receiveSize / 4, receiveSize > ReceiveBuffers.least {
      receiveSize /= 2
    }
  }

  private func inputHasEnded() {
    inputEnded = true
    isReadable = false
    wantsRead = false
    events.fireChannelReadComplete()
    guard state == .active else { return }
    if allowsHalfClosure, !outputEnded {
      events.fireUserInboundEventTriggered(ChannelEvent.inputClosed)
    } else {
      close0(error: ChannelError.eof, mode: .all, promise: nil)
    }
  }

  private func broken(_ code: CInt) {
    let error = IOError(errnoCode: code, reason: "read")
    events.fireErrorCaught(error)
    close0(error: error, mode: .all, promise: nil)
  }

  // MARK: Ending

  package func close0(error: any Error, mode: CloseMode, promise: EventLoopPromise<Void>?) {
    guard state != .closed else { return promise.fail(ChannelError.alreadyClosed) }
    switch mode {
    case .all: closeAll(error, promise)
    case .input:
      if outputEnded { return closeAll(error, promise) }
      guard !inputEnded else { return promise.fail(ChannelError.inputClosed) }
      inputEnded = true
      shutdown(descriptor, CInt(SHUT_RD))
      promise?.succeed(())
      events.fireUserInboundEventTriggered(ChannelEvent.inputClosed)
    case .output:
      guard !outputEnded, !endsOutputSoon else { return promise.fail(ChannelError.outputClosed) }
      if inputEnded { return closeAll(error, promise) }
      endsOutputSoon = true
      endsOutput = promise
      endOutputIfWritten()
    }
  }

  /// Once everything that was written before has gone.
  func endOutputIfWritten() {
    guard endsOutputSoon, !outputEnded, output.isEmpty, state == .active else { return }
    outputEnded = true
    shutdown(descriptor, CInt(SHUT_WR))
    let promise = endsOutput
    endsOutput = nil
    promise?.succeed(())
    events.fireUserInboundEventTriggered(ChannelEvent.outputClosed)
  }

  func closeNow() { close0(error: ChannelError.eof, mode: .all, promise: nil) }

  private func closeAll(_ error: any Error, _ promise: EventLoopPromise<Void>?) {
    // What was flushed before is before this.
    if waitsToWrite { writeNow() }
    guard state != .closed else { return promise.fail(ChannelError.alreadyClosed) }
    let wasActive = state == .active
    loop.forget(self, descriptor, hasCopies: false)
    Glibc.close(descriptor)
    descriptor = -1
    state = .closed
    activity.store(false, ordering: .relaxed)
    connectTimer?.drop()
    connectTimer = nil
    for waiting in output.takeAll() { waiting.fail(error) }
    let ending = endsOutput
    endsOutput = nil
    ending?.fail(error)
    let connecting = connected
    connected = nil
    connecting?.fail(error)
    promise?.succeed(())
    if wasActive { events.fireChannelInactive() }
    events.fireChannelUnregistered()
    // Later: somebody may still be on the way through the pipeline.
    loop._executeIsolatedUnsafeUnchecked { [self] in
      removeHandlers(pipeline: pipeline)
      closing.succeed(())
    }
  }

  func noteWritability(_ writable: Bool) {
    writability.store(writable, ordering: .relaxed)
    events.fireChannelWritabilityChanged()
  }
}

extension Optional where Wrapped == EventLoopPromise<Void> {
  fileprivate func fail(_ error: any Error) { self?.fail(error) }
}

extension SocketAddress {
  /// What `getsockname` or `getpeername` tells; nil when the kernel has no address, or one of another family.
  static func of(
    _ descriptor: CInt, _ ask: (CInt, UnsafeMutablePointer<sockaddr>?, UnsafeMutablePointer<socklen_t>?) -> CInt
  ) -> SocketAddress? {
    var storage = sockaddr_storage()
    var size = socklen_t(MemoryLayout<sockaddr_storage>.size)
    return withUnsafeMutablePointer(to: &storage) { pointer in
      pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { address in
        guard ask(descriptor, address, &size) == 0 else { return nil }
        switch CInt(address.pointee.sa_family) {
        case AF_INET:
          return address.withMemoryRebound(to: sockaddr_in.self, capacity: 1) { SocketAddress($0.pointee) }
        case AF_INET6:
          return address.withMemoryRebound(to: sockaddr_in6.self, capacity: 1) { SocketAddress($0.pointee) }
        case AF_UNIX:
          return address.withMemoryRebound(to: sockaddr_un.self, capacity: 1) { SocketAddress($0.pointee) }
        default: return nil
        }
      }
    }
  }
}
