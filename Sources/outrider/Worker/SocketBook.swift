import Glibc
import Supervisor
import Vocabulary

/// The sockets that the supervisor binds for this worker: asked for once, given once, listening when told.
struct SocketBook {
  private let link: SupervisorLink
  private var nextID: UInt32 = 1
  private var waiting:
    [UInt32: (subject: String, continuation: AsyncStream<Result<[CInt], StartFailure>>.Continuation)] = [:]
  private var descriptors: [Address: [CInt]] = [:]
  private var requests: [Address: UInt32] = [:]

  init(link: SupervisorLink) { self.link = link }

  /// Begins a request; the stream gives the one answer.
  mutating func request(_ addresses: [Address], for subject: String) -> AsyncStream<Result<[CInt], StartFailure>> {
    let id = nextID
    nextID += 1
    let (stream, continuation) = AsyncStream<Result<[CInt], StartFailure>>.makeStream()
    waiting[id] = (subject, continuation)
    for address in addresses { requests[address] = id }
    link.send(.bind(id: id, addresses: addresses))
    return stream
  }

  mutating func bound(_ id: UInt32, _ addresses: [Address], _ given: [CInt]) {
    guard let entry = waiting.removeValue(forKey: id) else {
      for descriptor in given { close(descriptor) }
      return
    }
    for (address, descriptor) in zip(addresses, given) { descriptors[address, default: []].append(descriptor) }
    entry.continuation.yield(.success(given))
    entry.continuation.finish()
  }

  mutating func failed(_ id: UInt32, _ address: Address, _ reason: String) {
    guard let entry = waiting.removeValue(forKey: id) else { return }
    entry.continuation.yield(
      .failure(
        StartFailure(
          description: "\(entry.subject) cannot listen on \(address): \(reason)", exitCode: ExitStatus.unavailable)))
    entry.continuation.finish()
  }

  /// Makes the sockets of the request that holds this address listen.
  func listen(_ address: Address) {
    if let id = requests[address] { link.send(.listen(id: id)) }
  }

  /// Gives up sockets that were given and not taken.
  mutating func discard(_ addresses: [Address]) {
    for address in addresses {
      for descriptor in take(address) { close(descriptor) }
      requests[address] = nil
    }
  }

  /// The descriptors of an address, once; the caller owns them.
  mutating func take(_ address: Address) -> [CInt] { descriptors.removeValue(forKey: address) ?? [] }
}
