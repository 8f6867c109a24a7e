import Logs
import Secrets
import Supervisor
import Traffic

/// What a new configuration changes, so that a reload touches only that.
package struct ConfigurationDiff: Sendable, Equatable {
  package enum Part: String, Sendable, CaseIterable {
    case app, inbound, outbound, clusters, threads, sources, transforms, spool, sinks, stores, values, files, admin
    case shutdown, state
  }

  package struct Change: Sendable, Equatable {
    package var part: Part
    /// Names of what was added, removed or changed; empty where parts have no names.
    package var names: [String]
  }

  package var changes: [Change] = []
  /// The command, directory, user, group, variables or address of the app differ.
  package var needsAppRestart = false
  /// What only a new process can take: threads, the state directory, the spool's path.
  package var needsSidecarRestart = false

  package var isEmpty: Bool { changes.isEmpty }
  package var parts: Set<Part> { Set(changes.map(\.part)) }

  /// One line, for example `inbound (web), sinks (es)`; `nothing` when equal.
  package var summary: String {
    if isEmpty { return "nothing" }
    return changes.map {
      $0.names.isEmpty ? $0.part.rawValue : "\($0.part.rawValue) (\($0.names.joined(separator: ", ")))"
    }
    .joined(separator: ", ")
  }

  fileprivate mutating func add<T: Equatable>(_ part: Part, _ old: T, _ new: T) {
    if old != new { changes.append(Change(part: part, names: [])) }
  }

  fileprivate mutating func add<T: Equatable>(_ part: Part, _ old: [T], _ new: [T], name: (T) -> String) {
    guard old != new else { return }
    let changed = new.filter { !old.contains($0) } + old.filter { !new.contains($0) }
    changes.append(Change(part: part, names: Set(changed.map(name)).sorted()))
  }
}

extension OutriderConfiguration {
  /// What differs between `old` and this configuration.
  package func changes(from old: OutriderConfiguration) -> ConfigurationDiff {
    var diff = ConfigurationDiff()
    diff.add(.app, old.app, app)
    diff.add(.inbound, old.traffic.inbound, traffic.inbound, name: \.name)
    diff.add(.outbound, old.traffic.outbound, traffic.outbound, name: \.name)
    diff.add(.clusters, old.traffic.clusters, traffic.clusters, name: \.name)
    diff.add(.threads, old.traffic.threads, traffic.threads)
    diff.add(.sources, old.logs.sources, logs.sources, name: \.name)
    diff.add(.transforms, old.logs.transforms, logs.transforms)
    diff.add(.spool, old.logs.spool, logs.spool)
    diff.add(.sinks, old.logs.sinks, logs.sinks, name: \.name)
    diff.add(.stores, old.secrets.stores, secrets.stores, name: \.name)
    diff.add(.values, old.secrets.values, secrets.values, name: \.name)
    diff.add(.files, old.secrets.files, secrets.files, name: \.path)
    diff.add(.admin, old.admin, admin)
    diff.add(.shutdown, old.shutdown, shutdown)
    diff.add(.state, old.stateDirectory, stateDirectory)
    diff.needsAppRestart = app.startsDifferently(from: old.app)
    diff.needsSidecarRestart =
      old.stateDirectory != stateDirectory || old.traffic.threads != traffic.threads
      || old.logs.spool.path != logs.spool.path
    return diff
  }
}

extension AppConfiguration {
  /// Whether a running app would have to be started again to match.
  fileprivate func startsDifferently(from old: AppConfiguration) -> Bool {
    command != old.command || workingDirectory != old.workingDirectory || user != old.user || group != old.group
      || environment != old.environment || port != old.port || address != old.address
  }
}
