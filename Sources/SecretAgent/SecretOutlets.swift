import Glibc
import Logging
import NIOCore
import Secrets
import Synchronization
import Telemetry

/// What stands open towards the app besides files: shared memory and the socket. One for the life of a worker; each agent
/// brings its configuration.
package final class SecretOutlets: Sendable {
  let memory: SharedMemoryDelivery
  let socket: SecretSocket
  let actions: ActionCounters

  init(
    book: SecretBook, ledger: SecretLedger, metrics: MetricRegistry, group: any EventLoopGroup, logger: Logger
  ) {
    let memory = SharedMemoryDelivery(book: book, metrics: metrics, logger: logger)
    let desk = SecretDesk(book: book, ledger: ledger, memory: memory)
    book.follow { desk.changed($0) }
    self.memory = memory
    socket = SecretSocket(desk: desk, metrics: metrics, group: group, logger: logger)
    actions = ActionCounters(metrics)
  }

  func close() {
    socket.close()
    memory.close()
  }
}

extension SecretAgent {
  /// Opens, changes and closes outlets as this agent's configuration says.
  func openOutlets() throws(FileFailure) {
    var memory = configuration.sharedMemory
    if let path = memory?.path { memory?.path = absolute(path) }
    try outlets.memory.apply(memory, stale: isStale)
    var socket = configuration.socket
    if let path = socket?.path { socket?.path = absolute(path) }
    try outlets.socket.apply(socket)
  }

  /// Whether a value of the shared memory is not as fresh as it should be.
  var isStale: Bool {
    guard let names = configuration.sharedMemory?.values else { return false }
    return ledger.statuses.contains { names.contains($0.name) && ($0.lastError != nil || $0.ttl == 0) }
  }

  /// What the app is given at its start: a descriptor of the shared memory, which becomes the caller's, and variables that
  /// tell where to get the next one.
  package func appInheritance() -> (descriptor: CInt?, variables: [(name: String, value: String)]) {
    var variables: [(name: String, value: String)] = []
    if let path = outlets.memory.path { variables.append(("OUTRIDER_SECRETS_PATH", path)) }
    if let path = configuration.socket.map({ absolute($0.path) }) {
      variables.append(("OUTRIDER_SECRETS_SOCKET", path))
    }
    return (outlets.memory.handle()?.descriptor, variables)
  }
}
