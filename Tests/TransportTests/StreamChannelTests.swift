import Glibc
import NIOCore
import Synchronization
import Testing

@testable import Transport

/// Real sockets on loopback, with a plain blocking one on the other side.
@Suite(.timeLimit(.minutes(1))) struct StreamChannelTests {
  @Test func whatIsWrittenInATurnGoesOutInOrder() async throws {
    let loop = try EpollLoop()
    let (ours, theirs) = try pair()
    let channel = try await adopt(loop, ours)
    try await loop.submit {
      for index in 0..<300 { channel.write(ByteBuffer(string: "\(index) "), promise: nil) }
      channel.flush()
      channel.close(promise: nil)
    }.get()
    #expect(readToEnd(theirs) == (0..<300).map { "\($0) " }.joined())
    close(theirs)
    await loop.shutdown()
  }

  @Test func nothingIsLostWhenThePeerIsSlow() async throws {
    let loop = try EpollLoop()
    let (ours, theirs) = try pair()
    let channel = try await adopt(loop, ours, watermark: 64 << 10)
    let octets = (0..<4 << 20).map { UInt8(truncatingIfNeeded: $0 &* 31 >> 3) }
    let done = loop.makePromise(of: Void.self)
    try await loop.submit {
      channel.writeAndFlush(ByteBuffer(bytes: octets), promise: done)
      #expect(!channel.isWritable)
      channel.close(mode: .output, promise: nil)
    }.get()
    #expect(Array(readOctets(theirs)) == octets)
    try await done.futureResult.get()
    #expect(channel.isWritable)
    close(theirs)
    await loop.shutdown()
  }

  @Test(arguments: [1, 2048, 100_000, 3_000_000]) func itReadsToTheEnd(count: Int) async throws {
    let loop = try EpollLoop()
    let (ours, theirs) = try pair()
    let collector = Collector()
    let channel = try await adopt(loop, ours, collector)
    let octets = (0..<count).map { UInt8(truncatingIfNeeded: $0 &* 7 >> 2) }
    writeAll(theirs, octets)
    close(theirs)
    try await channel.closeFuture.get()
    #expect(collector.octets.withLock { $0 } == octets)
    #expect(collector.events.withLock { $0 }.last == "inactive")
    await loop.shutdown()
  }

  @Test func aHalfClosedPeerIsAnsweredStill() async throws {
    let loop = try EpollLoop()
    let (ours, theirs) = try pair()
    let collector = Collector()
    let channel = try await adopt(loop, ours, collector) {
      try $0.syncOptions?.setOption(.allowRemoteHalfClosure, value: true)
    }
    writeAll(theirs, Array("question".utf8))
    shutdown(theirs, CInt(SHUT_WR))
    try await collector.wait("inputClosed")
    #expect(channel.isActive)
    try await channel.writeAndFlush(ByteBuffer(string: "answer")).get()
    try await channel.close().get()
    #expect(readToEnd(theirs) == "answer")
    close(theirs)
    await loop.shutdown()
  }

  @Test func whoeverDoesNotReadIsNotFlooded() async throws {
    let loop = try EpollLoop()
    let (ours, theirs) = try pair()
    let collector = Collector()
    let channel = try await adopt(loop, ours, collector) { try $0.syncOptions?.setOption(.autoRead, value: false) }
    writeAll(theirs, Array("abc".utf8))
    // Both have passed the loop.
    for _ in 0..<3 { try await loop.submit {}.get() }
    #expect(collector.octets.withLock { $0 }.isEmpty)
    try await loop.submit { channel.read() }.get()
    try await collector.wait("read")
    #expect(collector.octets.withLock { $0 } == Array("abc".utf8))
    close(theirs)
    try await channel.close().get()
    await loop.shutdown()
  }

  @Test func aResetIsAnErrorAndThenTheEnd() async throws {
    let loop = try EpollLoop()
    let (listening, address) = try listen()
    let collector = Collector()
    let connecting = loop.flatSubmit { connect(loop, address, collector) }
    let accepted = accept(listening, nil, nil)
    let channel = try await connecting.get()
    var reset = linger(l_onoff: 1, l_linger: 0)
    setsockopt(accepted, SOL_SOCKET, SO_LINGER, &reset, socklen_t(MemoryLayout<linger>.size))
    close(accepted)
    try await channel.closeFuture.get()
    #expect(collector.events.withLock { $0 }.suffix(2) == ["error", "inactive"])
    close(listening)
    await loop.shutdown()
  }

  @Test func aRefusedConnectionSaysSo() async throws {
    let loop = try EpollLoop()
    let (listening, address) = try listen()
    close(listening)
    let error = await #expect(throws: IOError.self) {
      _ = try await loop.flatSubmit { connect(loop, address, Collector()) }.get()
    }
    #expect(error?.errnoCode == ECONNREFUSED)
    await loop.shutdown()
  }

  @Test func tasksAndTimersRunInOrderAndTheLoopEnds() async throws {
    let loop = try EpollLoop()
    let seen = Mutex<[Int]>([])
    let last = loop.scheduleTask(in: .milliseconds(2)) { seen.withLock { $0.append(3) } }
    let failed = Mutex(false)
    loop.scheduleTask(in: .hours(1)) {}.futureResult.whenFailure { _ in failed.withLock { $0 = true } }
    loop.execute {
      seen.withLock { $0.append(1) }
      loop.execute { seen.withLock { $0.append(2) } }
    }
    try await last.futureResult.get()
    #expect(seen.withLock { $0 } == [1, 2, 3])
    await loop.shutdown()
    #expect(failed.withLock { $0 })
  }

  @Test func aListenerSharesOutWhatItAccepts() async throws {
    let loops = [try EpollLoop(), try EpollLoop()]
    let (listening, address) = try listen()
    let counts = Mutex([0, 0])
    let socket = try await ListeningSocket.open(listening, on: loops) { _ in
    } accept: { loop, descriptor in
      counts.withLock { $0[loop === loops[0] ? 0 : 1] += 1 }
      close(descriptor)
    }
    for _ in 0..<20 {
      let client = Glibc.socket(AF_INET, CInt(SOCK_STREAM.rawValue), 0)
      #expect(address.withSockAddr { Glibc.connect(client, $0, socklen_t($1)) } == 0)
      #expect(readToEnd(client) == "")
      close(client)
    }
    #expect(counts.withLock { $0 } == [10, 10])
    await socket.pause()
    await socket.close()
    for loop in loops { await loop.shutdown() }
  }
}

