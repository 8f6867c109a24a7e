import CLinux
import Glibc
import Logging
import Logs
import NIOCore
import Synchronization
import Telemetry
import Vocabulary

/// What other threads ask of the source thread.
final class SourceInbox: Sendable {
  struct Requests {
    var attach: [(stdout: CInt, stderr: CInt)] = []
    /// Treat the app's last lines as whole.
    var finishLines = false
    /// Read with these sources and transforms from the next round on.
    var configuration: LogsConfiguration?
    var stop = false
    /// With `stop`: a successor goes on at this very byte, so that nothing is taken for the last of its source.
    var handsOver = false
  }
  struct Progress {
    /// App streams that have not ended, attached or about to be.
    var open = 0
    var linesFinished = false
    /// How many configurations were taken over.
    var adopted = 0
    var stopped = false
  }

  let wake = WakeSignal()
  let requests = Mutex(Requests())
  let progress = Mutex(Progress())
}

/// The source thread: reads every source and fills the spool.
final class SourceLoop {
  private let inbox: SourceInbox
  private let context: IntakeContext
  private let checkpoints: String
  private let metrics: MetricRegistry
  private let access: AccessQueue
  private let intake: IntakeDrain
  private var appShipper: LineShipper?
  private var accessShipper: LineShipper?
  private var files: [FilesSource] = []
  private var streams: [AppStream] = []
  private var fifos: [FifoSource] = []
  private var listeners: [ListenSource] = []
  private var journals: [JournalSource] = []
  private let epoll = epoll_create1(CInt(EPOLL_CLOEXEC))
  private var held: [UInt8] = []
  private var isStopping = false
  private let accessIdentity = UInt64.random(in: 1...UInt64.max)
  private var accessOffset: UInt64 = 0
  private var accessMemory = GroupMemory()

  init(
    inbox: SourceInbox, context: IntakeContext, checkpoints: String, configuration: LogsConfiguration,
    queue: AccessQueue, intake: IntakeQueue, metrics: MetricRegistry
  ) {
    self.inbox = inbox
    self.context = context
    self.checkpoints = checkpoints
    self.metrics = metrics
    access = queue
    self.intake = IntakeDrain(intake)
    watch(inbox.wake.descriptor, edge: false)
    adopt(configuration)
  }

  /// Between two rounds: streams and files go on where they are, with new parsers, transforms and limits. Files whose
  /// globs changed are taken up again from their checkpoint.
  private func adopt(_ configuration: LogsConfiguration) {
    func shipper(_ source: LogSourceConfiguration) -> LineShipper {
      LineShipper(source, configuration.transforms, context, metrics)
    }
    appShipper = configuration.sources.first { $0.input == .app }.map(shipper)
    accessShipper = configuration.sources.first { $0.input == .access }.map(shipper)
    if let appShipper { for stream in streams { stream.shipper = appShipper } }
    for file in files { file.save() }
    let before = files
    files = configuration.sources.compactMap { source in
      guard case .files(let input) = source.input else { return nil }
      if let same = before.first(where: { $0.name == source.name && $0.input == input }) {
        same.shipper = shipper(source)
        return same
      }
      let fresh = FilesSource(
        name: source.name, input: input, shipper: shipper(source), spool: context.spool, directory: checkpoints)
      if fresh.changes >= 0 { watch(fresh.changes, edge: true) }
      return fresh
    }
    adoptOthers(configuration.sources, shipper)
    adoptJournals(configuration.sources, shipper)
  }

  private func adoptJournals(_ sources: [LogSourceConfiguration], _ shipper: (LogSourceConfiguration) -> LineShipper) {
    let wanted = sources.compactMap { source -> (LogSourceConfiguration, LogSourceConfiguration.JournalInput)? in
      guard case .journal(let input) = source.input else { return nil }
      return (source, input)
    }
    let before = journals
    // A changed one goes on at the checkpoint that the former one leaves.
    for old in before where !wanted.contains(where: { $0.0.name == old.name && $0.1 == old.input }) { old.finish() }
    journals = wanted.map { source, input in
      if let same = before.first(where: { $0.name == source.name && $0.input == input }) {
        same.shipper = shipper(source)
        return same
      }
      return JournalSource(
        name: source.name, input: input, shipper: shipper(source), context: context, directory: checkpoints,
        watch: { [epoll] in Self.watch($0, edge: true, epoll) })
    }
  }

  /// Sources whose place is the same go on; the others end, and what they had read is spooled.
  private func adoptOthers(_ sources: [LogSourceConfiguration], _ shipper: (LogSourceConfiguration) -> LineShipper) {
    let (fifosBefore, listenersBefore) = (fifos, listeners)
    let wanted = sources.compactMap { source -> (LogSourceConfiguration, LogSourceConfiguration.ListenInput)? in
      guard case .listen(let input) = source.input, !input.isHTTP else { return nil }
      return (source, input)
    }
    for old in listenersBefore where !wanted.contains(where: { $0.0.name == old.name && $0.1 == old.input }) {
      old.finish()
    }
    var served: [String: LineShipper] = [:]
    for source in sources {
      if case .listen(let input) = source.input, input.isHTTP { served[source.name] = shipper(source) }
    }
    intake.adopt(served)
    fifos = sources.compactMap { source in
      guard case .fifo(let path) = source.input else { return nil }
      if let same = fifosBefore.first(where: { $0.name == source.name && $0.path == path }) {
        same.shipper = shipper(source)
        return same
      }
      return FifoSource(
        name: source.name, path: path, shipper: shipper(source), context: context, directory: checkpoints)
    }
    listeners = wanted.map { source, input in
      if let same = listenersBefore.first(where: { $0.name == source.name && $0.input == input }) {
        same.shipper = shipper(source)
        return same
      }
      return ListenSource(
        name: source.name, input: input, shipper: shipper(source), context: context, metrics: metrics,
        tls: input.tls.map { context.tls(source.name, $0) }, loop: context.group.next(),
        watch: { [epoll] in Self.watch($0, edge: true, epoll) })
    }
  }

