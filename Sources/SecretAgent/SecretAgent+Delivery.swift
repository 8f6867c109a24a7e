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

  /// The file's first content under this agent. Its actions when the app may know another: the file was there, with
  /// other content, or this agent follows another.
  func deliverFirst(_ index: Int) throws -> [ChangeAction] {
    let file = configuration.files[index]
    let optional = Set(configuration.values.filter { !$0.required }.map(\.name))
    let isWaiting = file.content.references.contains { optional.contains($0.name) && book.fields($0.name) == nil }
    if isWaiting {
      logger.warning("\(file.path) is not written yet: \(book.reason(file.content) ?? "a secret is missing")")
      return []
    }
    let wasThere = PlainFile.signature(absolute(file.path)) != nil
    do {
      let bytes = try book.render(file.content)
      let isWritten = try state.withLock({ $0.delivery })?.deliver(index, bytes) ?? false
      return isWritten && (wasThere || inheritance != nil) ? file.onChange : []
    } catch let error as SecretTemplateError {
      throw SecretStartError(description: "\(file.path): \(error)")
    }
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
    for (index, file) in configuration.files.enumerated()
    where file.content.references.contains(where: { names.contains($0.name) }) {
      do {
        let bytes = try book.render(file.content)
        if try state.withLock({ $0.delivery })?.deliver(index, bytes) == true { actions += file.onChange }
      } catch {
        failures.append("\(file.path): \(error)")
      }
    }
    return (actions, failures)
  }

  func watch() async {
    while !Task.isCancelled {
      try? await Task.sleep(for: timings.watch)
      if Task.isCancelled { return }
      state.withLock { $0.delivery }?.restore(logger)
      outlets.memory.update(stale: isStale)
    }
  }
}
