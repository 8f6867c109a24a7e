import AsyncHTTPClient
import HTTP1
import NIOCore
import Telemetry
import Traffic
import Vocabulary

/// Takes a request through the checks of its listener and then of its route, one after the other. A check that has to wait
/// leaves the exchange as it is: its body is held, its client may leave, and the wheel has its deadline.
extension ExchangeDriver {
  /// A check waits: the request must not go on by itself.
  final var isChecked: Bool { exchange.passage?.isWaiting ?? false }

  /// Begins the checks of that gate. The loop's parse is of this request. False when the exchange was answered, or waits.
  final func passes(_ gate: CompiledGate, _ now: UInt64) -> Bool {
    let passage: Passage
    if let begun = exchange.passage {
      passage = begun
      passage.enter(gate)
    } else {
      passage = Passage(gate)
      exchange.passage = passage
    }
    return advance(passage, now)
  }

  /// What it waited for has come about, or its time is over.
  final func resume(_ passage: Passage, _ now: UInt64) {
    guard exchange.passage === passage, phase == .exchange, upstream == nil else { return }
    passage.wait = .none
    passage.deadline = .max
    // Other requests of this loop have been parsed since.
    exchange.head.withUnsafeReadableBytes { try? loop.request.parse($0) }
    guard advance(passage, now) else { return }
    exchange.headDone = now
    if passage.gate.isOfRoute, let route = exchange.route { proceed(route, now) } else { direct(now) }
  }

  /// False when the exchange was answered, or waits.
  private func advance(_ passage: Passage, _ now: UInt64) -> Bool {
    let gate = passage.gate
    while true {
      switch passage.step {
      case .rates:
        if gate.needsPath, passage.path == nil { passage.path = normalPath() }
        guard staysBelowRates(gate, passage, now) else { return false }
        passage.step = .connection
      case .connection:
        if let rules = gate.rules {
          let verdict = rules.decide(names: clientNames, source: clientIP)
          if let verdict, !accepts(verdict, gate) { return false }
          passage.step = verdict == nil ? .token : gate.jwt == nil ? .external : .token
        } else {
          passage.step = .token
        }
      case .token:
        guard takesToken(gate, passage, now) else { return false }
        passage.step = .rules
      case .rules:
        if let rules = gate.rules, rules.needsHTTP {
          guard accepts(decide(rules, passage), gate) else { return false }
        }
        passage.step = .external
      case .external:
        passage.step = .fault
        if let external = gate.external, !asks(external, passage, now) { return false }
      case .fault:
        passage.step = .abort
        if let fault = gate.fault, !waits(fault, passage, now) { return false }
      case .abort:
        passage.step = .done
        if passage.abortStatus > 0 {
          gate.aborted.add()
          localError(.injected, detail: "failed on purpose, as configured", status: passage.abortStatus)
          return false
        }
      case .done: return true
      }
    }
  }

  /// Leaves the exchange until `resume`, at the deadline at the latest.
  final func wait(_ passage: Passage, _ wait: Passage.Wait, _ deadline: UInt64, _ now: UInt64) {
    passage.wait = wait
    passage.deadline = deadline
    loop.wheel.set(self, min(deadline, exchange.grpcDeadline), now: now)
  }

  /// The wheel's call while a check waits.
  final func passageDeadlinePassed(_ passage: Passage, _ now: UInt64) {
    if now >= exchange.grpcDeadline {
      passage.cancel()
      return localError(.routeTimeout, detail: "the call's deadline has passed")
    }
    guard now >= passage.deadline else { return loop.wheel.set(self, passage.deadline, now: now) }
    switch passage.wait {
    case .none: schedule(now)
    case .delay, .keys: resume(passage, now)
    case .external(let task):
      passage.wait = .none
      task.cancel()
      externalFailed(passage, "no answer within its timeout", now)
    }
  }

  // MARK: Rate limits

  private func staysBelowRates(_ gate: CompiledGate, _ passage: Passage, _ now: UInt64) -> Bool {
    guard let limiter = gate.limiter else { return true }
    let wait = limiter.take(gate.rates.map { key($0.key, passage) }, now: now)
    guard wait > 0 else { return true }
    gate.limited.add()
    let seconds = max(1, (wait + 999_999_999) / 1_000_000_000)
    localError(
      .rateLimited, detail: "the rate limit of the \(gate.isOfRoute ? "route" : "listener") is reached",
      fields: "Retry-After: \(seconds)\r\n")
    return false
  }

  private func key(_ key: RateLimitConfiguration.Key, _ passage: Passage) -> RateKey {
    switch key {
    case .all: .nobody
    case .source: clientIP.map { RateKey(source: $0) } ?? .nobody
    case .path: RateKey(text: passage.path?.octets ?? [])
    case .header(let name):
      exchange.head.withUnsafeReadableBytes { bytes in
        var name = name
        return name.withUTF8 { loop.request.table.first(named: UnsafeRawBufferPointer($0), bytes) }
          .map { RateKey(text: $0.value.of(bytes)) } ?? .nobody
      }
    }
  }

