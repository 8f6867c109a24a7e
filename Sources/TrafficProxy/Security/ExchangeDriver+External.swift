import AsyncHTTPClient
import HTTP1
import NIOCore
import NIOHTTP1
import NIOSSL
import Telemetry
import Traffic

/// Asking an authorization service, in the manner of Envoy's HTTP service: the request's method and path and chosen
/// fields, no body. 2xx allows; what is below 500 otherwise is the client's answer; all else is a failure.
extension ExchangeDriver {
  /// Octets of its answer's body at most.
  private static let bodyLimit = 64 << 10

  /// False when the exchange was answered, or waits.
  final func asks(_ external: ExternalAuthorizationConfiguration, _ passage: Passage, _ now: UInt64) -> Bool {
    ask(external, passage, until: now &+ external.timeout.nanoseconds, now)
  }

  private func ask(
    _ external: ExternalAuthorizationConfiguration, _ passage: Passage, until deadline: UInt64, _ now: UInt64
  ) -> Bool {
    guard let client = loop.shared.outside.client, let request = try? question(external, passage.gate.externalTrust)
    else {
      return allowsFailure(passage, "it cannot be asked about this request")
    }
    let task = client.execute(
      request: request, delegate: ResponseAccumulator(request: request, maxBodySize: Self.bodyLimit),
      eventLoop: .indifferent)
    wait(passage, .external(task), deadline, now)
    task.futureResult.hop(to: loop.eventLoop).assumeIsolated().whenComplete { [self] result in
      guard exchange.passage === passage, case .external = passage.wait else { return }
      passage.wait = .none
      let now = NIODeadline.now().uptimeNanoseconds
      switch result {
      case .success(let response): answered(response, external, passage, now)
      case .failure(let error): askFailed(error, external, passage, until: deadline, now)
      }
    }
    return false
  }

  /// Once, it is asked again: a connection that was kept may have been closed by the service at that moment.
  private func askFailed(
    _ error: any Error, _ external: ExternalAuthorizationConfiguration, _ passage: Passage, until deadline: UInt64,
    _ now: UInt64
  ) {
    if passage.hasAskedAgain || error is ResponseAccumulator.ResponseTooBigError || now >= deadline {
      return externalFailed(passage, Self.reason(error), now)
    }
    passage.hasAskedAgain = true
    // Other requests of this loop have been parsed since.
    exchange.head.withUnsafeReadableBytes { try? loop.request.parse($0) }
    if ask(external, passage, until: deadline, now) { resume(passage, now) }
  }

  private static func reason(_ error: any Error) -> String {
    if error is ResponseAccumulator.ResponseTooBigError { return "its answer is larger than 64 KiB" }
    return "it could not be reached, or its answer broke off"
  }

  private struct NobodyTrusted: Error {}

  private func question(
    _ external: ExternalAuthorizationConfiguration, _ trust: OutsideTrust
  ) throws -> HTTPClient.Request {
    var tls: TLSConfiguration?
    switch trust {
    case .system: break
    case .given(let given): tls = given
    case .unusable: throw NobodyTrusted()
    }
    return try exchange.head.withUnsafeReadableBytes { bytes in
      var path = String(
        decoding: exchange.isConnect ? UnsafeRawBufferPointer(rebasing: bytes[..<0]) : exchange.path.of(bytes),
        as: UTF8.self)
      if !path.hasPrefix("/") { path = "/" + path }
      let method = exchange.isConnect ? "GET" : String(decoding: exchange.methodText.of(bytes), as: UTF8.self)
      var headers = HTTPHeaders()
      let authority =
        loop.request.authority.count > 0
        ? loop.request.authority : loop.request.table.value(loop.request.table.host)
      if authority.count > 0 { headers.add(name: "Host", value: String(decoding: authority.of(bytes), as: UTF8.self)) }
      for name in external.headers {
        let found = Array(name.utf8).withUnsafeBytes { values(of: $0, bytes) }
        for value in found { headers.add(name: name, value: String(decoding: value, as: UTF8.self)) }
      }
      headers.replaceOrAdd(name: "X-Forwarded-For", value: String(decoding: clientAddress, as: UTF8.self))
      headers.replaceOrAdd(name: "X-Forwarded-Proto", value: session == nil ? "http" : "https")
      return try HTTPClient.Request(
        url: external.url + external.pathPrefix + path, method: HTTPMethod(rawValue: method), headers: headers,
        body: nil,
        tlsConfiguration: tls)
    }
  }

  private func answered(
    _ response: HTTPClient.Response, _ external: ExternalAuthorizationConfiguration, _ passage: Passage, _ now: UInt64
  ) {
    let status = Int(response.status.code)
    switch status {
    case 200...299:
      passage.gate.externalResults.allowed.add()
      for name in external.allowedHeaders {
        for value in response.headers[name] where Self.isField(name, value) {
          passage.fields += Array("\(name): \(value)\r\n".utf8)
        }
      }
      resume(passage, now)
    case 300...499:
      passage.gate.externalResults.denied.add()
      deny(response, status)
    default: externalFailed(passage, "its answer is \(status)", now)
    }
  }

  /// Passes its refusal on to the client.
  private func deny(_ response: HTTPClient.Response, _ status: Int) {
    let detail = "the authorization service answered \(status)"
    if exchange.isGRPC || accept.isTCP { return localError(.authorizerDenied, detail: detail, status: status) }
    exchange.flag = Fault.authorizerDenied.flag
    exchange.blame = Fault.authorizerDenied.blame(toApp: false)
    exchange.status = status
    let named = response.headers[canonicalForm: "connection"].map { $0.lowercased() }
    var fields = ""
    for (name, value) in response.headers where Self.isField(name, value) {
      let lower = name.lowercased()
      if Self.hopByHop.contains(lower) || named.contains(lower) { continue }
      fields += "\(name): \(value)\r\n"
    }
    fields += "Proxy-Status: outrider; error=\(Fault.authorizerDenied.proxyError); details=\"\(detail)\"\r\n"
    let body = response.body.map { Array($0.readableBytesView) } ?? []
    answer(status: status, fields: Array(fields.utf8), body: body)
  }

  private static let hopByHop: Set<String> = [
    "connection", "keep-alive", "proxy-connection", "proxy-authenticate", "te", "trailer", "transfer-encoding",
    "upgrade",
    "content-length",
  ]

  private static func isField(_ name: String, _ value: String) -> Bool {
    !name.isEmpty && name.utf8.allSatisfy { Octets.isToken($0) }
      && value.utf8.allSatisfy { $0 >= 0x20 && $0 != 0x7F || $0 == 0x09 }
  }

  /// It gave no answer that decides.
  final func externalFailed(_ passage: Passage, _ reason: String, _ now: UInt64) {
    if allowsFailure(passage, reason) { resume(passage, now) }
  }

  /// True when the request goes on all the same; otherwise it was answered.
  private func allowsFailure(_ passage: Passage, _ reason: String) -> Bool {
    passage.gate.externalResults.failed.add()
    if passage.gate.external?.failsOpen ?? false { return true }
    localError(.authorizerFailed, detail: "the authorization service: \(reason)")
    return false
  }
}
