import Glibc
package import NIOCore

extension StreamChannel: NIOSynchronousChannelOptions, SocketOptionProvider {
  package var syncOptions: (any NIOSynchronousChannelOptions)? { self }

  package func setOption<Option: ChannelOption>(_ option: Option, value: Option.Value) throws {
    switch (option, value) {
    case (_ as ChannelOptions.Types.AutoReadOption, let value as Bool):
      readsByItself = value
      if value { readIfWanted() }
    case (_ as ChannelOptions.Types.AllowRemoteHalfClosureOption, let value as Bool): allowsHalfClosure = value
    case (_ as ChannelOptions.Types.WriteBufferWaterMarkOption, let value as ChannelOptions.Types.WriteBufferWaterMark):
      output.high = value.high
      output.low = value.low
    default: throw ChannelError.operationUnsupported
    }
  }

  package func getOption<Option: ChannelOption>(_ option: Option) throws -> Option.Value {
    let value: Any
    switch option {
    case _ as ChannelOptions.Types.AutoReadOption: value = readsByItself
    case _ as ChannelOptions.Types.AllowRemoteHalfClosureOption: value = allowsHalfClosure
    case _ as ChannelOptions.Types.BufferedWritableBytesOption: value = output.octets
    case _ as ChannelOptions.Types.WriteBufferWaterMarkOption:
      value = ChannelOptions.Types.WriteBufferWaterMark(low: output.low, high: output.high)
    default: throw ChannelError.operationUnsupported
    }
    guard let typed = value as? Option.Value else { throw ChannelError.operationUnsupported }
    return typed
  }

  package func setOption<Option: ChannelOption>(_ option: Option, value: Option.Value) -> EventLoopFuture<Void> {
    return onLoop { try self.setOption(option, value: value) as Void }
  }

  package func getOption<Option: ChannelOption>(_ option: Option) -> EventLoopFuture<Option.Value> {
    onLoop { try self.getOption(option) as Option.Value }
  }

  package func unsafeSetSocketOption<Value: Sendable>(
    level: NIOBSDSocket.OptionLevel, name: NIOBSDSocket.Option, value: Value
  ) -> EventLoopFuture<Void> {
    onLoop { [self] in
      guard state != .closed else { throw ChannelError.ioOnClosedChannel }
      let code = withUnsafeBytes(of: value) {
        setsockopt(descriptor, level.rawValue, name.rawValue, $0.baseAddress, socklen_t($0.count))
      }
      guard code == 0 else { throw IOError(errnoCode: errno, reason: "setsockopt") }
    }
  }

  package func unsafeGetSocketOption<Value: Sendable>(
    level: NIOBSDSocket.OptionLevel, name: NIOBSDSocket.Option
  ) -> EventLoopFuture<Value> {
    onLoop { [self] in
      guard state != .closed else { throw ChannelError.ioOnClosedChannel }
      return try withUnsafeTemporaryAllocation(of: Value.self, capacity: 1) { place in
        let raw = UnsafeMutableRawPointer(place.baseAddress.unsafelyUnwrapped)
        raw.initializeMemory(as: UInt8.self, repeating: 0, count: MemoryLayout<Value>.size)
        var size = socklen_t(MemoryLayout<Value>.size)
        guard getsockopt(descriptor, level.rawValue, name.rawValue, raw, &size) == 0 else {
          throw IOError(errnoCode: errno, reason: "getsockopt")
        }
        return place[0]
      }
    }
  }

  package func unsafeSetSocketOption<Value: Sendable>(
    level: SocketOptionLevel, name: SocketOptionName, value: Value
  ) -> EventLoopFuture<Void> {
    unsafeSetSocketOption(level: .init(rawValue: CInt(level)), name: .init(rawValue: CInt(name)), value: value)
  }

  package func unsafeGetSocketOption<Value: Sendable>(
    level: SocketOptionLevel, name: SocketOptionName
  ) -> EventLoopFuture<Value> {
    unsafeGetSocketOption(level: .init(rawValue: CInt(level)), name: .init(rawValue: CInt(name)))
  }

  /// At once on the loop's own thread.
  private func onLoop<Value>(_ body: @escaping @Sendable () throws -> Value) -> EventLoopFuture<Value> {
    guard loop.inEventLoop else { return loop.submit(body) }
    let promise = loop.makePromise(of: Value.self)
    do { promise.assumeIsolated().succeed(try body()) } catch { promise.fail(error) }
    return promise.futureResult
  }
}
