import Glibc
import Logging
import Logs
import Synchronization
import Telemetry
import Vocabulary

/// Reads the spool, sends batches, and moves on when every record of a batch is stored or in the dead-letter file. What
/// a request looks like and what its answer means is the format's matter; how it gets there, the transport's.
final class NetworkSink: Sendable {
  let state: SinkState
  private let configuration: LogSinkConfiguration
  private let format: any SinkFormat
  private let transport: any SinkTransport
  private let deadLetter: DeadLetterFile
  private let circuit = Mutex(SinkCircuit())
  private let logger: Logger
  private let task = Mutex<Task<Void, Never>?>(nil)
  private let flights = Mutex(Flights())
  private let wakes: AsyncStream<Void>
  private let waker: AsyncStream<Void>.Continuation

  init(
    _ state: SinkState, _ configuration: LogSinkConfiguration, format: any SinkFormat, transport: any SinkTransport,
    deadLetter: String, logger: Logger
  ) {
    self.state = state
    self.configuration = configuration
    self.format = format
    self.transport = transport
    self.deadLetter = DeadLetterFile(path: deadLetter, sink: state.name)
    self.logger = logger
    (wakes, waker) = AsyncStream.makeStream(bufferingPolicy: .bufferingNewest(1))
  }

  func wake() { waker.yield() }

  func start() {
    task.withLock { $0 = Task { await self.run() } }
  }

  /// Ends what it waits for; to be called once the phase says so.
  func cancel() {
    task.withLock { $0?.cancel() }
    flights.withLock { for flight in $0.flying.values { flight.task.cancel() } }
  }

  private func run() async {
    state.spool.wake(sink: state.name) { [waker] in waker.yield() }
    let position = state.spool.register(sink: state.name)
    let replays = Task { [deadLetter, waker] in
      while (try? await Task.sleep(for: .seconds(1))) != nil {
        if deadLetter.hasReplay { waker.yield() }
      }
    }
    await send(from: position)
    replays.cancel()
    await transport.shutdown()
    state.phase = .finished
  }

  /// Batches in flight at once; one where the receiver's order is that of arrival.
  private var width: Int { format.keepsOrder ? 1 : configuration.concurrency }

  private func send(from position: SpoolPosition) async {
    let reader = SpoolReader(state.spool, from: position, route: state.route, sources: state.sources)
    var batch = SinkBatch()
    var wakes = wakes.makeAsyncIterator()
    var oldest: Int64 = 0
    var committed = position
    /// Where the spool stands behind each batch in flight, oldest first.
    var ends: [SpoolPosition] = []
    while state.phase != .abandoned {
      let full = batch.items.count >= configuration.batchRecords || batch.bytes >= configuration.batchBytes
      if !full, let next = reader.next() {
        if batch.items.isEmpty { oldest = Clock.monotonic() }
        collect(next, reader, into: batch)
        continue
      }
      if !full, state.phase == .running {
        if batch.items.isEmpty, !hasLanded {
          // Nothing but records of other sources: they are passed, too.
          if ends.isEmpty {
            if reader.position != committed, commit(reader.position) { committed = reader.position }
            guard await replay() else { return }
            reader.rest()
          }
          await wakes.next()
          continue
        }
        let left = configuration.batchAge.inNanoseconds - (Clock.monotonic() - oldest)
        if !batch.items.isEmpty, left > 0 {
          try? await Task.sleep(nanoseconds: UInt64(min(left, 50_000_000)))
          continue
        }
      }
      state.count(damaged: reader.takeDamaged(), logger)
      if width == 1 {
        guard batch.items.isEmpty ? true : await deliver(batch) else { return }
        reader.giveBack(batch.removeAll())
        if commit(reader.position) { committed = reader.position }
      } else {
        if !batch.items.isEmpty {
          launch(batch)
          ends.append(reader.position)
          batch = SinkBatch()
        }
        while !ends.isEmpty, hasLanded || ends.count >= width || state.phase != .running {
          guard await land() else { return }
          let end = ends.removeFirst()
          if commit(end) { committed = end }
        }
        if !ends.isEmpty { continue }
        if commit(reader.position) { committed = reader.position }
      }
      if state.phase == .draining, state.spool.lag(sink: state.name) == 0 { return }
      if state.phase == .draining, !full { return }
    }
  }

