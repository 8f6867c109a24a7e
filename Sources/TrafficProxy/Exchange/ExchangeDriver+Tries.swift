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
    guard phase == .exchange, upstream == nil, !isConnecting else { return }
    startTry(NIODeadline.now().uptimeNanoseconds)
  }

  func startTry(_ now: UInt64) {
    guard phase == .exchange, let cluster = exchange.route?.cluster else { return }
    if !cluster.isResolved {
      cluster.wait(self)
      return schedule(now)
    }
    guard let endpoint = cluster.pick(excluding: failedEndpoint, now: now) else {
      if let failure = cluster.failure { return localError(.dnsFailure, detail: failure) }
      return localError(.noEndpoint, detail: "the cluster `\(cluster.shared.configuration.name)` has no endpoint")
    }
    exchange.triesMade += 1
    exchange.endpoint = endpoint
    if let perTry = exchange.route?.compiled.perTryTimeout, perTry > 0 {
      tryDeadline = now &+ perTry
      schedule(now)
    }
    if !forcesNewConnection, !accept.isTCP {
      while let kept = takeIdle(endpoint, cluster) {
        if kept.isUsable {
          use(kept)
          return
        }
        kept.close()
      }
    }
    connect(endpoint, cluster, now)
  }

  /// The newest kept connection; where each says whose it is, the newest of this client.
  private func takeIdle(_ endpoint: LoopEndpoint, _ cluster: LoopCluster) -> UpstreamHandler? {
    guard let header = proxyHeader(for: cluster) else { return endpoint.idle.popLast() }
    return endpoint.idle.lastIndex { $0.proxyHeader == header }.map { endpoint.idle.remove(at: $0) }
  }

  func connect(_ endpoint: LoopEndpoint, _ cluster: LoopCluster, _ now: UInt64) {
    let shared = cluster.shared
    let limits = shared.configuration
    if shared.connections.load(ordering: .relaxed) >= limits.maxConnections {
      return localError(.overflow, detail: "the cluster has \(limits.maxConnections) connections, its limit")
    }
    if shared.pending.load(ordering: .relaxed) >= limits.maxPending {
      return localError(.overflow, detail: "the cluster has \(limits.maxPending) pending requests, its limit")
    }
    shared.connections.wrappingAdd(1, ordering: .relaxed)
    shared.pending.wrappingAdd(1, ordering: .relaxed)
    isConnecting = true
    connectSerial += 1
    let serial = connectSerial
    let made = UpstreamHandler(loop: loop, cluster: cluster, endpoint: endpoint)
    made.proxyHeader = proxyHeader(for: cluster)
    let connected = UpstreamChain.connect(made, tcp: accept.isTCP, timeout: limits.connectTimeout.nanoseconds)
    connected.assumeIsolated().whenComplete { [self] result in
      shared.pending.wrappingSubtract(1, ordering: .relaxed)
      let later = NIODeadline.now().uptimeNanoseconds
      if case .failure(let error) = result {
        // One that was open counts itself out when it closes.
        if !made.wasOpen { shared.connections.wrappingSubtract(1, ordering: .relaxed) }
        cluster.connectFailures.addAsOwner()
        endpoint.restedUntil = later &+ 1_000_000_000
        guard serial == connectSerial, phase == .exchange || phase == .detecting else { return }
        isConnecting = false
        if phase == .detecting { return earlyConnectFailed(later) }
        connectFailed(error, later)
      } else {
        endpoint.restedUntil = 0
        guard serial == connectSerial, phase == .exchange || phase == .detecting else {
          return made.release(now: later)
        }
        isConnecting = false
        if phase == .detecting {
          if made.isUsable { earlyConnected(made) } else { closeNow() }
          return
        }
        guard made.isUsable else {
          return tryFailed(.connect, .connectionRefused, detail: "the connection closed at once")
        }
        let tlsTime = (try? result.get().tlsTime) ?? 0
        exchange.connectTime += later &- now &- tlsTime
        exchange.tlsTime += tlsTime
        exchange.headDone = later
        use(made)
      }
    }
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
    connection.attach(self, tunnel: accept.isTCP)
    if accept.isTCP { return beginTCPTunnel(connection) }
    var injected: [UInt8] = []
    if !route.compiled.inject.isEmpty {
      guard let rendered = renderInjected(route) else { return }
      injected = rendered
    }
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
      route.compiled.rewriteHost ?? cluster.hostHeader
      ?? (cluster.shared.isApp ? nil : connection.endpoint.host)
    let isParsed = isHeadParsed
    exchange.head.withUnsafeReadableBytes { bytes in
      // Another request of this loop may have been parsed since.
      if !isParsed { try? loop.request.parse(bytes) }
      loop.scratch.clear()
      HeadWriter.request(
        loop, bytes, route.compiled, exchange.identity, host: host, client: isInbound ? clientAddress : nil,
        isSecure: session != nil, injected: injected)
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
    exchange.sent = now
    exchange.overhead += now &- exchange.headDone
    resumeReading()
  }

  // MARK: Failures

  func responseByteSeen() { exchange.tries.responseSeen = true }

  func upstreamLost(_ fault: Fault = .connectionReset, detail: String) {
    upstream = nil
    tryFailed(.reset, fault, detail: detail)
  }

  /// True when a response of that status is to be withheld for another try.
  func withholds(status: Int) -> Bool {
    guard status >= 400, let route = exchange.route, route.compiled.policy.mayRetry(status: status) else {
      return false
    }
    return decide(.status(status)) != .giveUp
  }

  private func decide(_ failure: TryFailure) -> RetryDecision {
    guard let route = exchange.route, let cluster = route.cluster else { return .giveUp }
    let shared = cluster.shared
    let allowed =
      exchange.countsAsRetry
      || cluster.budget.allows(
        retries: shared.retries.load(ordering: .relaxed), active: shared.requests.load(ordering: .relaxed))
    return route.compiled.policy.decide(failure, exchange.tries, budgetAllows: allowed)
  }

  func tryFailed(_ failure: TryFailure, _ fault: Fault, detail: String) {
    guard phase == .exchange else { return }
    upstream = nil
    if failure == .connect { exchange.tries.requestWritten = exchange.tries.requestWritten && exchange.triesMade > 1 }
    if accept.isTCP, failure != .connect { return closeNow() }
    let now = NIODeadline.now().uptimeNanoseconds
    switch decide(failure) {
    case .giveUp:
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
      let delay = elsewhere ? 0 : route.compiled.policy.backoff.delay(attempt: attempt, using: &loop.random).nanoseconds
      exchange.headDone = now &+ delay
      if delay == 0 { return startTry(now) }
      backoffUntil = now &+ delay
      schedule(now)
    }
  }
}
