import CLinux
import Glibc
import Logging
import Logs
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
  private var appShipper: LineShipper?
  private var accessShipper: LineShipper?
  private var files: [FilesSource] = []
  private var streams: [AppStream] = []
  private let epoll = epoll_create1(CInt(EPOLL_CLOEXEC))
  private var held: [UInt8] = []
  private let accessIdentity = UInt64.random(in: 1...UInt64.max)
  private var accessOffset: UInt64 = 0
  private var accessMemory = GroupMemory()

  init(
    inbox: SourceInbox, context: IntakeContext, checkpoints: String, configuration: LogsConfiguration,
    queue: AccessQueue, metrics: MetricRegistry
  ) {
    self.inbox = inbox
    self.context = context
    self.checkpoints = checkpoints
    self.metrics = metrics
    access = queue
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
      return FilesSource(
        name: source.name, input: input, shipper: shipper(source), spool: context.spool, directory: checkpoints)
    }
  }

  deinit { close(epoll) }

  private func watch(_ descriptor: CInt, edge: Bool) {
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
      (busy, blocked) = round(finishing: requests.finishLines)
      if requests.finishLines { inbox.progress.withLock { $0.linesFinished = true } }
      if requests.stop, stopping == 0 { stopping = Clock.monotonic() }
      // An app that never pauses must not keep the worker: what is left stays in its pipe.
      if requests.stop, !busy || Clock.monotonic() - stopping > 500_000_000 {
        inbox.progress.withLock { $0.stopped = true }
        return
      }
    }
  }

  private func timeout(_ blocked: Bool) -> Int32 {
    if blocked || streams.contains(where: { $0.waiting > 0 }) { return 100 }
    return files.isEmpty ? -1 : 250
  }

  private func wait(_ timeout: Int32) {
    var events = [epoll_event](repeating: epoll_event(), count: 16)
    if epoll_wait(epoll, &events, 16, timeout) > 0 { inbox.wake.clear() }
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
    for file in files where file.round() { busy = true }
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