  /// Sends the dead letters that somebody asked for, while nothing else waits; false when the sink is to stop first.
  private func replay() async -> Bool {
    guard let letters = DeadLetterReplay(of: deadLetter.path) else { return true }
    let batch = SinkBatch()
    var damaged: UInt64 = 0
    var count = 0
    while letters.fill(
      batch, bytes: configuration.batchBytes, records: configuration.batchRecords, damaged: &damaged)
    {
      // The file stays, for the next run.
      if state.phase != .running { return true }
      guard await deliver(batch) else { return false }
      count += batch.items.count
      batch.removeAll()
    }
    letters.remove()
    state.meters.damaged.add(damaged)
    let broken = damaged > 0 ? ", \(damaged) lines were no dead letters" : ""
    logger.info("log sink '\(state.name)' sent \(count) dead letters again\(broken)")
    return true
  }

  /// Batches on their way, by number in the order of the spool.
  private struct Flights {
    var flying: [Int: Flight] = [:]
    var oldest = 0
    var next = 0
  }

  private struct Flight {
    var task: Task<Bool, Never>
    var hasLanded = false
  }

  private func launch(_ batch: SinkBatch) {
    // The caller lets go of the batch: from here on it is the flight's alone.
    nonisolated(unsafe) let batch = batch
    flights.withLock { flights in
      let number = flights.next
      flights.next += 1
      let task = Task {
        let isSettled = await self.deliver(batch)
        self.flights.withLock { $0.flying[number]?.hasLanded = true }
        self.waker.yield()
        return isSettled
      }
      flights.flying[number] = Flight(task: task)
      if state.phase == .abandoned { task.cancel() }
    }
  }

  /// Whether the oldest flight is over.
  private var hasLanded: Bool { flights.withLock { $0.flying[$0.oldest]?.hasLanded ?? false } }

  /// The end of the oldest flight.
  private func land() async -> Bool {
    guard let task = flights.withLock({ $0.flying[$0.oldest]?.task }) else { return true }
    let isSettled = await task.value
    flights.withLock { flights in
      flights.flying[flights.oldest] = nil
      flights.oldest += 1
    }
    return isSettled
  }

  private func commit(_ position: SpoolPosition) -> Bool {
    if state.spool.commit(sink: state.name, position) { return true }
    state.lastError = "cannot write the sink's checkpoint: \(String(cString: strerror(errno)))"
    return false
  }

  /// Octets of a batch whose memory is kept in place of copies of its records.
  private static let worthKeeping = 16 << 10

  private func collect(_ view: SpoolBatchView, _ reader: SpoolReader, into batch: SinkBatch) {
    var view = view
    guard var record = view.next() else { return }
    let source = batch.index(ofSource: view.source)
    // Memory that is much larger than what is taken of it is not kept.
    let copies = view.filter != nil || view.head.payload < Self.worthKeeping
    if !copies { batch.hold(reader.takeMemory()) }
    while true {
      if copies {
        batch.add(copyOf: record, source: source, identity: view.head.identity)
      } else {
        batch.add(record, source: source, identity: view.head.identity)
      }
      guard let next = view.next() else { return }
      record = next
    }
  }

  /// One round of requests over what is left of a batch.
  private struct Round {
    var left: [Int] = []
    var stored: UInt64 = 0
    var refused: [(Int, String)] = []
    var chunk: Int
    var problem: String?
    /// The server took nothing of a whole request: 0, or the wait that it asked for.
    var down: Duration?
    var halt: String?
  }

  /// True when every item is settled; false when the sink is to stop first.
  private func deliver(_ batch: SinkBatch) async -> Bool {
    var pending = Array(batch.items.indices)
    var chunk = min(pending.count, configuration.batchRecords)
    var attempt = 0
    var address = 0
    let began = ContinuousClock.now
    while !pending.isEmpty {
      guard await enter() else { return false }
      let round = await round(batch, pending, chunk: chunk, attempt: address)
      leave(round)
      guard await bury(round.refused, of: batch) else { return false }
      state.meters.sent.add(round.stored)
      chunk = max(1, round.chunk)
      pending = round.left
      guard !pending.isEmpty else { break }
      if state.phase == .abandoned { return false }
      if let halt = round.halt {
        guard await stand(halt) else { return false }
        continue
      }
      let problem = round.problem ?? "unknown"
      say(problem)
      if let giveUp = configuration.giveUp, ContinuousClock.now - began > giveUp {
        let reason = "gave up after \(DurationText.format(giveUp)): \(problem)"
        return await bury(pending.map { ($0, reason) }, of: batch)
      }
      state.meters.requests?.retried.add(UInt64(pending.count))
      address += 1
      attempt = round.stored > 0 ? 0 : attempt + 1
      if round.down == nil {
        guard await pause(delay(attempt: attempt - 1)) else { return false }
      }
    }
    state.lastError = nil
    return true
  }