  // MARK: Rules

  /// The client's address, after a PROXY header; nil = it has none.
  final var clientIP: IPAddress? {
    switch accept.peers {
    case .tcp(let source, _, _, _)?: source
    case .unix?: nil
    case .unknown?, nil: clientChannel?.remoteAddress.flatMap { IPAddress(of: $0) }
    }
  }

  /// The names of a client whose certificate was verified.
  final var clientNames: PeerNames? { session.flatMap { $0.names.identity.isEmpty ? nil : $0.names } }

  private func decide(_ rules: RBACPolicy, _ passage: Passage) -> RBACPolicy.Verdict {
    let path = passage.path ?? NormalPath([])
    return exchange.head.withUnsafeReadableBytes { bytes in
      rules.decide(
        SecuritySubject(
          names: clientNames, source: clientIP, method: exchange.methodText.of(bytes), path: path,
          claims: passage.claims)
      ) { values(of: $0, bytes) }
    }
  }

  private func accepts(_ verdict: RBACPolicy.Verdict, _ gate: CompiledGate) -> Bool {
    switch verdict {
    case .allowed:
      gate.rulesResults.allowed.add()
      return true
    case .denied(let reason):
      gate.rulesResults.denied.add()
      localError(.accessDenied, detail: reason)
      return false
    }
  }

  /// The values of all fields of that name; `bytes` is the parsed head.
  final func values(of name: UnsafeRawBufferPointer, _ bytes: UnsafeRawBufferPointer) -> [UnsafeRawBufferPointer] {
    loop.request.table.fields.compactMap { field in
      Octets.equal(field.name.of(bytes), ignoringCase: name) ? field.value.of(bytes) : nil
    }
  }

  // MARK: Failures on purpose

  /// False when the exchange waits.
  private func waits(_ fault: FaultPolicy, _ passage: Passage, _ now: UInt64) -> Bool {
    let drawn = fault.draw(using: &loop.random)
    passage.abortStatus = drawn.status
    guard drawn.delay > 0 else { return true }
    passage.gate.delayed.add()
    exchange.flag = "DI"
    wait(passage, .delay, now &+ drawn.delay, now)
    return false
  }

  // MARK: Paths

  final func normalPath() -> NormalPath {
    exchange.head.withUnsafeReadableBytes { bytes in NormalPath(pathOnly(bytes)) }
  }

  private func pathOnly(_ bytes: UnsafeRawBufferPointer) -> UnsafeRawBufferPointer {
    UnsafeRawBufferPointer(rebasing: exchange.path.of(bytes)[..<exchange.pathOnlyCount])
  }

  /// The path as records have it: without a query that may hold a token.
  final func recordedPath(_ bytes: UnsafeRawBufferPointer) -> UnsafeRawBufferPointer {
    exchange.passage?.hidesQuery ?? false ? pathOnly(bytes) : exchange.path.of(bytes)
  }

  /// The path in its normal form, when that is not how it was sent.
  final func unusualPath() -> NormalPath? {
    if exchange.isConnect { return nil }
    let isNormal = exchange.head.withUnsafeReadableBytes { NormalPath.isNormal(pathOnly($0)) }
    return isNormal ? nil : normalPath()
  }

  /// As `direct`, where some routes check more than others: the route is chosen by the path's normal form, so that no
  /// other spelling of it leads around a route's checks.
  final func direct(by path: NormalPath, _ now: UInt64) {
    if path.isAmbiguous {
      return localError(
        .accessDenied, detail: "the path can be read in more than one way, and routes of this listener are guarded")
    }
    let chosen = exchange.head.withUnsafeReadableBytes { bytes in
      path.octets.withUnsafeBytes { chooseRoute(bytes, path: $0) }
    }
    guard let route = chosen.map({ listener.routes[$0] }) ?? accept.original ?? destinationRoute(now) else { return }
    if route.compiled.rewritesPath {
      exchange.route = route
      return localError(
        .accessDenied, detail: "the path is not in its normal form, and the route rewrites it")
    }
    follow(route, now)
  }

  // MARK: Streams

  /// Checks a connection whose octets are passed unread; false when it was refused.
  final func admitsStream(_ gate: CompiledGate, _ now: UInt64) -> Bool {
    if gate.needsHTTP {
      localError(.accessDenied, detail: "the listener's checks need HTTP, and this is not")
      return false
    }
    guard staysBelowRates(gate, Passage(gate), now) else { return false }
    guard let rules = gate.rules, let verdict = rules.decide(names: clientNames, source: clientIP) else { return true }
    return accepts(verdict, gate)
  }
}
