import Glibc
import Logging
import Logs
import NIOCore
import Synchronization
import Telemetry
import Vocabulary

/// Reads the spool, sends batches, and moves on when every record of a batch is stored or in the dead-letter file.
final class ElasticsearchSink: Sendable {
  let state: SinkState
  private let configuration: LogSinkConfiguration
  private let options: LogSinkConfiguration.ElasticsearchOutput
  private let client: BulkClient
  private let deadLetter: String
  private let logger: Logger
  private let task = Mutex<Task<Void, Never>?>(nil)
  private let wakes: AsyncStream<Void>
  private let waker: AsyncStream<Void>.Continuation

  init(
    _ state: SinkState, _ configuration: LogSinkConfiguration, _ options: LogSinkConfiguration.ElasticsearchOutput,
    client: BulkClient, deadLetter: String, logger: Logger
  ) {
    self.state = state
    self.configuration = configuration
    self.options = options
    self.client = client
    self.deadLetter = deadLetter
    self.logger = logger
    (wakes, waker) = AsyncStream.makeStream(bufferingPolicy: .bufferingNewest(1))
  }

  func wake() { waker.yield() }

  func start() {
    task.withLock { $0 = Task { await self.run() } }
  }

  /// Ends what it waits for; to be called once the phase says so.
  func cancel() { task.withLock { $0?.cancel() } }

  private func run() async {
    state.spool.wake(sink: state.name) { [waker] in waker.yield() }
    let position = state.spool.register(sink: state.name)
    await send(from: position)
    await client.shutdown()
    state.phase = .finished
  }

  private func send(from position: SpoolPosition) async {
    let reader = SpoolReader(state.spool, from: position)
    let body = BulkBody(options)
    var wakes = wakes.makeAsyncIterator()
    var oldest: Int64 = 0
    var committed = position
    while state.phase != .abandoned {
      let full = body.items.count >= configuration.batchRecords || body.arena.count >= configuration.batchBytes
      if !full, let batch = reader.next() {
        if body.items.isEmpty { oldest = Clock.monotonic() }
        collect(batch, into: body)
        continue
      }
      if !full, state.phase == .running {
        if body.items.isEmpty {
          // Nothing but records of other sources: they are passed, too.
          if reader.position != committed, commit(reader) { committed = reader.position }
          await wakes.next()
          continue
        }
        let left = configuration.batchAge.inNanoseconds - (Clock.monotonic() - oldest)
        if left > 0 {
          try? await Task.sleep(nanoseconds: UInt64(min(left, 50_000_000)))
          continue
        }
      }
      guard body.items.isEmpty ? true : await deliver(body) else { return }
      body.removeAll()
      if commit(reader) { committed = reader.position }
      if state.phase == .draining, state.spool.lag(sink: state.name) == 0 { return }
      if state.phase == .draining, !full { return }
    }
  }

  private func commit(_ reader: SpoolReader) -> Bool {
    state.meters.damaged.add(reader.takeDamaged())
    if state.spool.commit(sink: state.name, reader.position) { return true }
    state.lastError = "cannot write the sink's checkpoint: \(String(cString: strerror(errno)))"
    return false
  }

  private func collect(_ batch: SpoolBatchView, into body: BulkBody) {
    guard state.takes(batch.source) else { return }
    var view = batch
    while let record = view.next() { body.add(record, identity: view.head.identity) }
  }

  /// One round of requests over what is left of a batch.
  private struct Round {
    var left: [Int] = []
    var stored: UInt64 = 0
    var refused: [(Int, String)] = []
    var chunk: Int
    var problem: String?
  }

