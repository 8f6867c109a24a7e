import NIOCore
import Synchronization
import Traffic

/// `protocol: auto`: the first octets tell what is spoken. A client that is silent may wait for the server to greet:
/// after a moment a connection is opened for it, and whoever speaks first decides (docs/decisions/0006).
extension DownstreamHandler {
  /// How long a client may be silent before a connection is opened for it: far above the time between a handshake and
  /// the request that follows it, far below what a person notices.
  private static let silence: UInt64 = 50_000_000
  /// Connections that wait for either side to speak, for each cluster and event loop.
  private static let mostEarly = 64

  /// Where octets that are not HTTP may go.
  var passRoute: LoopRoute? { accept.original ?? (listener.compiled.passesTCP ? listener.routes.first : nil) }

  /// The connection is there, and it is known whose it is.
  func start(_ now: UInt64) {
    if accept.isTCP { return beginTCP(now) }
    guard listener.compiled.isAuto, !accept.isNegotiated else { return beginHTTP(now) }
    phase = .detecting
    guard let cluster = passRoute?.cluster else {
      return loop.wheel.set(self, now &+ listener.compiled.downstreamIdle, now: now)
    }
    if cluster.greets { openEarly(now) } else { loop.wheel.set(self, now &+ Self.silence, now: now) }
  }

  private func beginHTTP(_ now: UInt64) {
    phase = .head
    loop.wheel.set(self, now &+ listener.compiled.downstreamIdle, now: now)
  }

  /// The client has spoken.
  func detect() {
    guard phase == .detecting, let buffer = input else { return }
    let now = NIODeadline.now().uptimeNanoseconds
    switch buffer.withUnsafeReadableBytes({ DetectedProtocol($0) }) {
    case .undecided: loop.wheel.set(self, now &+ listener.compiled.headTimeout, now: now)
    case .http1: takeHTTP(now)
    case .http2: becomeHTTP2(now)
    case .tls:
      passOn(now, otherwise: "the client speaks TLS, and this listener expects plain HTTP")
    case .other:
      passOn(now, otherwise: "this is not HTTP; octets are passed on unread only by listeners that lead to one cluster")
    }
  }

  private func takeHTTP(_ now: UInt64) {
    settleDetection(now)
    beginHTTP(now)
    process()
  }

  /// It is HTTP of one kind or the other.
  private func settleDetection(_ now: UInt64) {
    passRoute?.cluster?.greets = false
    if let opened = upstream {
      upstream = nil
      let isHTTP2Alone = opened.cluster.shared.configuration.spoken == .http2
      if isHTTP2Alone { opened.abandon() } else { (opened as? UpstreamHandler)?.unattach(now) }
    }
    connectSerial += 1
    isConnecting = false
    endEarly()
    exchange = Exchange()
    if listener.compiled.passesTCP {
      try? context?.channel.syncOptions?.setOption(.allowRemoteHalfClosure, value: false)
    }
  }

  /// HTTP/2 by prior knowledge (RFC 9113 section 3.3): its handler takes over with what was read.
  func becomeHTTP2(_ now: UInt64) {
    settleDetection(now)
    guard let context, let octets = input else { return }
    input = nil
    phase = .closed
    uncount()
    self.context = nil
    let next = HTTP2Downstream(loop: loop, listener: listener, session: session, accept: accept)
    do {
      try context.pipeline.syncOperations.addHandler(next, position: .after(self))
    } catch {
      return context.close(promise: nil)
    }
    context.fireChannelRead(NIOAny(octets))
    context.pipeline.syncOperations.removeHandler(context: context, promise: nil)
  }

  /// What is not HTTP becomes a TCP stream, where there is one place for it to go.
  private func passOn(_ now: UInt64, otherwise detail: String) {
    guard passRoute != nil else { return refuse(.notHTTP, detail: detail) }
    accept.isTCP = true
    let opened = upstream
    endEarly()
    guard openStream(now) else { return }
    if let opened {
      upstream = opened
      beginTCPTunnel(opened)
    } else if !isConnecting {
      startTry(now)
    }
  }

  /// Answers an error in place of a request that could not be read.
  func refuse(_ fault: Fault, detail: String) {
    makeIdentifiers()
    phase = .exchange
    loop.shared.addInFlight(listener.compiled.direction, 1)
    exchange.started = NIODeadline.now().uptimeNanoseconds
    exchange.requestDone = false
    localError(fault, detail: detail)
  }

  // MARK: The silent client

  func detectionTimePassed(_ now: UInt64) {
    guard let route = passRoute else {
      if input == nil { return closeNow() }
      return refuse(.requestTimeout, detail: "the request head did not arrive in time")
    }
    // Octets that still could begin a request, and no more of them: somebody else's protocol.
    if input != nil { return passOn(now, otherwise: "") }
    if upstream != nil || isConnecting || route.cluster == nil { return closeNow() }
    openEarly(now)
  }

  private func openEarly(_ now: UInt64) {
    guard let route = passRoute, let cluster = route.cluster else { return }
    let limits = cluster.shared.configuration
    guard cluster.early < Self.mostEarly, cluster.isResolved,
      cluster.shared.connections.load(ordering: .relaxed) < limits.maxConnections,
      cluster.shared.pending.load(ordering: .relaxed) < limits.maxPending,
      let endpoint = chooseEndpoint(cluster, excluding: failedEndpoint, now: now)
    else { return waitLonger(now) }
    accept.isEarly = true
    cluster.early += 1
    exchange.route = route
    exchange.endpoint = endpoint
    connect(endpoint, cluster, now)
    loop.wheel.set(self, now &+ listener.compiled.downstreamIdle, now: now)
  }

  /// Looks again later: 50, 100, 200 ms and so on, at most 6.4 s.
  private func waitLonger(_ now: UInt64) {
    accept.earlyTries = min(7, accept.earlyTries + 1)
    loop.wheel.set(self, now &+ Self.silence << UInt64(accept.earlyTries), now: now)
  }

  func takeEarly(_ opened: UpstreamLeg) {
    upstream = opened
    opened.attach(self, tunnel: true)
  }

  func earlyFailed(_ now: UInt64) {
    let greets = exchange.route?.cluster?.greets ?? false
    failedEndpoint = exchange.endpoint
    endEarly()
    if !greets { return waitLonger(now) }
    // The server of such a client is known to speak first: the client waits for nothing but the connection.
    accept.isTCP = true
    beginTCP(now)
  }

  /// The server has spoken, or ended its side, before the client said a word.
  func serverSpoke() {
    guard phase == .detecting, let opened = upstream else { return }
    exchange.route?.cluster?.greets = true
    accept.isTCP = true
    endEarly()
    guard openStream(NIODeadline.now().uptimeNanoseconds) else { return }
    upstream = opened
    beginTCPTunnel(opened)
  }

  func endEarly() {
    guard accept.isEarly else { return }
    accept.isEarly = false
    exchange.route?.cluster?.early -= 1
  }
}
