import CLinux
import Glibc
import Logging
import Resilience
import Secrets
import Synchronization
import Vocabulary

/// From changed values to files and change actions.
extension SecretAgent {
  func changed(_ names: [String]) {
    state.withLock { $0.pending.formUnion(names) }
    changes.ring()
  }

  /// Directories of files with secrets that are not in memory, each once.
  func warnOfDisks() {
    let secret = configuration.files.filter { !$0.secretNames.isEmpty }
    let directories = Set(secret.map { PlainFile.parent(of: absolute($0.path)) })
    for directory in directories.sorted() where outrider_is_memory_file_system(directory) == 0 {
      logger.warning("secrets.files: \(directory) is on a disk; a directory on a tmpfs (/run, /dev/shm) is not")
    }
  }

  /// The first content of every file under this agent. Their actions when the app may know another: the file was there,
  /// with other content, or this agent follows another.
  func deliverFirst(keepGoing: Bool = false) throws -> [ChangeAction] {
    var actions: [ChangeAction] = []
    guard let delivery = state.withLock({ $0.delivery }) else { return [] }
    let optional = Set(configuration.values.filter { !$0.required }.map(\.name))
    for unit in delivery.units {
      let files = unit.map { configuration.files[$0] }
      let names = files.reduce(into: Set<String>()) { $0.formUnion($1.secretNames) }
      if let missing = names.sorted().first(where: { optional.contains($0) && book.fields($0) == nil }) {
        logger.warning("\(files[0].path) is not written yet: the secret `\(missing)` is missing")
        continue
      }
      let present = Set(unit.filter { PlainFile.signature(absolute(configuration.files[$0].path)) != nil })
      do {
        let changed = try deliver(unit, delivery)
        for index in changed where present.contains(index) || inheritance != nil {
          actions += configuration.files[index].onChange
        }
      } catch {
        guard keepGoing else { throw error }
        logger.error("\(error)")
      }
    }
    return actions
  }

  /// Writes a unit; the indices of files whose content is new. The error names the file.
  private func deliver(_ unit: [Int], _ delivery: FileDelivery) throws -> [Int] {
    var texts: [[UInt8]] = []
    defer { for text in texts { text.erase() } }
    for index in unit {
      do {
        texts.append(try render(index))
      } catch let error as BlockTemplate.Problem {
        throw SecretStartError(description: "\(configuration.files[index].path): the template's \(error)")
      } catch {
        throw SecretStartError(description: "\(configuration.files[index].path): \(error)")
      }
    }
    return try delivery.deliver(unit, texts)
  }

  /// A file's content, which is the caller's to erase.
  private func render(_ index: Int) throws -> [UInt8] {
    let file = configuration.files[index]
    guard let blocks = file.blocks else { return try book.render(file.content) }
    return try book.render(blocks) { name in getenv(name).map { String(cString: $0) } }
  }

  func deliverChanges() async {
    var random = SeededRandom()
    var backoff = FailureBackoff(first: timings.retry)
    // Actions of what was written while something else could not be.
    var held: [ChangeAction] = []
    while !Task.isCancelled {
      guard await changes.wait(for: .seconds(3600)) else { continue }
      try? await Task.sleep(for: timings.debounce)
      if Task.isCancelled { return }
      let names = state.withLock { state in
        defer { state.pending = [] }
        return state.pending
      }
      if names.isEmpty { continue }
      outlets.memory.update(stale: isStale)
      let (actions, failures) = deliver(names)
      held += actions
      if failures.isEmpty {
        backoff.reset()
        var seen: Set<ChangeAction> = []
        await runner.request(held.filter { seen.insert($0).inserted })
        held = []
      } else {
        let wait = backoff.failed(using: &random)
        for failure in failures { logger.error("\(failure); tried again in \(wait)") }
        state.withLock { $0.pending.formUnion(names) }
        _ = await changes.wait(for: wait)
        changes.ring()
      }
    }
  }

  /// Writes the files that refer to changed secrets; the actions that follow, in the order written.
  private func deliver(_ names: Set<String>) -> (actions: [ChangeAction], failures: [String]) {
    var actions: [ChangeAction] = []
    var failures: [String] = []
    for value in configuration.values where names.contains(value.name) { actions += value.onChange }
    guard let delivery = state.withLock({ $0.delivery }) else { return (actions, failures) }
    for unit in delivery.units
    where unit.contains(where: { !configuration.files[$0].secretNames.isDisjoint(with: names) }) {
      let secrets = unit.reduce(into: Set<String>()) { $0.formUnion(configuration.files[$1].secretNames) }
      var failure: String?
      do {
        for index in try deliver(unit, delivery) { actions += configuration.files[index].onChange }
      } catch {
        failure = "\(error)"
      }
      ledger.note("file \(configuration.files[unit[0]].path)", of: secrets, failure)
      if let failure { failures.append(failure) }
    }
    return (actions, failures)
  }

  func watch() async {
    while !Task.isCancelled {
      try? await Task.sleep(for: timings.watch)
      if Task.isCancelled { return }
      state.withLock { $0.delivery }?.restore(logger) { try render($0) }
      outlets.memory.update(stale: isStale)
    }
  }
}

extension SecretsConfiguration {
  /// Names of the secrets whose change leads to an action.
  func secrets(with action: ChangeAction) -> Set<String> {
    let direct = values.filter { $0.onChange.contains(action) }.map(\.name)
    return files.filter { $0.onChange.contains(action) }.reduce(into: Set(direct)) { $0.formUnion($1.secretNames) }
  }
}
