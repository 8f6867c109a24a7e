import CLinux
import Glibc
import Logging
import Logs
import Vocabulary

/// Reads systemd's journal through `journalctl`, which follows it and tells entries in the export format. Owned by the
/// source thread.
///
/// The position is the cursor of the last entry that the spool has, in `checkpoints/journal.NAME`, with the identity and
/// offset under which it stands there: entries that are read again after a kill get the same ids.
final class JournalSource {
  private static let readSize = 64 << 10
  /// Records that wait for the spool; beyond it nothing is read.
  private static let waitingLimit = 1 << 20

  let name: String
  let input: LogSourceConfiguration.JournalInput
  /// Changes between two rounds, with the configuration.
  var shipper: LineShipper
  private let context: IntakeContext
  private let path: String
  private let watch: (CInt) -> Void
  private var reader = JournalReader()
  private let buffer = ByteArena(capacity: 4096)
  private let records = ByteArena(capacity: 4096)
  private var entries: [JournalReader.Entry] = []
  private var child: pid_t = 0
  private var descriptor: CInt = -1
  private var identity: UInt64
  private var offset: UInt64 = 0
  /// What `journalctl` is told to begin behind: a cursor, or `@SECONDS`; nil = from the beginning.
  private var position: String?
  private var saved: String?
  private var savedAt: Int64 = .min
  private var triedAt: Int64 = .min
  private var toldAt: Int64 = .min
  private var failures = 0

  init(
    name: String, input: LogSourceConfiguration.JournalInput, shipper: LineShipper, context: IntakeContext,
    directory: String, watch: @escaping (CInt) -> Void
  ) {
    self.name = name
    self.input = input
    self.shipper = shipper
    self.context = context
    self.watch = watch
    path = "\(directory)/journal.\(name)"
    identity = UInt64.random(in: 1...UInt64.max)
    let words = StateFile.contents(path, limit: 4096).map { String(decoding: $0, as: UTF8.self).split(separator: " ") }
    if let words, words.count == 3, let identity = UInt64(words[0]), let offset = UInt64(words[1]) {
      self.identity = identity
      self.offset = offset
      position = String(words[2])
    } else if !input.fromBeginning {
      position = "@\(Clock.now() / 1_000_000_000)"
    }
  }

  deinit { end() }

  /// Time must pass before there is something to do.
  var isWaiting: Bool { child == 0 || !entries.isEmpty || saved != position }

  /// One look. `busy`: there is more to read at once.
  func round() -> (busy: Bool, blocked: Bool) {
    guard child != 0 || begin() else { return (false, false) }
    var isMore = false
    var failure: String?
    if records.count >= Self.waitingLimit {
      // The pipe is full, too, and will not tell of it again.
      isMore = true
    } else {
      buffer.removeAll()
      let n = read(descriptor, buffer.reserve(Self.readSize), Self.readSize)
      if n > 0 {
        buffer.advance(n)
        reader.feed(buffer.bytes, into: records, entries: &entries)
        isMore = true
        failures = 0
        if reader.isBroken { failure = "what `journalctl` tells is not in the export format" }
      } else if n == 0 {
        failure = "`journalctl` has ended; its own message stands above"
      } else if errno != EAGAIN, errno != EINTR {
        failure = String(cString: strerror(errno))
      }
    }
    let isBlocked = !ship()
    save(isDue: false)
    if let failure { fail(failure) }
    return (isMore && !isBlocked, isBlocked)
  }

  /// The position is kept and the child ends.
  func finish() {
    _ = ship()
    save(isDue: true)
    end()
  }

