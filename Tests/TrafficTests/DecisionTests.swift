import Resilience
import Testing
import Vocabulary

@testable import Traffic

@Suite struct RouteTableTests {
  func route(_ edit: (inout RouteConfiguration.Match) -> Void) -> RouteConfiguration {
    var route = RouteConfiguration(action: .cluster("c"))
    edit(&route.match)
    return route
  }

  func match(
    _ table: RouteTable, _ host: String, _ path: String, _ method: String = "GET", _ fields: [String: String] = [:]
  ) -> Int? {
    let values = fields.mapValues { Array($0.utf8) }
    return Array(host.utf8).withUnsafeBytes { host in
      Array(path.utf8).withUnsafeBytes { path in
        Array(method.utf8).withUnsafeBytes { method in
          table.match(RouteQuery(host: host, path: path, method: method)) { name in
            guard let value = values[String(decoding: name, as: UTF8.self)] else { return nil }
            let copy = UnsafeMutableRawBufferPointer.allocate(byteCount: value.count, alignment: 1)
            copy.copyBytes(from: value)
            return UnsafeRawBufferPointer(copy)
          }
        }
      }
    }
  }

  @Test func firstMatchWins() {
    let table = RouteTable([
      route { $0.path = .exact("/exact") },
      route {
        $0.path = .prefix("/api/")
        $0.methods = ["POST", "PUT"]
      },
      route { $0.path = .prefix("/api/") },
      route { $0.host = "*.Example.com" },
      route {
        $0.host = "shop.test"
        $0.headers = [.init("X-Canary", "yes")]
      },
      route { $0.host = "shop.test" },
    ])
    #expect(match(table, "h", "/exact") == 0)
    #expect(match(table, "h", "/exact/") == nil)
    #expect(match(table, "h", "/api/x", "PUT") == 1)
    #expect(match(table, "h", "/api/x") == 2)
    #expect(match(table, "h", "/api") == 2)
    #expect(match(table, "h", "/apix") == nil)
    #expect(match(table, "a.EXAMPLE.com", "/") == 3)
    #expect(match(table, "example.com", "/") == nil)
    #expect(match(table, "SHOP.test", "/", "GET", ["x-canary": "yes"]) == 4)
    #expect(match(table, "shop.test", "/", "GET", ["x-canary": "no"]) == 5)
    #expect(match(RouteTable([route { _ in }]), "", "") == 0)
  }
}

@Suite struct RetryPolicyTests {
  func state(_ edit: (inout TryState) -> Void = { _ in }) -> TryState {
    var state = TryState()
    edit(&state)
    return state
  }

  @Test func defaultsAreSafe() {
    let policy = RetryPolicy(RetryConfiguration())
    #expect(policy.decide(.connect, state(), budgetAllows: true) == .retry(attempt: 0))
    #expect(policy.decide(.connect, state { $0.isIdempotent = false }, budgetAllows: true) == .retry(attempt: 0))
    #expect(policy.decide(.connect, state { $0.retries = 1 }, budgetAllows: true) == .giveUp)
    #expect(policy.decide(.connect, state(), budgetAllows: false) == .giveUp)
    #expect(policy.decide(.reset, state { $0.requestWritten = true }, budgetAllows: true) == .giveUp)
    #expect(!policy.mayRetry(status: 503))
  }

  @Test func staleConnectionsAreReplayedOnce() {
    let policy = RetryPolicy(RetryConfiguration())
    let stale = state {
      $0.reusedConnection = true
      $0.requestWritten = true
    }
    #expect(policy.decide(.reset, stale, budgetAllows: false) == .replay)
    var again = stale
    again.replayed = true
    #expect(policy.decide(.reset, again, budgetAllows: true) == .giveUp)
    var post = stale
    post.isIdempotent = false
    #expect(policy.decide(.reset, post, budgetAllows: true) == .giveUp)
    post.requestWritten = false
    #expect(policy.decide(.reset, post, budgetAllows: true) == .replay)
    var answered = stale
    answered.responseSeen = true
    #expect(policy.decide(.reset, answered, budgetAllows: true) == .giveUp)
    var lost = stale
    lost.bodyKept = false
    #expect(policy.decide(.reset, lost, budgetAllows: true) == .giveUp)
  }

  @Test func aPostIsNeverSentTwiceWhateverTheConditions() {
    var configuration = RetryConfiguration()
    configuration.attempts = 5
    configuration.conditions = Set(RetryConfiguration.Condition.allCases)
    let policy = RetryPolicy(configuration)
    for failure in [TryFailure.connect, .reset, .timeout, .status(503)] {
      for reused in [true, false] {
        let post = state {
          $0.isIdempotent = false
          $0.requestWritten = true
          $0.reusedConnection = reused
        }
        #expect(policy.decide(failure, post, budgetAllows: true) == .giveUp)
      }
    }
    let get = state {
      $0.requestWritten = true
      $0.responseSeen = true
    }
    #expect(policy.decide(.status(503), get, budgetAllows: true) == .retry(attempt: 0))
  }
}

@Suite struct FaultTests {
  @Test func everyFaultIsAnErrorWithAToken() {
    for fault in Fault.allCases {
      #expect((400...599).contains(fault.status))
      #expect(fault.reason.utf8CodeUnitCount > 0 && fault.flag.utf8CodeUnitCount > 0)
    }
    #expect(Fault.connectionRefused.blame(toApp: true) == .app)
    #expect(Fault.connectionRefused.blame(toApp: false) == .upstream)
  }
}
