import Glibc
import Logging
import Logs
import Telemetry
import Vocabulary

/// Where a local sink puts its records.
enum LocalOutput {
  case store(StoreWriter)
  case file(FileWriter)
  case console(ConsoleWriter)
}

/// A sink on this machine, on a thread of its own, so that a terminal that stands still holds up nothing else.
final class LocalSink: Sendable {
  let state: SinkState
  let wake = WakeSignal()
  private let output: @Sendable () throws -> LocalOutput
  private let logger: Logger

  init(_ state: SinkState, logger: Logger, output: @escaping @Sendable () throws -> LocalOutput) {
    self.state = state
    self.logger = logger
    self.output = output
  }

  func run() {
    defer { state.phase = .finished }
    guard state.phase != .abandoned else { return }
    state.spool.wake(sink: state.name) { [wake] in wake.raise() }
    let reader = SpoolReader(
      state.spool, from: state.spool.register(sink: state.name), route: state.route, sources: state.sources)
    var complained: Int64 = .min
    let output: LocalOutput
    do { output = try self.output() } catch {
      state.lastError = "\(error)"
      logger.error("log sink '\(state.name)': \(error)")
      return
    }
    while state.phase != .abandoned {
      guard let batch = reader.next() else {
        if state.phase == .draining { return }
        wake.wait(milliseconds: 60_000)
        continue
      }
      while !deliver(batch, to: output) {
        let reason = state.lastError ?? "unknown"
        if complained == .min || Clock.monotonic() - complained > 60_000_000_000 {
          complained = Clock.monotonic()
          logger.error(
            "log sink '\(state.name)' cannot write: \(reason); records wait in the spool; free space or fix it")
        }
        guard state.phase == .running else { return }
        wake.wait(milliseconds: 1000)
      }
      state.count(damaged: reader.takeDamaged(), logger)
      _ = state.spool.commit(sink: state.name, reader.position)
    }
  }

  private func deliver(_ batch: SpoolBatchView, to output: LocalOutput) -> Bool {
    // Another sink's, or nothing but a note of how far sources have come.
    if batch.isEmpty { return true }
    var view = batch
    var count: UInt64 = 0
    while let record = view.next() {
      count += 1
      switch output {
      case .store(let store): store.add(record)
      case .file(let file): file.add(record)
      case .console(let console): console.add(record)
      }
    }
    let code: CInt?
    switch output {
    case .store(let store): code = store.flush(time: batch.head.time)
    case .file(let file): code = file.flush()
    case .console(let console): code = console.flush(abandoned: { [state] in state.phase == .abandoned })
    }
    guard let code else {
      state.meters.sent.add(count)
      state.lastError = nil
      return true
    }
    state.lastError = String(cString: strerror(code))
    return false
  }
}

/// The app's lines on the sidecar's own stdout and stderr, as they came or made for reading.
final class ConsoleWriter {
  private let pretty: Bool
  private let descriptors: (out: CInt, err: CInt)
  private let arena = ByteArena()
  private var runs: [(error: Bool, range: Range<Int>)] = []
  private let colours: (out: Bool, err: Bool)

  init(pretty: Bool, out: CInt = 1, err: CInt = 2) {
    self.pretty = pretty
    descriptors = (out, err)
    colours = (isatty(out) == 1, isatty(err) == 1)
  }

  func add(_ record: SpooledRecord) {
    let error = record.mark.stream == .stderr
    let start = arena.count
    if pretty {
      arena.append(text: RecordView.pretty(record.bytes, colour: error ? colours.err : colours.out))
    } else {
      RecordView.appendRaw(record.bytes, record.mark, into: arena)
    }
    arena.append(0x0A as UInt8)
    if let last = runs.last, last.error == error {
      runs[runs.count - 1].range = last.range.lowerBound..<arena.count
    } else {
      runs.append((error, start..<arena.count))
    }
  }

  /// nil when written, or when the other end is gone for good and nobody can read it.
  func flush(abandoned: () -> Bool) -> CInt? {
    defer {
      arena.removeAll()
      runs.removeAll(keepingCapacity: true)
    }
    for run in runs {
      let fd = run.error ? descriptors.err : descriptors.out
      var at = run.range.lowerBound
      while at < run.range.upperBound {
        // Ask first: the descriptor may be a blocking one.
        var state = pollfd(fd: fd, events: Int16(POLLOUT), revents: 0)
        if poll(&state, 1, 200) == 0 {
          if abandoned() { return EAGAIN }
          continue
        }
        let n = write(fd, arena.bytes.baseAddress! + at, min(4096, run.range.upperBound - at))
        if n > 0 {
          at += n
        } else if errno != EINTR, errno != EAGAIN {
          break
        }
      }
    }
    return nil
  }
}
