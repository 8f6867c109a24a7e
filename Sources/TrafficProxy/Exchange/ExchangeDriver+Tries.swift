import HTTP1
import NIOCore
import NIOPosix
import Resilience
import Synchronization
import Telemetry
import Traffic
import Vocabulary

#if canImport(Glibc)
  import Glibc
#else
  import Musl
#endif

/// Finding a connection for an exchange, and what happens when a try fails.
extension ExchangeDriver {
  func clusterResolved() {
    guard phase == .exchange, upstream == nil, !isConnecting, !isChecked else { return }
    let now = NIODeadline.now().uptimeNanoseconds
    exchange.poolTime += now &- exchange.headDone
    exchange.headDone = now
    startTry(now)
  }

  func startTry(_ now: UInt64) {
    guard phase == .exchange, let cluster = exchange.route?.cluster else { return }
    if !cluster.isResolved {
      cluster.wait(self)
      return schedule(now)
    }
    guard let endpoint = chooseEndpoint(cluster, excluding: failedEndpoint, now: now) else {
      if let failure = cluster.failure {
        return localError(cluster.shared.file == nil ? .dnsFailure : .noEndpoint, detail: failure)
      }
      return nobodyAvailable(cluster)
    }
    startTry(endpoint, cluster, now)
  }

  func startTry(_ endpoint: LoopEndpoint, _ cluster: LoopCluster, _ now: UInt64) {
    exchange.triesMade += 1
    exchange.tryBegan = now
    exchange.endpoint = endpoint
    if let refusal = refusal(of: endpoint, cluster) { return localError(.destinationDenied, detail: refusal) }
    if let perTry = exchange.route?.compiled.perTryTimeout, perTry > 0 {
      tryDeadline = now &+ perTry
      schedule(now)
    }
    if !forcesNewConnection, !accept.isTCP, !exchange.isConnect, takeKept(endpoint, cluster) { return }
    connect(endpoint, cluster, now)
  }

  /// Uses a connection that is there.
  private func takeKept(_ endpoint: LoopEndpoint, _ cluster: LoopCluster) -> Bool {
    if !endpoint.multiplexed.isEmpty, let leg = takeStream(endpoint, cluster) {
      use(leg, on: leg.connection)
      return true
    }
    while let kept = takeIdle(endpoint, cluster) {
      if kept.isUsable {
        use(kept)
        return true
      }
      kept.close()
    }
    return false
  }

  private func takeStream(_ endpoint: LoopEndpoint, _ cluster: LoopCluster) -> UpstreamStream? {
    let header = proxyHeader(for: cluster)
    for connection in endpoint.multiplexed where connection.proxyHeader == header {
      if case .open = connection.room(upgrades: exchange.wantsUpgrade) { return connection.stream() }
    }
    return nil
  }

  /// The newest kept connection; where each says whose it is, the newest of this client.
  private func takeIdle(_ endpoint: LoopEndpoint, _ cluster: LoopCluster) -> UpstreamHandler? {
    guard let header = proxyHeader(for: cluster) else { return endpoint.idle.popLast() }
    return endpoint.idle.lastIndex { $0.proxyHeader == header }.map { endpoint.idle.remove(at: $0) }
  }

