package import Logs
package import Secrets
package import Supervisor
package import Traffic

/// The whole of a validated configuration, with every default filled in.
package struct OutriderConfiguration: Sendable, Equatable {
  package var app = AppConfiguration()
  package var traffic = TrafficConfiguration()
  package var logs = LogsConfiguration()
  package var secrets = SecretsConfiguration()
  package var admin = AdminConfiguration()
  package var shutdown = ShutdownConfiguration()
  /// Prometheus endpoints of the app whose metrics stand beside ours.
  package var scrape: [String] = []
  /// The state directory: `--state`, `state:`, or the default of the contract.
  package var stateDirectory = ""
  package init() {}
}
