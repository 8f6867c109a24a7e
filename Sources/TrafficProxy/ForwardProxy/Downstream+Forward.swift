import HTTP1
import NIOCore
import Traffic
import Vocabulary

/// Requests that name their destination themselves: absolute-form and CONNECT (RFC 9112 section 3.2).
extension ExchangeDriver {
  /// The route that the request's own target makes; nil when an error was answered instead. The loop's parse is of it.
  func destinationRoute(_ now: UInt64) -> LoopRoute? {
    guard let destinations = listener.destinations, let policy = listener.compiled.forwardPolicy else {
      localError(.noRoute, detail: "no route matches")
      return nil
    }
    let head = loop.request
    let isConnect = exchange.isConnect
    guard head.authority.count > 0 else {
      localError(
        .badRequest, detail: "this listener is a forward proxy: it takes targets such as http://host/path, and CONNECT")
      return nil
    }
    let (destination, isSecure) = exchange.head.withUnsafeReadableBytes { bytes in
      let scheme = bytes[head.target.start...].prefix(6).map { $0 | 0x20 }
      return (
        Destination(authority: head.authority.of(bytes), defaultPort: isConnect ? nil : 80),
        !isConnect && scheme.elementsEqual("https:".utf8)
      )
    }
    if isSecure {
      localError(
        .destinationDenied, detail: "for https, ask this proxy with CONNECT; it does not read what is encrypted")
      return nil
    }
    guard let destination else {
      localError(.badRequest, detail: "the target is not a host and a port")
      return nil
    }
    if let refusal = policy.refusal(destination) {
      localError(.destinationDenied, detail: refusal)
      return nil
    }
    guard let route = destinations.route(to: destination, now: now) else {
      localError(.overflow, detail: "\(Destinations.limit) other destinations are in use, the limit")
      return nil
    }
    return route
  }

  /// Why this client may not be led to that address; nil = it may. Only destinations that clients name are judged.
  func refusal(of endpoint: LoopEndpoint, _ cluster: LoopCluster) -> String? {
    guard cluster.isDestination else { return nil }
    var client: IPAddress?
    if case .tcp(let source, _, _, _)? = accept.peers {
      client = source
    } else {
      client = clientChannel?.remoteAddress.flatMap { IPAddress(of: $0) }
    }
    return loop.shared.own.refusal(endpoint.resolved.address, client: client)
  }

}

extension DownstreamHandler {
  /// Tells the client that its tunnel is there (RFC 9110 section 9.3.6), and begins it.
  func connectEstablished(_ connection: UpstreamLeg) {
    let now = NIODeadline.now().uptimeNanoseconds
    exchange.responseStarted = true
    exchange.status = 200
    exchange.firstByte = now
    exchange.overhead += now &- exchange.headDone
    loop.clearScratch()
    loop.scratch.writeStaticString("HTTP/1.1 200 Connection Established\r\n\r\n")
    exchange.bytesOut += UInt64(loop.scratch.readableBytes)
    write(loop.scratch)
    flush()
    guard phase == .exchange else { return }
    phase = .tunnel
    enterTunnel(now)
    connection.flush()
  }
}