  /// True when every item is settled; false when the sink is to stop first.
  private func deliver(_ body: BulkBody) async -> Bool {
    var pending = Array(body.items.indices)
    var chunk = pending.count
    var attempt = 0
    var address = 0
    let began = ContinuousClock.now
    while !pending.isEmpty {
      let round = await round(body, pending, chunk: chunk, attempt: address)
      while !bury(round.refused, of: body) {
        guard await pause(.seconds(1)) else { return false }
      }
      state.meters.sent.add(round.stored)
      chunk = max(1, round.chunk)
      pending = round.left
      guard !pending.isEmpty else { break }
      if state.phase == .abandoned { return false }
      let problem = round.problem ?? "unknown"
      say(problem)
      if let giveUp = configuration.giveUp, ContinuousClock.now - began > giveUp {
        let reason = "gave up after \(DurationText.format(giveUp)): \(problem)"
        while !bury(pending.map { ($0, reason) }, of: body) {
          guard await pause(.seconds(1)) else { return false }
        }
        return true
      }
      state.meters.retried.add(UInt64(pending.count))
      address += 1
      attempt = round.stored > 0 ? 0 : attempt + 1
      let delay = RetryDelay.next(
        attempt: max(0, attempt - 1), initial: configuration.retryInitial, maximum: configuration.retryMax,
        random: Double.random(in: 0..<1))
      guard await pause(delay) else { return false }
    }
    state.lastError = nil
    return true
  }

  private func round(_ body: BulkBody, _ pending: [Int], chunk: Int, attempt: Int) async -> Round {
    var round = Round(chunk: chunk)
    var queue = pending[...]
    while !queue.isEmpty {
      let group = Array(queue.prefix(round.chunk))
      queue = queue.dropFirst(group.count)
      switch await client.send(body.bytes(of: group), attempt: attempt) {
      case .failed(let problem):
        round.problem = problem
        round.left += group + queue
        return round
      case .status(let status, let answer):
        switch BulkResponse.whole(status: status) {
        case .items: settle(group, answer, &round)
        case .again:
          round.problem = "\(status) \(String(decoding: answer.prefix(200), as: UTF8.self))"
          round.left += group + queue
          return round
        case .split where group.count > 1:
          round.chunk = group.count / 2
          queue = (group + queue)[...]
        case .split:
          round.refused.append((group[0], "\(status) \(String(decoding: answer.prefix(300), as: UTF8.self))"))
        }
      }
    }
    return round
  }

  private func settle(_ group: [Int], _ answer: [UInt8], _ round: inout Round) {
    let verdicts = answer.withUnsafeBytes {
      BulkResponse.parse($0, items: group.count, deterministicID: options.deterministicID)
    }
    guard let verdicts else {
      round.problem = "the answer is no bulk response for \(group.count) items; is the url that of the cluster?"
      round.left += group
      return
    }
    for (item, verdict) in zip(group, verdicts) {
      switch verdict {
      case .stored: round.stored += 1
      case .again(let reason):
        round.problem = reason
        round.left.append(item)
      case .refused(let reason): round.refused.append((item, reason))
      }
    }
  }

  /// Writes refused records to the dead-letter file; false when that failed.
  private func bury(_ refused: [(Int, String)], of body: BulkBody) -> Bool {
    guard !refused.isEmpty else { return true }
    let arena = ByteArena()
    for (item, reason) in refused {
      BulkResponse.deadLetter(
        reason: reason, sink: state.name, time: Clock.now(), record: body.record(item), into: arena)
    }
    let fd = open(deadLetter, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0o600)
    guard fd >= 0 else {
      say("cannot write the dead-letter file '\(deadLetter)': \(String(cString: strerror(errno)))")
      return false
    }
    defer { close(fd) }
    let before = lseek(fd, 0, SEEK_END)
    guard StateFile.writeAll(fd, arena.bytes) else {
      let code = errno
      ftruncate(fd, before)
      say("cannot write the dead-letter file '\(deadLetter)': \(String(cString: strerror(code)))")
      return false
    }
    if state.meters.deadLetters.value == 0 {
      logger.warning("log sink '\(state.name)' refused a record (\(refused[0].1)); such records go to '\(deadLetter)'")
    }
    state.meters.deadLetters.add(UInt64(refused.count))
    return true
  }

  private func say(_ problem: String) {
    if state.lastError != problem {
      if state.lastError == nil { logger.warning("log sink '\(state.name)' tries again: \(problem)") }
      state.lastError = problem
    }
  }

  /// Waits, in steps so that a stop is seen; false when the sink is to stop.
  private func pause(_ duration: Duration) async -> Bool {
    let end = ContinuousClock.now + duration
    while ContinuousClock.now < end {
      if state.phase == .abandoned { return false }
      let left = end - ContinuousClock.now
      try? await Task.sleep(for: min(left, .milliseconds(50)))
      if state.phase == .draining, duration > .milliseconds(500), left < duration - .milliseconds(500) { break }
    }
    return state.phase != .abandoned
  }
}
