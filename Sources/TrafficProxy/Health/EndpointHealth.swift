import NIOCore
import Synchronization

/// How requests to one endpoint end, as all loops see it together. The plain path reads one number.
final class EndpointHealth: Sendable {
  /// What one loop counts, where success rates are compared; only that loop writes it.
  final class Tally: Sendable {
    let requests = Atomic<UInt64>(0)
    let failures = Atomic<UInt64>(0)

    @inline(__always)
    func count(failed: Bool) {
      requests.store(requests.load(ordering: .relaxed) &+ 1, ordering: .relaxed)
      if failed { failures.store(failures.load(ordering: .relaxed) &+ 1, ordering: .relaxed) }
    }
  }

  /// The cluster's number for it.
  let id: Int
  let address: SocketAddress
  /// Failures in a row that are too many; `.max` = they are not looked at.
  private let limit: Int
  private let streak = Atomic<Int>(0)
  private let available: Atomic<Bool>
  private let tallies = Mutex<[Tally]>([])

  init(id: Int, address: SocketAddress, limit: Int, isAvailable: Bool) {
    self.id = id
    self.address = address
    self.limit = limit
    available = Atomic(isAvailable)
  }

  /// Neither unhealthy nor ejected.
  var isAvailable: Bool { available.load(ordering: .relaxed) }

  func set(isAvailable: Bool) {
    // Who comes back begins anew.
    if isAvailable { streak.store(0, ordering: .relaxed) }
    available.store(isAvailable, ordering: .relaxed)
  }

  @inline(__always)
  func succeeded() {
    if streak.load(ordering: .relaxed) != 0 { streak.store(0, ordering: .relaxed) }
  }

  /// The length of a streak that is too long; nil while it is not.
  func failed() -> Int? {
    let length = streak.wrappingAdd(1, ordering: .relaxed).newValue
    return length >= limit ? length : nil
  }

  /// A tally for one more loop.
  func tally() -> Tally {
    let fresh = Tally()
    tallies.withLock { $0.append(fresh) }
    return fresh
  }

  /// That loop no longer has the endpoint.
  func drop(_ tally: Tally) { tallies.withLock { $0.removeAll { $0 === tally } } }

  /// What all loops have counted so far.
  var counted: (requests: UInt64, failures: UInt64) {
    tallies.withLock { list in
      var sum: (requests: UInt64, failures: UInt64) = (0, 0)
      for tally in list {
        sum.requests &+= tally.requests.load(ordering: .relaxed)
        sum.failures &+= tally.failures.load(ordering: .relaxed)
      }
      return sum
    }
  }
}