  private func delay(attempt: Int) -> Duration {
    RetryDelay.next(
      attempt: max(0, attempt), initial: configuration.retryInitial, maximum: configuration.retryMax,
      random: Double.random(in: 0..<1))
  }

  /// Waits until the circuit lets a request through; false when the sink is to stop.
  private func enter() async -> Bool {
    while let wait = circuit.withLock({ $0.enter(at: Clock.monotonic()) }) {
      guard await pause(.nanoseconds(wait)) else { return false }
      // At the end of a run there is no time for long waits.
      if state.phase == .draining { return true }
    }
    return true
  }

  private func leave(_ round: Round) {
    let now = Clock.monotonic()
    let failures = circuit.withLock { circuit in
      guard let asked = round.down else {
        circuit.succeeded()
        return 0
      }
      let wait = max(asked, delay(attempt: circuit.failures))
      circuit.failed(at: now, wait: wait.inNanoseconds)
      return circuit.failures
    }
    state.meters.requests?.circuit.set(failures > 0 ? 1 : 0)
  }

  /// Says loudly that the server will take nothing; waits for another credential. False when the sink is to stop.
  private func stand(_ problem: String) async -> Bool {
    let shown = transport.credentials()
    let line = "stopped: \(problem)"
    if state.lastError != line {
      logger.error(
        "log sink '\(state.name)' has stopped: \(problem); its records wait in the spool until that is changed")
    }
    state.lastError = line
    while transport.credentials() == shown {
      guard await pause(.milliseconds(500)), state.phase == .running else { return false }
    }
    return true
  }

  private func round(_ batch: SinkBatch, _ pending: [Int], chunk: Int, attempt: Int) async -> Round {
    var round = Round(chunk: chunk)
    var queue = pending[...]
    while !queue.isEmpty {
      let group = Array(queue.prefix(round.chunk))
      queue = queue.dropFirst(group.count)
      let body = format.encode(batch, group)
      let began = Clock.monotonic()
      let answer = await transport.send(body, items: group.count, attempt: attempt)
      state.meters.requests?.latency.record(UInt64(max(0, Clock.monotonic() - began)))
      state.meters.requests?.bytes.add(UInt64(body.count))
      switch format.judge(answer, items: group.count) {
      case .stored: round.stored += UInt64(group.count)
      case .items(let verdicts): settle(group, verdicts, &round)
      case .again(let problem, let after):
        round.problem = problem
        round.down = after ?? .zero
        round.left += group + queue
        return round
      case .halt(let problem):
        round.halt = problem
        round.left += group + queue
        return round
      case .split where group.count > 1:
        round.chunk = group.count / 2
        queue = (group + queue)[...]
      case .split(let reason): round.refused.append((group[0], reason))
      case .refused(let reason): round.refused += group.map { ($0, reason) }
      }
    }
    return round
  }

  private func settle(_ group: [Int], _ verdicts: [BulkVerdict], _ round: inout Round) {
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

  /// Writes refused records to the dead-letter file, for as long as it takes; false when the sink is to stop first.
  private func bury(_ refused: [(Int, String)], of batch: SinkBatch) async -> Bool {
    guard !refused.isEmpty else { return true }
    while let problem = deadLetter.append(refused.map { (batch.record($0.0), $0.1) }) {
      say(problem)
      guard await pause(.seconds(1)) else { return false }
    }
    if state.status.deadLetters == 0 {
      logger.warning(
        "log sink '\(state.name)' refused a record (\(refused[0].1)); such records go to '\(deadLetter.path)'")
    }
    state.meters.requests?.deadLetters.add(UInt64(refused.count))
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
