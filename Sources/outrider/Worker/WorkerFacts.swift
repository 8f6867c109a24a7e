import ConfigurationFile
import Glibc
import Supervisor
import Synchronization
import Traffic

/// What is known of the life, for health and status; written by the worker, read by any task.
final class WorkerFacts: Sendable {
  struct Facts: Sendable {
    var loaded: LoadedConfiguration
    var state = LifecycleState.initializing.rawValue
    var outboundReady = false
    var draining = false
    /// Taken out of service by `outrider drain`.
    var drained: Set<ListenerID> = []
    var appPID: Int32?
    var appReady = false
    /// The app was ready once, under this worker or an earlier one.
    var wasReady = false
    var appReason = "the app is not started yet"
    var restarts = 0
    var open: Set<String> = []
    var lastReloadError: String?
    var run = RunFacts()
  }

  private let facts: Mutex<Facts>
  let started = ContinuousClock.now

  init(loaded: LoadedConfiguration) { facts = Mutex(Facts(loaded: loaded)) }

  var now: Facts { facts.withLock { $0 } }

  func change(_ edit: (inout Facts) -> Void) { facts.withLock { edit(&$0) } }
}
