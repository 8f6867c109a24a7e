import Glibc
package import NIOCore

/// What was written and is not in the kernel yet.
struct OutputQueue {
  private struct Piece {
    var buffer: ByteBuffer
    var promise: EventLoopPromise<Void>?
  }

  private var pieces: ContiguousArray<Piece> = []
  /// Pieces before this one have gone.
  private var first = 0
  /// Pieces before this one were flushed.
  private var flushed = 0
  /// Octets, flushed or not.
  private(set) var octets = 0
  var high = 256 << 10
  var low = 128 << 10

  var isEmpty: Bool { first == pieces.count }
  var hasFlushed: Bool { first < flushed }

  mutating func add(_ buffer: ByteBuffer, _ promise: EventLoopPromise<Void>?) {
    octets += buffer.readableBytes
    pieces.append(Piece(buffer: buffer, promise: promise))
  }

  mutating func flush() { flushed = pieces.count }

  /// One system call's worth: the octets that went, or -1 and errno, of those that were offered.
  func send(to descriptor: CInt) -> (sent: Int, offered: Int) {
    let flags = CInt(MSG_NOSIGNAL)
    if flushed - first == 1 {
      return pieces[first].buffer.withUnsafeReadableBytes {
        $0.isEmpty ? (0, 0) : (Glibc.send(descriptor, $0.baseAddress, $0.count, flags), $0.count)
      }
    }
    let count = min(flushed - first, 64)
    return withUnsafeTemporaryAllocation(of: iovec.self, capacity: count) { vectors in
      var offered = 0
      for index in 0..<count {
        // The pieces keep their octets where they are until they have gone.
        pieces[first + index].buffer.withUnsafeReadableBytes {
          vectors[index] = iovec(iov_base: UnsafeMutableRawPointer(mutating: $0.baseAddress), iov_len: $0.count)
          offered += $0.count
        }
      }
      var message = msghdr()
      message.msg_iov = vectors.baseAddress
      message.msg_iovlen = count
      return (sendmsg(descriptor, &message, flags), offered)
    }
  }

  /// Takes away what has gone; the promises that are kept with it.
  mutating func sent(_ count: Int) -> [EventLoopPromise<Void>] {
    var kept: [EventLoopPromise<Void>] = []
    var left = count
    octets -= count
    while first < flushed {
      let size = pieces[first].buffer.readableBytes
      if size > left {
        pieces[first].buffer.moveReaderIndex(forwardBy: left)
        break
      }
      left -= size
      if let promise = pieces[first].promise { kept.append(promise) }
      pieces[first].buffer = Self.nothing
      pieces[first].promise = nil
      first += 1
    }
    if first == pieces.count {
      // An idle connection keeps no room but for a piece or two.
      pieces.removeAll(keepingCapacity: pieces.capacity <= 4)
      first = 0
      flushed = 0
    } else if first >= 256 {
      pieces.removeSubrange(..<first)
      flushed -= first
      first = 0
    }
    return kept
  }

  mutating func takeAll() -> [EventLoopPromise<Void>] {
    let promises = pieces[first...].compactMap(\.promise)
    pieces = []
    first = 0
    flushed = 0
    octets = 0
    return promises
  }

  private static let nothing = ByteBuffer()
}

extension StreamChannel {
  package func write0(_ data: NIOAny, promise: EventLoopPromise<Void>?) {
    guard state != .closed else {
      promise?.fail(ChannelError.ioOnClosedChannel)
      return
    }
    guard !outputEnded, !endsOutputSoon else {
      promise?.fail(ChannelError.outputClosed)
      return
    }
    output.add(unwrapData(data, as: ByteBuffer.self), promise)
    if output.octets > output.high, isWritable { noteWritability(false) }
  }

  package func flush0() {
    output.flush()
    guard !isBlocked, state == .active, !isFlushing, !waitsToWrite else { return }
    if output.octets >= Self.worthACall { return writeOut() }
    waitsToWrite = true
    loop.writeLater(self)
  }

  /// Octets that are worth a system call of their own.
  private static let worthACall = 32 << 10

  /// What was put off until now.
  func writeNow() {
    guard waitsToWrite else { return }
    waitsToWrite = false
    if !isBlocked, state == .active { writeOut() }
  }

  /// At most this many calls in a row, so that one connection does not hold the loop.
  private static let writesInTurn = 16

  func writeOut() {
    isFlushing = true
    var calls = 0
    while output.hasFlushed, state == .active {
      let (count, offered) = output.send(to: descriptor)
      if count >= 0 {
        for promise in output.sent(count) { promise.succeed(()) }
        if count < offered {
          // The kernel tells when there is room again.
          isBlocked = true
          break
        }
        calls += 1
        if calls == Self.writesInTurn, output.hasFlushed {
          // Goes on behind the others.
          isBlocked = true
          loop._executeIsolatedUnsafeUnchecked { [self] in
            isBlocked = false
            if state == .active { writeOut() }
          }
          break
        }
        continue
      }
      let code = errno
      if code == EINTR { continue }
      if code == EAGAIN || code == EWOULDBLOCK {
        isBlocked = true
        break
      }
      isFlushing = false
      // Reading tells the handlers more exactly what has happened, and what came before it.
      return writeFailed(code)
    }
    isFlushing = false
    guard state == .active else { return }
    if output.octets < output.low, !isWritable { noteWritability(true) }
    endOutputIfWritten()
  }

  private func writeFailed(_ code: CInt) {
    let error = IOError(errnoCode: code, reason: "write")
    if wantsRead, !inputEnded {
      isReadable = true
      readOn()
      guard state == .active else { return }
    }
    close0(error: error, mode: .all, promise: nil)
  }
}