  private func ship() -> Bool {
    guard let last = entries.last else { return true }
    let frames = entries.map { LineShipper.Frame(text: $0.object, end: $0.object.upperBound + 1, time: $0.time) }
    let shipped = shipper.ship(frames, of: records.bytes, identity: identity, offset: offset)
    let taken = shipped.isBlocked ? entries.lastIndex { $0.object.upperBound < shipped.safe } : entries.indices.last
    offset += UInt64(shipped.safe)
    if let taken {
      if !entries[taken].cursor.isEmpty { position = entries[taken].cursor }
      entries.removeFirst(taken + 1)
      for index in entries.indices {
        let object = entries[index].object
        entries[index].object = object.lowerBound - shipped.safe..<object.upperBound - shipped.safe
      }
    }
    records.removeFirst(shipped.isBlocked ? shipped.safe : last.object.upperBound + 1)
    if records.count == 0 { records.release(above: 256 << 10) }
    return !shipped.isBlocked
  }

  private func save(isDue: Bool) {
    guard saved != position, let position else { return }
    let now = Clock.monotonic()
    guard isDue || savedAt == .min || now - savedAt > 250_000_000 else { return }
    savedAt = now
    if StateFile.replace(path, "\(identity) \(offset) \(position)") { saved = position }
  }

  // MARK: the child

  private func begin() -> Bool {
    let now = Clock.monotonic()
    let wait = min(30, 1 << min(failures, 5)) * 1_000_000_000
    guard triedAt == .min || failures == 0 || now - triedAt > Int64(wait) else { return false }
    triedAt = now
    reader = JournalReader()
    var ends: [CInt] = [-1, -1]
    // Ours does not wait; the child's does.
    guard outrider_app_pipe(&ends, 256 << 10) == 0 else {
      fail(String(cString: strerror(errno)))
      return false
    }
    let error = spawn(ends[1])
    close(ends[1])
    guard error == 0 else {
      close(ends[0])
      fail("`journalctl` cannot be started: \(String(cString: strerror(error)))")
      return false
    }
    descriptor = ends[0]
    watch(descriptor)
    context.logger.info("source '\(name)' reads the journal")
    save(isDue: true)
    return true
  }

  private var arguments: [String] {
    var all = ["journalctl", "--output=export", "--follow", "--no-pager", "--lines=all", "--quiet"]
    if let directory = input.directory { all.append("--directory=\(directory)") }
    if let position {
      all.append(position.hasPrefix("@") ? "--since=\(position)" : "--after-cursor=\(position)")
    }
    all += input.units.map { "--unit=\($0)" }
    return all + input.matches
  }

  private func spawn(_ output: CInt) -> CInt {
    var arguments: [UnsafeMutablePointer<CChar>?] = arguments.map { strdup($0) } + [nil]
    defer { for argument in arguments { free(argument) } }
    var attributes = posix_spawnattr_t()
    posix_spawnattr_init(&attributes)
    defer { posix_spawnattr_destroy(&attributes) }
    var signals = sigset_t()
    sigemptyset(&signals)
    posix_spawnattr_setsigmask(&attributes, &signals)
    sigfillset(&signals)
    posix_spawnattr_setsigdefault(&attributes, &signals)
    posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF))
    var files = posix_spawn_file_actions_t()
    posix_spawn_file_actions_init(&files)
    defer { posix_spawn_file_actions_destroy(&files) }
    posix_spawn_file_actions_addopen(&files, 0, "/dev/null", O_RDONLY, 0)
    posix_spawn_file_actions_adddup2(&files, output, 1)
    return posix_spawnp(&child, "journalctl", &files, &attributes, &arguments, environ)
  }

  /// Ends the child, says why, and lets a while pass before the next.
  private func fail(_ reason: String) {
    end()
    // What is not in the spool is read again.
    entries = []
    records.removeAll()
    failures += 1
    let now = Clock.monotonic()
    guard toldAt == .min || now - toldAt > 60_000_000_000 else { return }
    toldAt = now
    context.logger.error(
      "source '\(name)' cannot read the journal: \(reason); it tries again; check that systemd's journalctl is there and may read it"
    )
  }

  private func end() {
    if descriptor >= 0 { close(descriptor) }
    descriptor = -1
    guard child > 0 else { return }
    kill(child, SIGKILL)
    while waitpid(child, nil, 0) < 0, errno == EINTR {}
    child = 0
  }
}
