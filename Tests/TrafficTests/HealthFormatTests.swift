import Testing

@testable import Traffic

@Suite struct GRPCHealthTests {
  private func status(_ message: [UInt8], length: Int? = nil) -> GRPCHealth.Serving? {
    let frame: [UInt8] = [0, 0, 0, 0, UInt8(length ?? message.count)] + message
    return frame.withUnsafeBytes { GRPCHealth.status($0) }
  }

  @Test func requestsAreFramedMessages() {
    #expect(GRPCHealth.request(service: "") == [0, 0, 0, 0, 0])
    #expect(GRPCHealth.request(service: "a.B") == [0, 0, 0, 0, 5, 0x0A, 3, 0x61, 0x2E, 0x42])
    let long = GRPCHealth.request(service: String(repeating: "x", count: 300))
    #expect(long.prefix(8) == [0, 0, 0, 1, 0x2F, 0x0A, 0xAC, 2] && long.count == 5 + 303)
  }

  @Test func statuses() {
    #expect(status([]) == .unknown)
    #expect(status([8, 1]) == .serving)
    #expect(status([8, 2]) == .notServing)
    #expect(status([8, 3]) == .serviceUnknown)
    #expect(status([8, 0x80, 1]) == .other(128))
    // Fields that are not known are passed over, and the last of a field counts.
    #expect(
      status([0x12, 2, 0xFF, 0xFF, 0x19, 1, 2, 3, 4, 5, 6, 7, 8, 0x25, 1, 2, 3, 4, 0x30, 0xFF, 1, 8, 2, 8, 1])
        == .serving)
  }

  @Test func whatIsNoResponse() {
    #expect(status([8]) == nil)
    #expect(status([8, 0x80]) == nil)
    #expect(status([8, 1], length: 3) == nil)
    #expect(status([8, 1, 9], length: 2) == nil)
    #expect(status([0x12, 5, 1]) == nil)
    #expect(status([0x13]) == nil, "groups")
    #expect(status([0, 1]) == nil, "field 0")
    #expect(status([8] + [UInt8](repeating: 0x80, count: 10) + [1]) == nil)
    #expect([1, 0, 0, 0, 2, 8, 1].withUnsafeBytes { GRPCHealth.status($0) } == nil, "compressed")
    #expect([UInt8]().withUnsafeBytes { GRPCHealth.status($0) } == nil)
  }
}

@Suite struct RetryAfterTests {
  private func seconds(_ text: String, now: Int64 = 0) -> Int64? {
    Array(text.utf8).withUnsafeBytes { RetryAfter.seconds($0, now: now) }
  }

  @Test(arguments: [
    // The example of RFC 9110 section 5.6.7 in its three forms.
    "Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994",
  ])
  func dates(text: String) {
    #expect(seconds(text) == 784_111_777)
    #expect(seconds(text, now: 784_111_700) == 77)
    #expect(seconds(text, now: 784_111_778) == 0)
  }

  @Test func moreDates() {
    #expect(seconds("Thu, 01 Jan 1970 00:00:00 GMT") == 0)
    #expect(seconds("Thu, 29 Feb 2024 23:59:60 GMT") == 1_709_251_200)
    #expect(seconds("Fri, 31 Dec 1999 23:59:59 GMT") == 946_684_799)
    #expect(seconds("Tue, 24 Nov 2026 23:05:01 GMT") == 1_795_561_501)
  }

  @Test func plainSeconds() {
    #expect(seconds("0") == 0 && seconds("120") == 120)
    #expect(seconds("99999999999999999999999999") == 1 << 40)
  }

  @Test(arguments: [
    "", " ", "-1", "1.5", "1 ", "soon", "Sun, 06 Nov 1994 08:49:37", "Sun, 06 Nov 1994 08:49:37 CET",
    "Sun, 32 Nov 1994 08:49:37 GMT", "Sun, 06 Nvo 1994 08:49:37 GMT", "Sun, 06 Nov 1994 24:49:37 GMT",
    "Son, 06 Nov 1994 08:49:37 GMT", "Sun, 06 Nov 194 08:49:37 GMT", "Sun, 06 Nov 1994 8:49:37 GMT",
    "Sun, 06 Nov 1994 08:49:37 GMT and so on and so forth",
  ])
  func whatIsNoTime(text: String) { #expect(seconds(text) == nil) }
}

@Suite struct RetryConditionTests {
  private func policy(_ edit: (inout RetryConfiguration) -> Void) -> RetryPolicy {
    var configuration = RetryConfiguration()
    edit(&configuration)
    return RetryPolicy(configuration)
  }

  private func decide(_ policy: RetryPolicy, _ failure: TryFailure, idempotent: Bool = true) -> RetryDecision {
    var state = TryState()
    state.isIdempotent = idempotent
    state.requestWritten = true
    state.responseSeen = true
    return policy.decide(failure, state, budgetAllows: true)
  }

  @Test func namedStatuses() {
    let policy = policy {
      $0.conditions.insert(.retriableStatusCodes)
      $0.statuses = [409, 302]
    }
    #expect(policy.leastStatus == 302)
    #expect([302, 409].allSatisfy(policy.mayRetry(status:)))
    #expect(![200, 301, 404, 429, 500, 503].contains(where: policy.mayRetry(status:)))
    #expect(decide(policy, .status(409)) == .retry(attempt: 0))
    #expect(decide(policy, .status(409), idempotent: false) == .giveUp)
    #expect(decide(policy, .status(503)) == .giveUp)
    let unasked = self.policy { $0.statuses = [409] }
    #expect(!unasked.mayRetry(status: 409) && unasked.leastStatus == 400)
  }

  @Test func markedResponses() {
    let policy = policy {
      $0.conditions.insert(.retriableHeaders)
      $0.responseHeaders = [.init(name: "X-Retry", value: nil), .init(name: "X-Kind", value: "busy")]
    }
    func marked(_ name: String, _ value: String) -> Bool {
      let octets = Array(value.utf8)
      return octets.withUnsafeBytes { bytes in
        policy.isMarked { $0.elementsEqual(name.utf8) ? bytes : nil }
      }
    }
    #expect(policy.leastStatus == 0)
    #expect(marked("x-retry", "") && marked("x-retry", "anything") && marked("x-kind", "busy"))
    #expect(!marked("x-kind", "busy!") && !marked("x-other", "busy"))
    #expect(decide(policy, .marked(200)) == .retry(attempt: 0))
    #expect(decide(policy, .marked(200), idempotent: false) == .giveUp)
  }
}