  deinit { close(epoll) }

  private func watch(_ descriptor: CInt, edge: Bool) { Self.watch(descriptor, edge: edge, epoll) }

  private static func watch(_ descriptor: CInt, edge: Bool, _ epoll: CInt) {
    var event = epoll_event()
    event.events = EPOLLIN.rawValue | (edge ? EPOLLET.rawValue : 0)
    event.data.fd = descriptor
    _ = epoll_ctl(epoll, EPOLL_CTL_ADD, descriptor, &event)
  }

  func run() {
    var busy = true
    var blocked = false
    var stopping: Int64 = 0
    while true {
      wait(busy ? 0 : timeout(blocked))
      let requests = inbox.requests.withLock { requests in
        defer {
          requests.attach = []
          requests.finishLines = false
          requests.configuration = nil
        }
        return requests
      }
      if let configuration = requests.configuration {
        adopt(configuration)
        inbox.progress.withLock { $0.adopted += 1 }
      }
      for pair in requests.attach { attach(pair) }
      isStopping = requests.stop && !requests.handsOver
      (busy, blocked) = round(finishing: requests.finishLines)
      if requests.finishLines { inbox.progress.withLock { $0.linesFinished = true } }
      if requests.stop, stopping == 0 { stopping = Clock.monotonic() }
      if requests.handsOver {
        for file in files { file.save() }
        access.putBack(held)
      }
      // An app that never pauses must not keep the worker: what is left stays in its pipe.
      if requests.stop, !busy || requests.handsOver || Clock.monotonic() - stopping > 500_000_000 {
        for listener in listeners { listener.finish() }
        for journal in journals { journal.finish() }
        intake.finish()
        inbox.progress.withLock { $0.stopped = true }
        return
      }
    }
  }

  private func timeout(_ blocked: Bool) -> Int32 {
    if blocked || streams.contains(where: { $0.waiting > 0 }) { return 100 }
    if files.contains(where: \.isDue) { return 10 }
    if journals.contains(where: \.isWaiting) { return 100 }
    if fifos.contains(where: \.isWaiting) || listeners.contains(where: \.isWaiting) { return 100 }
    return files.isEmpty && fifos.isEmpty && listeners.isEmpty && journals.isEmpty ? -1 : 250
  }

  private func wait(_ timeout: Int32) {
    var events = [epoll_event](repeating: epoll_event(), count: 16)
    let count = Int(epoll_wait(epoll, &events, 16, timeout))
    guard count > 0 else { return }
    inbox.wake.clear()
    if listeners.isEmpty { return }
    for event in events.prefix(count) { for listener in listeners { listener.notice(event.data.fd) } }
  }

  private func attach(_ pair: (stdout: CInt, stderr: CInt)) {
    for (descriptor, kind) in [(pair.stdout, LogStream.stdout), (pair.stderr, .stderr)] {
      guard let appShipper, descriptor >= 0,
        let stream = AppStream(descriptor, kind, shipper: appShipper, directory: checkpoints)
      else {
        if descriptor >= 0 { close(descriptor) }
        inbox.progress.withLock { $0.open -= 1 }
        continue
      }
      watch(descriptor, edge: true)
      streams.append(stream)
    }
  }

  /// Every source once; whether some have more, and whether some must wait for the spool.
  private func round(finishing: Bool) -> (busy: Bool, blocked: Bool) {
    var busy = false
    var blocked = false
    for stream in streams {
      var step = stream.step(atEnd: finishing)
      while finishing, step == .progressed { step = stream.step(atEnd: true) }
      switch step {
      case .progressed: busy = true
      case .idle: break
      case .blocked: blocked = true
      case .ended:
        _ = epoll_ctl(epoll, EPOLL_CTL_DEL, stream.descriptor, nil)
        streams.removeAll { $0 === stream }
        inbox.progress.withLock { $0.open -= 1 }
      }
    }
    for file in files where file.round(atEnd: finishing || isStopping) { busy = true }
    for fifo in fifos {
      if let fresh = fifo.open() { watch(fresh, edge: true) }
      switch fifo.step() {
      case .progressed: busy = true
      case .blocked: blocked = true
      case .idle, .ended: break
      }
    }
    for listener in listeners {
      let (more, waits) = listener.round()
      if more { busy = true }
      if waits { blocked = true }
    }
    for journal in journals {
      let (more, waits) = journal.round()
      if more { busy = true }
      if waits { blocked = true }
    }
    if intake.round() { blocked = true }
    if drainAccess() { blocked = true }
    return (busy && !blocked, blocked)
  }

  /// True when the spool would not take them.
  private func drainAccess() -> Bool {
    guard let accessShipper else { return false }
    if held.isEmpty { held = access.takeAll() }
    while !held.isEmpty {
      let safe = held.withUnsafeBytes {
        accessShipper.ship(
          $0, stream: .none, identity: accessIdentity, offset: accessOffset, final: true, &accessMemory
        ).safe
      }
      accessOffset += UInt64(safe)
      if safe < held.count {
        held.removeFirst(safe)
        return true
      }
      held = access.takeAll()
    }
    return false
  }
}
