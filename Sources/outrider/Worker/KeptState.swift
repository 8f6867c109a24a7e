import ConfigurationFile
import SecretAgent
import Supervisor
import Synchronization

/// What outlives a worker, in memory that the supervisor keeps: the configuration in use, and secret ids that were
/// unwrapped, which nobody can unwrap again.
final class KeptState: Sendable {
  private let memory: KeptMemory
  private let image: Mutex<ConfigurationImage>

  /// Reads what the worker before has left.
  init?(_ memory: KeptMemory?) {
    guard let memory else { return nil }
    self.memory = memory
    image = Mutex(memory.read().flatMap(ConfigurationImage.init) ?? ConfigurationImage())
  }

  /// The configuration that was applied last; nil = none yet.
  var configuration: ConfigurationImage? { image.withLock { $0.configuration } }

  /// Keeps a configuration in place of the former one.
  func write(_ configuration: ConfigurationImage) {
    image.withLock { image in
      let extras = image.extras
      image = configuration
      image.extras = extras
      memory.write(image.bytes)
    }
  }

  /// Keeps no configuration any more.
  func clear() { write(ConfigurationImage()) }

  /// Secret ids, by the name of their store.
  var logins: KeptLogins {
    KeptLogins(
      known: { [self] store in image.withLock { $0.extras["secret-id/\(store)"] } },
      keep: { [self] store, bytes in
        image.withLock { image in
          image.extras["secret-id/\(store)"] = bytes
          memory.write(image.bytes)
        }
      })
  }
}