/// What happens on a channel.
private final class Collector: ChannelInboundHandler, Sendable {
  typealias InboundIn = ByteBuffer
  let octets = Mutex<[UInt8]>([])
  let events = Mutex<[String]>([])

  private func note(_ event: String) { events.withLock { $0.append(event) } }

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    let buffer = unwrapInboundIn(data)
    octets.withLock { $0 += buffer.readableBytesView }
    note("read")
  }
  func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
    if case .inputClosed = event as? ChannelEvent { note("inputClosed") }
  }
  func errorCaught(context: ChannelHandlerContext, error: any Error) { note("error") }
  func channelInactive(context: ChannelHandlerContext) { note("inactive") }

  func wait(_ event: String) async throws {
    while !events.withLock({ $0.contains(event) }) { try await Task.sleep(for: .milliseconds(2)) }  // between two looks
  }
}

private func adopt(
  _ loop: EpollLoop, _ descriptor: CInt, _ collector: Collector = Collector(), watermark: Int = 256 << 10,
  _ prepare: @escaping @Sendable (any Channel) throws -> Void = { _ in }
) async throws -> any Channel {
  try await loop.submit {
    var adopted: (any Channel)?
    try StreamChannel.adopt(loop, descriptor, watermark: watermark) { channel in
      adopted = channel
      try prepare(channel)
      try channel.pipeline.syncOperations.addHandler(collector)
    }
    guard let adopted else { throw ChannelError.operationUnsupported }
    return adopted
  }.get()
}

private func connect(_ loop: EpollLoop, _ address: SocketAddress, _ collector: Collector) -> EventLoopFuture<
  any Channel
> {
  StreamChannel.connect(loop, to: address, timeout: 5_000_000_000, watermark: 1 << 16) {
    try $0.pipeline.syncOperations.addHandler(collector)
  }
}

/// One end that does not block, and one that does.
private func pair() throws -> (ours: CInt, theirs: CInt) {
  let (listening, address) = try listen()
  defer { close(listening) }
  let ours = Glibc.socket(AF_INET, CInt(SOCK_STREAM.rawValue), 0)
  guard address.withSockAddr({ Glibc.connect(ours, $0, socklen_t($1)) }) == 0 else {
    throw IOError(errnoCode: errno, reason: "connect")
  }
  _ = fcntl(ours, F_SETFL, O_NONBLOCK)
  return (ours, accept(listening, nil, nil))
}

private func listen() throws -> (CInt, SocketAddress) {
  let listening = Glibc.socket(AF_INET, CInt(SOCK_STREAM.rawValue), 0)
  let any = try SocketAddress(ipAddress: "127.0.0.1", port: 0)
  guard any.withSockAddr({ Glibc.bind(listening, $0, socklen_t($1)) }) == 0, Glibc.listen(listening, 64) == 0,
    let address = SocketAddress.of(listening, getsockname)
  else { throw IOError(errnoCode: errno, reason: "listen") }
  return (listening, address)
}

private func readOctets(_ descriptor: CInt) -> [UInt8] {
  var octets: [UInt8] = []
  var piece = [UInt8](repeating: 0, count: 16 << 10)
  while true {
    let count = read(descriptor, &piece, piece.count)
    if count <= 0 { return octets }
    octets += piece[..<count]
  }
}

private func readToEnd(_ descriptor: CInt) -> String { String(decoding: readOctets(descriptor), as: UTF8.self) }

private func writeAll(_ descriptor: CInt, _ octets: [UInt8]) {
  octets.withUnsafeBytes { bytes in
    var sent = 0
    while sent < bytes.count {
      let count = send(descriptor, bytes.baseAddress! + sent, bytes.count - sent, CInt(MSG_NOSIGNAL))
      if count <= 0 { return }
      sent += count
    }
  }
}