  func connect(_ endpoint: LoopEndpoint, _ cluster: LoopCluster, _ now: UInt64) {
    let shared = cluster.shared
    let limits = shared.configuration
    if shared.connections.load(ordering: .relaxed) >= limits.maxConnections, !cluster.dropIdle() {
      cluster.rare.add(.connections)
      return localError(.overflow, detail: "the cluster has \(limits.maxConnections) connections, its limit")
    }
    if shared.pending.load(ordering: .relaxed) >= limits.maxPending {
      cluster.rare.add(.pending)
      return localError(.overflow, detail: "the cluster has \(limits.maxPending) pending requests, its limit")
    }
    shared.pending.wrappingAdd(1, ordering: .relaxed)
    isConnecting = true
    connectSerial += 1
    let serial = connectSerial
    // An upgrade is HTTP/1.1's, unless there is nothing but HTTP/2.
    let avoidsStreams =
      accept.isTCP || phase == .detecting || exchange.isConnect || exchange.wantsUpgrade && limits.spoken == .auto
    let leads = endpoint.isMultiplexed && !avoidsStreams && cluster.proxyProtocol == nil
    if leads {
      if endpoint.isConnecting { return endpoint.waiters.append((self, serial)) }
      endpoint.isConnecting = true
    }
    shared.connections.wrappingAdd(1, ordering: .relaxed)
    let made = UpstreamHandler(loop: loop, cluster: cluster, endpoint: endpoint)
    made.proxyHeader = proxyHeader(for: cluster)
    let connected = UpstreamChain.connect(made, tcp: avoidsStreams, timeout: limits.connectTimeout.nanoseconds)
    connected.assumeIsolated().whenComplete { [self] result in
      shared.pending.wrappingSubtract(1, ordering: .relaxed)
      let later = NIODeadline.now().uptimeNanoseconds
      let waiters = leads ? endpoint.takeWaiters() : []
      switch result {
      case .failure(let error):
        // One that was open counts itself out when it closes.
        if !made.wasOpen { shared.connections.wrappingSubtract(1, ordering: .relaxed) }
        cluster.connectFailures.addAsOwner()
        endpoint.restedUntil = later &+ 1_000_000_000
        connectFailed(serial, error, later)
        for waiter in waiters { waiter.driver.waited(waiter.serial, endpoint, cluster, failure: error, later) }
      case .success(let ready):
        endpoint.restedUntil = 0
        let tlsTime = ready.tlsTime
        if !avoidsStreams { endpoint.isMultiplexed = speaksHTTP2(made, ready) }
        use(serial, made, ready, connectTime: later &- now &- tlsTime, later)
        for waiter in waiters { waiter.driver.waited(waiter.serial, endpoint, cluster, failure: nil, later) }
      }
    }
  }

  /// A connection that others made has come about, or has not.
  private func waited(
    _ serial: Int, _ endpoint: LoopEndpoint, _ cluster: LoopCluster, failure: (any Error)?, _ now: UInt64
  ) {
    cluster.shared.pending.wrappingSubtract(1, ordering: .relaxed)
    if let failure { return connectFailed(serial, failure, now) }
    guard serial == connectSerial, phase == .exchange else { return }
    isConnecting = false
    exchange.poolTime += now &- exchange.tryBegan
    exchange.headDone = now
    if takeKept(endpoint, cluster) { return }
    connect(endpoint, cluster, now)
  }

  private func use(
    _ serial: Int, _ made: UpstreamHandler, _ ready: UpstreamChain.Ready, connectTime: UInt64, _ now: UInt64
  ) {
    let isWanted = serial == connectSerial && (phase == .exchange || phase == .detecting)
    let passesOctets = accept.isTCP || exchange.isConnect || phase == .detecting
    if speaksHTTP2(made, ready), !passesOctets {
      let upstream = HTTP2Upstream.take(over: made)
      guard isWanted else { return }
      isConnecting = false
      guard let upstream else {
        return tryFailed(.connect, .connectionRefused, detail: "the connection closed at once")
      }
      noteConnect(ready, connectTime, now)
      return use(upstream.stream(), on: upstream)
    }
    let isHTTP2Alone = made.cluster.shared.configuration.spoken == .http2 && !passesOctets
    guard isWanted else { return isHTTP2Alone ? made.close() : made.release(now: now) }
    isConnecting = false
    if phase == .detecting {
      if made.isUsable { earlyConnected(made) } else { closeNow() }
      return
    }
    guard made.isUsable else {
      return tryFailed(.connect, .connectionRefused, detail: "the connection closed at once")
    }
    if isHTTP2Alone {
      made.close()
      return tryFailed(.connect, .tlsProtocol, detail: "the upstream does not offer HTTP/2 (ALPN `h2`)")
    }
    noteConnect(ready, connectTime, now)
    use(made)
  }

  private func use(_ leg: UpstreamStream, on upstream: HTTP2Upstream) {
    guard exchange.wantsUpgrade, !upstream.isEstablished else { return use(leg) }
    isConnecting = true
    connectSerial += 1
    upstream.waitForSettings(self, connectSerial)
  }

