import CLinux
import Glibc
import Logging
import Secrets
import Synchronization
import Telemetry
import Vocabulary

/// Publishes secrets into shared memory: anonymous memory that the app inherits or gets over the socket, and a file when
/// a path is configured. Outlives reloads; a new segment takes the place of one that has become too small.
final class SharedMemoryDelivery: Sendable {
  /// The memory that readers get, as a duplicate that is the caller's.
  struct Handle: Sendable {
    var descriptor: CInt
    var length: Int
    var generation: UInt64
  }

  private struct State {
    var configuration: SharedMemoryConfiguration?
    var anonymous: SharedMemorySegment?
    var file: SharedMemorySegment?
    /// Where `file` stands.
    var path: String?
    var flags: SharedMemoryLayout.Flags = []
    var records: [SharedMemoryLayout.Record] = []
  }

  // Segments are touched under the lock only.
  private let state = Mutex(State())
  private let book: SecretBook
  private let logger: Logger
  private let publications: Counter

  init(book: SecretBook, metrics: MetricRegistry, logger: Logger) {
    self.book = book
    self.logger = logger
    publications = metrics.counter(
      "outrider_secret_publications_total", "Publications of secrets into shared memory.")
  }

  /// Takes a configuration over, `path` absolute; nil closes what is published.
  func apply(_ configuration: SharedMemoryConfiguration?, stale: Bool) throws(FileFailure) {
    let owner = try configuration?.owner.map(Account.user)
    try state.withLock { (state) throws(FileFailure) in
      if let path = state.path, path != configuration?.path { Self.closeFile(&state) }
      state.configuration = configuration
      guard let configuration else {
        _ = state.anonymous?.publish([], .closed, milliseconds: SystemTime.milliseconds)
        state.anonymous = nil
        state.records = []
        return
      }
      if let path = configuration.path, state.path != path {
        let directory = PlainFile.parent(of: path)
        if outrider_is_memory_file_system(directory) == 0 {
          logger.warning(
            "secrets.shared_memory.path: \(directory) is on a disk; a directory in /dev/shm or /run is not")
        }
        SharedMemorySegment.closeLeftover(at: path, owner: owner ?? geteuid())
      }
      try publish(&state, stale: stale, owner: owner, isForced: true)
    }
  }

  /// Publishes when a value, its version or expiry, or the state of a value has changed.
  func update(stale: Bool) {
    do throws(FileFailure) {
      try state.withLock { (state) throws(FileFailure) in
        guard state.configuration != nil else { return }
        let owner = try state.configuration?.owner.map(Account.user)
        try publish(&state, stale: stale, owner: owner, isForced: false)
      }
    } catch {
      logger.error("secrets.shared_memory: \(error)")
    }
  }

  /// Tells readers that nothing comes any more, zeroes what is there and removes the file.
  func close() {
    state.withLock { (state) in
      _ = state.anonymous?.publish([], .closed, milliseconds: SystemTime.milliseconds)
      state.anonymous = nil
      state.configuration = nil
      state.records = []
      Self.closeFile(&state)
    }
  }

  /// A successor publishes from here on: readers of the anonymous memory, which only this process can write, are told
  /// to get the new one. The file is the successor's.
  func leave() {
    state.withLock { state in
      _ = state.anonymous?.publish([], .closed, milliseconds: SystemTime.milliseconds)
      _ = state.file?.publish([], .closed, milliseconds: SystemTime.milliseconds)
      state = State()
    }
  }

  /// Nil when shared memory is not configured.
  func handle() -> Handle? {
    state.withLock { state in
      guard let segment = state.anonymous else { return nil }
      let copy = fcntl(segment.descriptor, F_DUPFD_CLOEXEC, 3)
      return copy < 0 ? nil : Handle(descriptor: copy, length: segment.length, generation: segment.generation)
    }
  }

  var path: String? { state.withLock { $0.path } }

  private func publish(
    _ state: inout State, stale: Bool, owner: uid_t?, isForced: Bool
  ) throws(FileFailure) {
    guard let configuration = state.configuration else { return }
    let (records, isWhole) = records(of: configuration.values)
    var flags: SharedMemoryLayout.Flags = isWhole ? .ready : []
    if stale { flags.insert(.stale) }
    let isSame = records.elementsEqual(state.records) { $0.isSame(as: $1) }
    if isSame, flags == state.flags, !isForced { return }
    let now = SystemTime.milliseconds
    let length = SharedMemoryLayout.segmentLength(for: records)
    guard length <= SharedMemoryLayout.limit else {
      throw FileFailure("the secrets of `secrets.shared_memory.values` do not fit in 64 MiB; name fewer")
    }
    if let segment = state.anonymous, segment.publish(records, flags, milliseconds: now) {
    } else {
      if state.anonymous?.publish([], .closed, milliseconds: now) == true {
        logger.warning("secrets.shared_memory: the values have outgrown the memory; readers must get the new one")
      }
      let segment = try SharedMemorySegment.anonymous(length: length)
      _ = segment.publish(records, flags, milliseconds: now)
      state.anonymous = segment
    }
    if let path = configuration.path {
      if state.path == path, let segment = state.file, PlainFile.signature(path) != nil,
        segment.publish(records, flags, milliseconds: now)
      {
      } else {
        let (segment, temporary) = try SharedMemorySegment.file(at: path, length: length, owner: owner)
        _ = segment.publish(records, flags, milliseconds: now)
        guard rename(temporary, path) == 0 else {
          let code = errno
          unlink(temporary)
          throw .system("write", path, code)
        }
        _ = state.file?.publish([], .closed, milliseconds: now)
        state.file = segment
        state.path = path
      }
    }
    state.records = records
    state.flags = flags
    publications.add()
  }

  /// One record a field, by name; false when a secret is not there.
  private func records(of names: [String]) -> ([SharedMemoryLayout.Record], Bool) {
    var records: [SharedMemoryLayout.Record] = []
    var isWhole = true
    for name in names {
      guard let fields = book.fields(name) else {
        isWhole = false
        continue
      }
      let expires = UInt64(max(0, book.expires(name) ?? 0)) * 1000
      let version = book.version(name).flatMap { UInt64($0) } ?? 0
      for (field, value) in fields.sorted(by: { $0.key < $1.key }) {
        records.append(.init(name: "\(name).\(field)", value: value, expires: expires, version: version))
      }
    }
    return (records, isWhole)
  }

  private static func closeFile(_ state: inout State) {
    _ = state.file?.publish([], .closed, milliseconds: SystemTime.milliseconds)
    if let path = state.path { unlink(path) }
    state.file = nil
    state.path = nil
  }
}

extension SharedMemoryLayout.Record {
  fileprivate func isSame(as other: Self) -> Bool {
    name == other.name && expires == other.expires && version == other.version
      && (value === other.value || value == other.value)
  }
}

extension SystemTime {
  /// Milliseconds since 1970.
  static var milliseconds: UInt64 {
    var time = timespec()
    clock_gettime(CLOCK_REALTIME, &time)
    return UInt64(time.tv_sec) * 1000 + UInt64(time.tv_nsec / 1_000_000)
  }
}
