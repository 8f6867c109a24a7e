import HTTP1
import NIOCore
import Synchronization
import Telemetry
import Traffic
import Transport

/// Verifying the token of a request.
extension ExchangeDriver {
  /// How long a request waits for a key set that is fetched for its key.
  private static let keyWait: UInt64 = 5_000_000_000

  /// False when the exchange was answered, or waits for keys.
  final func takesToken(_ gate: CompiledGate, _ passage: Passage, _ now: UInt64) -> Bool {
    guard let jwt = gate.jwt else { return true }
    do throws(JWTFailure) {
      guard let token = try token(jwt.verifier.configuration.places) else {
        if jwt.verifier.configuration.required { throw .missing }
        return true
      }
      let verified = try verified(token, jwt)
      gate.jwtResults.allowed.add()
      passage.claims = verified.claims
      passage.fields += verified.fields
      return true
    } catch {
      let mayHeal = (error == .unknownKey || error == .noKeys) && !passage.hasAskedForKeys
      if mayHeal, asksForKeys(jwt, passage, now) { return false }
      refuse(error, gate)
      return false
    }
  }

  private func token(_ places: [JWTConfiguration.Place]) throws(JWTFailure) -> [UInt8]? {
    let found: Result<[UInt8]?, JWTFailure> = exchange.head.withUnsafeReadableBytes { bytes in
      let path = exchange.path.of(bytes)
      let query = UnsafeRawBufferPointer(rebasing: path[min(exchange.pathOnlyCount + 1, path.count)...])
      do throws(JWTFailure) {
        return .success(try JWTPlaces.find(places, query: query) { values(of: $0, bytes) })
      } catch {
        return .failure(error)
      }
    }
    return try found.get()
  }

  private func verified(_ token: [UInt8], _ jwt: TokenGate) throws(JWTFailure) -> VerifiedToken {
    guard token.count <= JWTToken.limit else { throw .tooLong }
    let now = Moment.now
    // Before the set itself: what is remembered is never taken for newer than it is.
    let version = jwt.source.version.load(ordering: .acquiring)
    if let known = loop.tokens.find(token, gate: jwt.number, version: version, now: now) { return known }
    let parsed = try JWTToken(token)
    guard let keys = jwt.source.current else { throw .noKeys }
    let verified = try jwt.verifier.verify(parsed, keys, now: now)
    loop.tokens.keep(verified, of: token, gate: jwt.number, version: version)
    return verified
  }

  /// True when the key set is being fetched for this request, which goes on when that is over.
  private func asksForKeys(_ jwt: TokenGate, _ passage: Passage, _ now: UInt64) -> Bool {
    passage.hasAskedForKeys = true
    let eventLoop = loop.eventLoop
    let bound = NIOLoopBound((self, passage), eventLoop: eventLoop)
    let isComing = jwt.source.refresh(now) {
      eventLoop.execute {
        let (driver, passage) = bound.value
        driver.keysArrived(passage)
      }
    }
    if isComing { wait(passage, .keys, now &+ Self.keyWait, now) }
    return isComing
  }

  private func keysArrived(_ passage: Passage) {
    guard case .keys = passage.wait else { return }
    resume(passage, NIODeadline.now().uptimeNanoseconds)
  }

  private func refuse(_ failure: JWTFailure, _ gate: CompiledGate) {
    switch failure {
    case .noKeys:
      gate.jwtResults.failed.add()
      localError(.keysUnavailable, detail: failure.description)
    case .audience:
      gate.jwtResults.denied.add()
      localError(.wrongAudience, detail: failure.description)
    default:
      gate.jwtResults.denied.add()
      // RFC 6750 section 3.1: who sent no token is not told of an error.
      let challenge =
        failure == .missing
        ? "Bearer" : "Bearer error=\"invalid_token\", error_description=\"\(failure.description)\""
      localError(.unauthenticated, detail: failure.description, fields: "WWW-Authenticate: \(challenge)\r\n")
    }
  }
}