  /// The connection has told what it takes, or is gone.
  func settingsArrived(_ serial: Int, _ upstream: HTTP2Upstream) {
    guard serial == connectSerial, phase == .exchange else { return }
    isConnecting = false
    guard case .open = upstream.room(upgrades: exchange.wantsUpgrade) else {
      return tryFailed(.connect, .connectionReset, detail: "the connection closed before its settings")
    }
    use(upstream.stream())
  }

  private func noteConnect(_ ready: UpstreamChain.Ready, _ connectTime: UInt64, _ now: UInt64) {
    exchange.connectTime += connectTime
    exchange.tlsTime += ready.tlsTime
    exchange.headDone = now
  }

  private func speaksHTTP2(_ made: UpstreamHandler, _ ready: UpstreamChain.Ready) -> Bool {
    if made.cluster.shared.tls != nil { return ready.spoken == .http2 }
    return made.cluster.shared.configuration.spoken == .http2
  }

  private func connectFailed(_ serial: Int, _ error: any Error, _ now: UInt64) {
    guard serial == connectSerial, phase == .exchange || phase == .detecting else { return }
    isConnecting = false
    if phase == .detecting { return earlyConnectFailed(now) }
    connectFailed(error, now)
  }

  private func connectFailed(_ error: any Error, _ now: UInt64) {
    if case .connectTimeout = error as? ChannelError {
      tryFailed(.connect, .connectionTimeout, detail: "no connection within the connect timeout")
    } else if let failure = error as? TLSFailure {
      tryFailed(.connect, failure.fault, detail: failure.detail)
    } else if let error = error as? IOError {
      tryFailed(.connect, .connectionRefused, detail: String(cString: strerror(error.errnoCode)))
    } else {
      tryFailed(.connect, .connectionRefused, detail: "the connection could not be made")
    }
  }

  /// Sends the request on that connection.
  func use(_ connection: UpstreamLeg) {
    guard phase == .exchange, let route = exchange.route else { return connection.abandon() }
    upstream = connection
    failedEndpoint = nil
    forcesNewConnection = false
    connection.attach(self, tunnel: accept.isTCP || exchange.isConnect)
    if exchange.isConnect { return beginConnectTunnel(connection) }
    if accept.isTCP {
      note(failed: false)
      return beginTCPTunnel(connection)
    }
    var injected: [UInt8] = []
    if !route.compiled.inject.isEmpty {
      guard let rendered = renderInjected(route) else { return }
      injected = rendered
    }
    if let passage = exchange.passage { injected += passage.fields }
    exchange.tries.reusedConnection = connection.wasUsed
    exchange.tries.requestWritten = true
    exchange.tries.responseSeen = false
    sendHead(on: connection, route, injected)
  }

  /// The lines of the injected fields; nil when the request was answered with an error instead.
  private func renderInjected(_ route: LoopRoute) -> [UInt8]? {
    var injected: [UInt8] = []
    for (name, template) in route.compiled.inject {
      guard let value = loop.shared.secrets(template), value.allSatisfy({ $0 >= 32 && $0 != 127 || $0 == 9 }) else {
        localError(
          .missingSecret,
          detail: "no usable value for \(template) of the field \(String(decoding: name, as: UTF8.self))")
        return nil
      }
      injected += name + [0x3A, 0x20] + value + [13, 10]
    }
    return injected
  }

  private func sendHead(on connection: UpstreamLeg, _ route: LoopRoute, _ injected: [UInt8]) {
    let cluster = connection.cluster
    let host =
      route.compiled.rewriteHost
      ?? (cluster.keepsHost || route === accept.original ? nil : cluster.hostHeader ?? connection.endpoint.host)
    let isParsed = isHeadParsed
    exchange.head.withUnsafeReadableBytes { bytes in
      // Another request of this loop may have been parsed since.
      if !isParsed { try? loop.request.parse(bytes) }
      loop.clearScratch()
      HeadWriter.request(
        loop, bytes, route.compiled, exchange.identity(isTraced: loop.traceSample >= 0), host: host,
        client: isInbound ? clientAddress : nil,
        isSecure: session != nil, injected: injected, target: exchange.rewrittenTarget)
    }
    if connection.takesContent {
      let isWhole = exchange.requestDone && (exchange.replay?.readableBytes ?? 0) == 0 && exchange.trailers == nil
      guard connection.sendHead(endStream: isWhole) else { return }
      if !isWhole { replayBody(on: connection) }
    } else {
      replayBody(on: connection)
      connection.write(loop.scratch)
    }
    sendBody(on: connection)
    let now = NIODeadline.now().uptimeNanoseconds
    exchange.overhead += now &- exchange.headDone
    exchange.routeTime = exchange.overhead
    exchange.sent = now
    loop.requestLeaves(self, now)
    resumeReading()
  }

