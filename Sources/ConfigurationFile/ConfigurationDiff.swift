import Logs
import Secrets
import Supervisor
import Traffic

/// What a new configuration changes, so that a reload touches only that.
package struct ConfigurationDiff: Sendable, Equatable {
  package enum Part: String, Sendable, CaseIterable {
    case app, inbound, outbound, clusters, resolvers, threads, sources, transforms, spool, sinks, stores, values, files,
      delivery, admin
    case shutdown, state, tracing, stories, scrape, metrics
    /// Whatever has no part of its own here.
    case other
  }

  package struct Change: Sendable, Equatable {
    package var part: Part
    /// Names of what was added, removed or changed; empty where parts have no names.
    package var names: [String]
  }

  package var changes: [Change] = []
  /// The command, directory, user, group, variables or address of the app differ.
  package var needsAppRestart = false
  /// What only a new worker can take, by key: `state`, `threads`, `logs.spool.path`.
  package var waitsForProcess: [String] = []
  package var needsSidecarRestart: Bool { !waitsForProcess.isEmpty }

  package var isEmpty: Bool { changes.isEmpty }
  package var parts: Set<Part> { Set(changes.map(\.part)) }

  /// Whether one of these parts has changed, or something that has no part of its own.
  package func touches(_ parts: Part...) -> Bool { !self.parts.isDisjoint(with: parts + [.other]) }

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
    diff.add(.resolvers, old.traffic.resolvers, traffic.resolvers)
    diff.add(.threads, old.traffic.threads, traffic.threads)
    diff.add(.tracing, old.traffic.tracing, traffic.tracing)
    diff.add(.metrics, old.traffic.metricPush, traffic.metricPush)
    diff.add(.stories, old.traffic.stories, traffic.stories)
    diff.add(.sources, old.logs.sources, logs.sources, name: \.name)
    diff.add(.transforms, old.logs.transforms, logs.transforms)
    diff.add(.spool, old.logs.spool, logs.spool)
    diff.add(.sinks, old.logs.sinks, logs.sinks, name: \.name)
    diff.add(.stores, old.secrets.stores, secrets.stores, name: \.name)
    diff.add(.values, old.secrets.values, secrets.values, name: \.name)
    diff.add(.files, old.secrets.files, secrets.files, name: \.path)
    diff.add(
      .delivery, Delivery(memory: old.secrets.sharedMemory, socket: old.secrets.socket),
      Delivery(memory: secrets.sharedMemory, socket: secrets.socket))
    diff.add(.admin, old.admin, admin)
    diff.add(.shutdown, old.shutdown, shutdown)
    diff.add(.scrape, old.scrape, scrape)
    diff.add(.state, old.stateDirectory, stateDirectory)
    diff.add(.other, old, rest(of: old))
    diff.needsAppRestart = app.startsDifferently(from: old.app)
    if old.stateDirectory != stateDirectory { diff.waitsForProcess.append("state") }
    if old.traffic.threads != traffic.threads { diff.waitsForProcess.append("threads") }
    if old.logs.spool.path != logs.spool.path { diff.waitsForProcess.append("logs.spool.path") }
    return diff
  }

  /// This configuration with what only a new worker can take as it is in `old`.
  package func keepingProcess(of old: OutriderConfiguration) -> OutriderConfiguration {
    var kept = self
    kept.stateDirectory = old.stateDirectory
    kept.traffic.threads = old.traffic.threads
    kept.logs.spool.path = old.logs.spool.path
    return kept
  }

  /// This configuration with every part that the diff names as it is in `old`: equal to it, unless something is new in
  /// the house that the diff does not know.
  private func rest(of old: OutriderConfiguration) -> OutriderConfiguration {
    var rest = self
    rest.app = old.app
    rest.traffic.inbound = old.traffic.inbound
    rest.traffic.outbound = old.traffic.outbound
    rest.traffic.clusters = old.traffic.clusters
    rest.traffic.resolvers = old.traffic.resolvers
    rest.traffic.threads = old.traffic.threads
    rest.traffic.tracing = old.traffic.tracing
    rest.traffic.metricPush = old.traffic.metricPush
    rest.traffic.stories = old.traffic.stories
    rest.logs.sources = old.logs.sources
    rest.logs.transforms = old.logs.transforms
    rest.logs.spool = old.logs.spool
    rest.logs.sinks = old.logs.sinks
    // Only `outrider validate --test` looks at them.
    rest.logs.tests = old.logs.tests
    rest.secrets.stores = old.secrets.stores
    rest.secrets.values = old.secrets.values
    rest.secrets.files = old.secrets.files
    rest.secrets.sharedMemory = old.secrets.sharedMemory
    rest.secrets.socket = old.secrets.socket
    rest.admin = old.admin
    rest.scrape = old.scrape
    rest.shutdown = old.shutdown
    rest.stateDirectory = old.stateDirectory
    return rest
  }
}

/// Shared memory and the socket of secrets.
private struct Delivery: Equatable {
  var memory: SharedMemoryConfiguration?
  var socket: SecretSocketConfiguration?
}

extension AppConfiguration {
  /// Whether a running app would have to be started again to match.
  fileprivate func startsDifferently(from old: AppConfiguration) -> Bool {
    command != old.command || workingDirectory != old.workingDirectory || user != old.user || group != old.group
      || environment != old.environment || port != old.port || address != old.address
  }
}