  // MARK: Failures

  func responseByteSeen() { exchange.tries.responseSeen = true }

  func upstreamLost(_ fault: Fault = .connectionReset, detail: String) {
    upstream = nil
    tryFailed(.reset, fault, detail: detail)
  }

  /// True when a response of that status is to be withheld for another try.
  func withholds(_ head: ByteBuffer, status: Int) -> Bool {
    if let endpoint = exchange.endpoint, endpoint.notesOutcomes { noteResponse(head, status: status, endpoint) }
    if exchange.isGRPC { return withholdsGRPC(head) }
    if let route = exchange.route, status >= route.compiled.leastRetried {
      if withholdsResponse(head, status: status, route.compiled.policy) { return true }
    }
    if hedge != nil { endHedge() }
    return false
  }

  func decide(_ failure: TryFailure) -> RetryDecision {
    guard let route = exchange.route, let cluster = route.cluster else { return .giveUp }
    let shared = cluster.shared
    let allowed =
      exchange.countsAsRetry
      || cluster.budget.allows(
        retries: shared.retries.load(ordering: .relaxed), active: shared.requests.load(ordering: .relaxed))
    let decision = route.compiled.policy.decide(failure, exchange.tries, budgetAllows: allowed)
    if !allowed, decision == .giveUp,
      route.compiled.policy.decide(failure, exchange.tries, budgetAllows: true) != .giveUp
    {
      cluster.rare.add(.retryOverflow)
    }
    return decision
  }

  func tryFailed(_ failure: TryFailure, _ fault: Fault, detail: String) {
    guard phase == .exchange else { return }
    upstream = nil
    // A connection that this try still waits for must not carry the request beside the next try.
    isConnecting = false
    connectSerial += 1
    noteFailure(failure, fault)
    noteTry(failure, fault, detail)
    if let lead { return lead.hedgeFailed(failure, fault, detail: detail) }
    // The other try goes on alone.
    if hedge != nil { return waitForHedge() }
    goOn(after: failure, fault, detail: detail)
  }

  /// Tries again, or answers with an error.
  func goOn(after failure: TryFailure, _ fault: Fault, detail: String) {
    if failure == .connect { exchange.tries.requestWritten = exchange.tries.requestWritten && exchange.triesMade > 1 }
    if accept.isTCP, failure != .connect { return closeNow() }
    let now = NIODeadline.now().uptimeNanoseconds
    if failure == .connect, let cluster = exchange.route?.cluster, cluster.isDestination,
      exchange.triesMade < cluster.endpoints.count
    {
      failedEndpoint = exchange.endpoint
      return startTry(now)
    }
    switch decide(failure) {
    case .giveUp:
      exchange.isExhausted = exchange.tries.retries > 0
      localError(fault, detail: detail)
    case .replay:
      exchange.tries.replayed = true
      exchange.headDone = now
      forcesNewConnection = true
      startTry(now)
    case .retry(let attempt):
      guard let route = exchange.route, let cluster = route.cluster else { return }
      exchange.tries.retries += 1
      cluster.retriesTotal.addAsOwner()
      if !exchange.countsAsRetry {
        exchange.countsAsRetry = true
        cluster.shared.retries.wrappingAdd(1, ordering: .relaxed)
      }
      failedEndpoint = exchange.endpoint
      tryDeadline = .max
      let elsewhere = failure == .connect && attempt == 0 && cluster.endpoints.count > 1
      var delay = elsewhere ? 0 : route.compiled.policy.backoff.delay(attempt: attempt, using: &loop.random).nanoseconds
      delay += exchange.retryAfter
      exchange.retryAfter = 0
      exchange.headDone = now &+ delay
      if delay == 0 { return startTry(now) }
      backoffUntil = now &+ delay
      schedule(now)
    }
  }
}
